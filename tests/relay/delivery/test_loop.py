"""relay.loop and relay.delivery: from a row in the queue to a message at the next hop."""

import asyncio
import base64
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio
from django.conf import settings
from django.utils import timezone

from accounts.models import Organization
from relay.loop import LoopThread, Pace
from relay.models import DeliveryAttempt, MessageData, OrganizationRoute, Recipient, Worker
from relay.smtp.client import Timeouts
from tests.relay.delivery.running import (
    QUICK,
    all_attempted,
    all_settled,
    amake_message,
    attempts,
    delivering,
    eventually,
    recipients,
    smarthost,
)
from tests.relay.delivery.scripted_server import DROP, FEATURES, HANG, ScriptedServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]
ABC = ("a@example.net", "b@example.net", "c@example.net")


async def due_now() -> None:
    await Recipient.objects.filter(state="queued").aupdate(due_at=timezone.now())


# --- Routes -----------------------------------------------------------------------------------------------------------


async def test_the_sandbox_keeps_mail(alice_org: Organization) -> None:
    """Each recipient is delivered without a connection, and the page's words are in its reply."""
    await amake_message(alice_org, recipients=ABC)
    async with delivering():
        await all_settled()
    for recipient in (await recipients()).values():
        assert (recipient.state, recipient.reply) == ("delivered", "250 2.0.0 Captured. Nothing left Gatepost.")
    assert [(row.outcome, row.next_hop, row.reached_final_dot) for row in await attempts()] == [
        ("delivered", "sandbox", False)
    ] * 3


async def test_the_smarthost_gets_the_mail_to_the_byte(alice_org: Organization) -> None:
    """Envelope and a content of 10 MB with dots and 8-bit octets arrive as stored, in one transaction."""
    content = b"Subject: x\r\n\r\n.\r\n..\xe4\r\n" + base64.encodebytes(os.urandom(7_500_000)).replace(b"\n", b"\r\n")
    message = await amake_message(alice_org, recipients=ABC, route="smarthost", content=content)
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_settled()
    (taken,) = server.taken
    assert taken.content == content == bytes((await MessageData.objects.aget(message=message)).content)
    assert taken.recipients == list(ABC) and taken.mail.startswith("MAIL FROM:<app@alice.example>")
    row = (await attempts())[0]
    assert (row.outcome, row.code, row.enhanced_code, row.text) == ("delivered", 250, "2.0.0", "Queued")
    assert (row.next_hop, row.next_hop_ip, row.reached_final_dot) == (f"127.0.0.1:{server.port}", "127.0.0.1", True)
    assert row.worker == "delivery@test:1"


async def test_an_organizations_own_smarthost(alice_org: Organization) -> None:
    """It gets that organization's mail, and never the installation's login."""
    async with ScriptedServer(features=("AUTH PLAIN",)) as server, ScriptedServer() as other, delivering():
        with smarthost(other, GATEPOST_SMARTHOST_USERNAME="u", GATEPOST_SMARTHOST_PASSWORD="p"):
            await OrganizationRoute.objects.acreate(
                organization=alice_org, route="smarthost", smarthost="127.0.0.1", smarthost_port=server.port
            )
            await amake_message(alice_org, route="smarthost")
            await all_settled()
    assert len(server.taken) == 1 and not other.commands
    assert not any(command.startswith("AUTH") for command in server.commands)


async def test_a_route_that_is_not_configured(alice_org: Organization) -> None:
    """Mail for a smarthost that nobody has named waits, and says why."""
    await amake_message(alice_org, route="smarthost")
    async with delivering():
        await all_attempted()
    (recipient,) = (await recipients()).values()
    assert recipient.state == "queued"
    assert recipient.reply == "The route is smarthost, but GATEPOST_SMARTHOST is not set."


# --- Refusals ---------------------------------------------------------------------------------------------------------


async def test_later_and_then_yes(alice_org: Organization) -> None:
    """A 4xx waits for its time; the next attempt delivers, and both are written down."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer({"RCPT": ["451 4.2.0 Greylisted", "250 Ok"]}) as server, delivering():
        with smarthost(server):
            await all_attempted()
            assert (await recipients())["you@example.net"].reply == "451 4.2.0 Greylisted"
            await due_now()
            await all_settled()
    assert [(row.number, row.outcome, row.code) for row in await attempts()] == [
        (1, "deferred", 451),
        (2, "delivered", 250),
    ]
    assert (await recipients())["you@example.net"].state == "delivered"


async def test_one_of_three_is_refused_for_good(alice_org: Organization) -> None:
    """That one fails at once with the next hop's words; the other two are delivered."""
    await amake_message(alice_org, recipients=ABC, route="smarthost")
    async with ScriptedServer({"RCPT": ["250 Ok", "550 5.1.1 No such user", "250 Ok"]}) as server, delivering():
        with smarthost(server):
            await all_settled()
    found = {address: (row.state, row.reply) for address, row in (await recipients()).items()}
    assert found["b@example.net"] == ("failed", "550 5.1.1 No such user")
    assert [found[address][0] for address in (ABC[0], ABC[2])] == ["delivered", "delivered"]
    assert server.taken[0].recipients == [ABC[0], ABC[2]]


async def test_too_many_recipients_at_once(alice_org: Organization) -> None:
    """452 after some were accepted: the rest goes at once, in the same session (RFC 5321 4.5.3.1.10)."""
    await amake_message(alice_org, recipients=ABC, route="smarthost")
    script = {"RCPT": ["250 Ok", "452 4.5.3 Too many", "452 4.5.3 Too many", "250 Ok"]}
    async with ScriptedServer(script) as server, delivering():
        with smarthost(server):
            await all_settled()
    assert [taken.recipients for taken in server.taken] == [[ABC[0]], [ABC[1], ABC[2]]]
    assert server.sessions == 1


@pytest.mark.parametrize(
    ("script", "features", "words"),
    [
        ({"RCPT": ["250 Ok", "421 4.3.2 Closing"]}, FEATURES, "421 4.3.2 Closing"),
        ({"AUTH": "535 5.7.8 Wrong password"}, ("AUTH PLAIN",), "refused (AUTH): 535 5.7.8 Wrong password"),
        ({"MAIL": "530 5.7.0 Authenticate first"}, (), "530 5.7.0 Authenticate first"),
        ({"GREETING": "554 5.7.1 Listed"}, (), "refused (greeting): 554 5.7.1 Listed"),
        ({"DATA": DROP}, FEATURES, "The server closed the connection."),
        ({"RCPT": HANG}, FEATURES, "The server took longer than 0.3 s for answering."),
    ],
)
async def test_what_is_tried_again(
    alice_org: Organization, script: dict[str, Any], features: tuple[str, ...], words: str
) -> None:
    """Sessions that end, time that passes and refusals of us, not of the mail, defer every recipient with the words."""
    await amake_message(alice_org, recipients=ABC, route="smarthost")
    login = {"GATEPOST_SMARTHOST_USERNAME": "u", "GATEPOST_SMARTHOST_PASSWORD": "p"} if "AUTH" in script else {}
    async with ScriptedServer(script, features) as server, delivering(timeouts=Timeouts(*([0.3] * 10))):
        with smarthost(server, **login):
            await all_attempted()
    for recipient in (await recipients()).values():
        assert recipient.state == "queued" and words in recipient.reply
        assert not recipient.possibly_delivered
    assert {row.outcome for row in await attempts()} == {"deferred"}


async def test_a_dead_port(alice_org: Organization) -> None:
    """The mail waits, and its reply names the address that refused."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer() as server:
        pass
    async with delivering():
        with smarthost(server):
            await all_attempted()
    assert f"Could not connect to 127.0.0.1:{server.port}" in (await recipients())["you@example.net"].reply


async def test_a_certificate_nobody_trusts(alice_org: Organization, certificate: Path) -> None:
    """No mail leaves: it waits, and the words say what is wrong."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer(features=("STARTTLS",), certificate=certificate) as server, delivering():
        with smarthost(server, GATEPOST_SMARTHOST_TLS="starttls"):
            await all_attempted()
        assert not server.taken
    assert "its certificate is not trusted" in (await recipients())["you@example.net"].reply


async def test_a_connection_lost_after_the_final_dot(alice_org: Organization) -> None:
    """Nobody knows: it is tried again, and marked as possibly delivered."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer({"DOT": [DROP, "250 Ok"]}) as server, delivering():
        with smarthost(server):
            await all_attempted()
            (row,) = await attempts()
            assert (row.outcome, row.reached_final_dot) == ("deferred", True)
            await due_now()
            await all_settled()
    recipient = (await recipients())["you@example.net"]
    assert (recipient.state, recipient.possibly_delivered) == ("delivered", True)
    assert len(server.taken) == 2


async def test_the_content_is_gone(alice_org: Organization) -> None:
    """Nothing can be sent: the recipient fails, with the reason."""
    await amake_message(alice_org, route="smarthost")
    await MessageData.objects.all().adelete()
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_settled()
    assert (await recipients())["you@example.net"].reply == "The content is no longer there."


# --- Sessions ---------------------------------------------------------------------------------------------------------


async def test_sessions_are_used_again(alice_org: Organization) -> None:
    """Five messages one after the other go through one session, closed with QUIT at the end."""
    async with ScriptedServer() as server:
        with smarthost(server):
            async with delivering():
                for _ in range(5):
                    await amake_message(alice_org, route="smarthost")
                    await all_settled()
        assert (server.sessions, len(server.taken)) == (1, 5)
        assert server.commands[-1] == "QUIT"


async def test_a_session_that_died_idle_is_replaced(alice_org: Organization) -> None:
    """The next message goes through a new session, in the same attempt."""
    async with ScriptedServer({"RSET": DROP}) as server, delivering():
        with smarthost(server):
            for _ in range(2):
                await amake_message(alice_org, route="smarthost")
                await all_settled()
    assert server.sessions == 2
    assert [row.outcome for row in await attempts()] == ["delivered", "delivered"]


async def test_no_more_than_ten_sessions_with_one_next_hop(alice_org: Organization) -> None:
    """Forty messages at once open ten, and all are delivered."""
    for _ in range(40):
        await amake_message(alice_org, route="smarthost")
    full = asyncio.Event()

    async def when_ten_wait() -> str:
        if server.open_now == 10:
            full.set()
        await full.wait()
        return "250 Ok"

    async with ScriptedServer({"DOT": when_ten_wait}) as server:
        with smarthost(server):
            async with delivering():
                await all_settled()
    assert (server.most_at_once, len(server.taken)) == (10, 40)


async def test_a_slow_smarthost_does_not_stop_the_sandbox(alice_org: Organization) -> None:
    """With 500 recipients waiting for a next hop that says nothing, sandbox mail is kept at once."""
    for _ in range(5):
        await amake_message(alice_org, route="smarthost", recipients=[f"{n}@example.net" for n in range(100)])
    async with ScriptedServer({"GREETING": HANG}) as server, delivering(Pace(finish=0.1)):
        with smarthost(server):
            await amake_message(alice_org, recipients=["sandbox@example.net"])

            async def kept() -> bool:
                return await Recipient.objects.filter(address="sandbox@example.net", state="delivered").aexists()

            await eventually(kept, seconds=5)


# --- Wake-ups, heartbeat, end -----------------------------------------------------------------------------------------


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
        for lease in delivery._renewed:
            delivery._renewed[lease] -= 46
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
