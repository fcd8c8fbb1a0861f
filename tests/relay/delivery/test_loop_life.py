"""relay.loop: wake-ups, heartbeat, leases, and how it ends."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
import redis.asyncio
from django.conf import settings

from accounts.models import Organization
from relay.loop import Pace
from relay.loop_thread import LoopThread
from relay.models import DeliveryAttempt, Recipient, Worker
from tests.relay.delivery.running import (
    ABC,
    QUICK,
    all_attempted,
    all_settled,
    amake_message,
    attempts,
    delivering,
    due_now,
    eventually,
    recipients,
    smarthost,
)
from tests.relay.delivery.scripted_server import HANG, ScriptedServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]


async def test_a_wake_up_shortens_the_wait(alice_org: Organization) -> None:
    """With a minute between claims, a message is delivered as soon as Redis tells of it."""
    async with delivering(Pace(claim=60)) as delivery:

        async def listening() -> bool:
            return delivery.figures["redis_up"] == 1

        await eventually(listening)
        await amake_message(alice_org)
        client = redis.asyncio.from_url(settings.REDIS_URL)

        async def settled() -> bool:
            await client.publish("gatepost:queued", "1")
            return not await Recipient.objects.filter(state="queued").aexists()

        await eventually(settled, seconds=10)
        await client.aclose()


async def test_without_a_wake_up_it_claims_by_itself(alice_org: Organization) -> None:
    """Nobody tells it: the message is delivered within the pace of the claims."""
    async with delivering(Pace(claim=0.2)):
        await amake_message(alice_org)
        await all_settled()


async def test_held_mail_is_released_when_there_is_room(alice_org: Organization) -> None:
    """The loop's sweep releases what fits the plan, and delivers it."""
    await amake_message(alice_org, state="held")
    async with delivering() as delivery:
        await all_settled()
        assert delivery.figures["released"] == 1
    assert (await recipients())["you@example.net"].state == "delivered"


async def test_the_heartbeat(
    alice_org: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> None:
    """The row tells what was done, the ready file appears, and both say so only while the loop runs."""
    ready = tmp_path / "ready"
    monkeypatch.setenv("GATEPOST_READY_FILE", str(ready))
    await amake_message(alice_org, recipients=ABC)
    async with delivering():

        async def told() -> bool:
            row = await Worker.objects.filter(name="delivery@test:1", kind="delivery").afirst()
            return row is not None and row.figures.get("delivered") == 3

        await eventually(told)
        assert ready.exists()
    assert not await Worker.objects.aexists()


async def test_a_stop_lets_attempts_end(alice_org: Organization) -> None:
    """An attempt in flight is finished and written down before the loop ends; nothing new is begun."""
    await amake_message(alice_org, route="smarthost")
    go = asyncio.Event()

    async def when_told() -> str:
        await go.wait()
        return "250 Ok"

    async with ScriptedServer({"DOT": when_told}) as server:
        with smarthost(server):
            async with delivering() as delivery:
                await asyncio.wait_for(server.dotted.wait(), 10)
                delivery.stop()
                await amake_message(alice_org, recipients=["late@example.net"])
                go.set()
    found = await recipients()
    assert (found["you@example.net"].state, found["late@example.net"].state) == ("delivered", "queued")


async def test_a_stop_gives_back_what_was_not_offered(alice_org: Organization) -> None:
    """An attempt that hangs before the final dot is undone: due at once, not counted, without an attempt row."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer({"DATA": HANG}) as server:
        with smarthost(server):
            async with delivering(Pace(finish=0.1)):
                await eventually(lambda: _said(server, "DATA"))
    (recipient,) = (await recipients()).values()
    assert (recipient.state, recipient.lease, recipient.attempts) == ("queued", None, 0)
    assert not await DeliveryAttempt.objects.aexists()


async def _said(server: ScriptedServer, command: str) -> bool:
    return command in server.commands


async def test_no_final_dot_after_45_seconds_without_renewal(alice_org: Organization) -> None:
    """A worker that cannot know whether its lease is its own sends no final dot, and undoes the attempt."""
    await amake_message(alice_org, route="smarthost")

    async def time_passes() -> str:
        for lease in delivery._ledger._renewed:
            delivery._ledger._renewed[lease] -= 46
        return "354 Go on"

    async with ScriptedServer({"DATA": [time_passes, "354 Go on"]}) as server:
        with smarthost(server):
            async with delivering() as delivery:
                await all_settled()
                assert delivery.figures["leases_lost"] == 1
    assert (server.commands.count("DATA"), len(server.taken)) == (2, 1)
    assert [(row.number, row.outcome) for row in await attempts()] == [(1, "delivered")]


async def test_no_final_dot_when_another_has_the_lease(alice_org: Organization) -> None:
    """The database says so before the dot: the message is left to the other, untouched."""
    await amake_message(alice_org, route="smarthost")
    other = uuid4()

    async def another_takes_it() -> str:
        await Recipient.objects.aupdate(lease=other)
        return "354 Go on"

    async with ScriptedServer({"DATA": another_takes_it}) as server:
        with smarthost(server):
            async with delivering() as delivery:

                async def noticed() -> bool:
                    return delivery.figures["leases_lost"] == 1

                await eventually(noticed)
        assert not server.taken
    (recipient,) = (await recipients()).values()
    assert (recipient.lease, recipient.settled_at) == (other, None)


async def test_an_error_of_ours_does_not_end_the_loop(alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mail is tried again and its row names the class; the loop goes on with the next."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer() as server:
        with smarthost(server):
            async with delivering() as delivery:
                with monkeypatch.context() as patched:
                    patched.setattr("relay.delivery.routes.smarthost", lambda **_: 1 / 0)
                    await all_attempted()
                assert (await recipients())["you@example.net"].reply == "Internal error (ZeroDivisionError)."
                assert delivery.figures["errors"] == 1
                await due_now()
                await all_settled()


async def test_in_a_thread(alice_org: Organization) -> None:
    """As in a Celery worker: starts, delivers, and stops from another thread."""
    await amake_message(alice_org)
    running = LoopThread(pace=QUICK)
    running.start()
    await all_settled()
    await asyncio.to_thread(running.stop)
    assert not running._thread.is_alive()


async def test_a_thread_that_is_stopped_at_once() -> None:
    """Stopping what has hardly begun ends it all the same."""
    running = LoopThread(pace=QUICK)
    running.start()
    await asyncio.to_thread(running.stop)
    assert not running._thread.is_alive()
