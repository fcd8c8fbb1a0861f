"""relay.lanes, relay.next_hop_troubles and the claim: one next hop that is dead or slow does not stop the others."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.mail import EmailMessage
from django.utils import timezone

from accounts.models import Organization
from relay import lanes, next_hop_troubles, queue
from relay.connections import Connection
from relay.database import connect
from relay.loop import Pace
from relay.models import NamedRoute, NextHopTrouble, Recipient, RouteChoice
from relay.next_hops import CrowdedError, NextHops
from relay.queue import Room
from relay.smtp.next_hop import NextHop
from relay.system_mail import HEAD_START, enqueue
from tests.relay.conftest import CONTENT
from tests.relay.delivery.running import (
    QUICK,
    all_attempted,
    amake_message,
    attempts,
    delivering,
    due_now,
    eventually,
    smarthost,
)
from tests.relay.delivery.scripted_server import HANG, ScriptedServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]
EVERYWHERE = Room(("sandbox", "smarthost", "mx"))


@pytest.fixture
async def conn(transactional_db: None) -> AsyncIterator[Connection]:
    connection = await connect(application_name="test")
    yield connection
    await connection.close()


async def route_of(organization: Organization, port: int) -> NamedRoute:
    """A smarthost of its own for this organization."""
    route = await NamedRoute.objects.acreate(
        name=f"own {port}", kind="smarthost", hosts=[["127.0.0.1", port]], tls="none"
    )
    await RouteChoice.objects.acreate(route=route, organization=organization)
    return route


async def messages(organization: Organization, count: int, **values: Any) -> None:
    for number in range(count):
        await amake_message(organization, route="smarthost", recipients=[f"{number}@example.net"], **values)


# --- The claim --------------------------------------------------------------------------------------------------------


async def test_each_domain_of_route_mx_goes_its_own_way(alice_org: Organization, conn: Connection) -> None:
    """One message to two domains is two jobs, each with its lease and the content."""
    await amake_message(alice_org, route="mx", recipients=("a@one.example", "b@ONE.example", "c@two.example"))
    jobs = (await queue.claim(conn, limit=100, room=EVERYWHERE)).jobs
    found = {job.lane: (job.destination, len(job.recipients)) for job in jobs}
    assert found == {"mx:one.example": ("one.example", 2), "mx:two.example": ("two.example", 1)}
    assert len({job.lease for job in jobs}) == 2
    assert {job.content for job in jobs} == {CONTENT}


async def test_mail_for_a_next_hop_in_trouble_is_put_aside(alice_org: Organization, conn: Connection) -> None:
    """Until a little after the trouble's end, with its last words, uncounted; other mail is claimed."""
    until = timezone.now() + timedelta(seconds=300)
    await NextHopTrouble.objects.acreate(
        lane="mx:dead.example", failures=4, blocked_until=until, last_reply="No answer."
    )
    await amake_message(alice_org, route="mx", recipients=("a@dead.example", "b@well.example"))
    claimed = await queue.claim(conn, limit=100, room=EVERYWHERE)
    assert [job.destination for job in claimed.jobs] == ["well.example"]
    assert claimed.parked == {"mx:dead.example": 1}
    aside = await Recipient.objects.aget(address="a@dead.example")
    assert until <= aside.due_at <= until + timedelta(seconds=31)
    assert (aside.state, aside.attempts, aside.lease, aside.reply) == ("queued", 0, None, "No answer.")


async def test_trouble_puts_nothing_aside_beyond_five_days(alice_org: Organization, conn: Connection) -> None:
    """Mail whose time is over is tried once more, so that its sender learns of the end."""
    until = timezone.now() + timedelta(seconds=300)
    await NextHopTrouble.objects.acreate(lane="mx:dead.example", failures=4, blocked_until=until)
    received = timezone.now() - timedelta(days=5)
    await amake_message(alice_org, route="mx", recipients=("a@dead.example",), received_at=received)
    (job,) = (await queue.claim(conn, limit=100, room=EVERYWHERE)).jobs
    assert job.failures == 4


async def test_full_lanes_are_passed_and_slow_ones_put_aside(alice_org: Organization, conn: Connection) -> None:
    """What a worker has enough of stays for others; what hardly moves is looked at again when its time has come."""
    await amake_message(alice_org, route="mx", recipients=("a@full.example", "b@slow.example", "c@well.example"))
    room = Room(("mx",), ("mx:full.example",), {"mx:slow.example": 60.0})
    claimed = await queue.claim(conn, limit=100, room=room)
    assert [job.destination for job in claimed.jobs] == ["well.example"]
    rows = {one.address[0]: one async for one in Recipient.objects.all()}
    assert rows["a"].due_at <= timezone.now() and rows["a"].lease is None
    wait = rows["b"].due_at - timezone.now()
    assert timedelta(seconds=25) < wait <= timedelta(seconds=90)


async def test_the_newest_can_be_claimed_first(alice_org: Organization, conn: Connection) -> None:
    """So that fresh mail does not wait behind a long queue."""
    now = timezone.now()
    await amake_message(alice_org, recipients=("old@example.net",), due_at=now - timedelta(hours=1))
    await amake_message(alice_org, recipients=("new@example.net",), due_at=now - timedelta(seconds=1))
    (job,) = (await queue.claim(conn, limit=1, room=EVERYWHERE, newest_first=True)).jobs
    assert job.recipients[0].address == "new@example.net"


async def test_gateposts_own_mail_has_a_head_start(alice_org: Organization, conn: Connection) -> None:
    """A password reset goes before what customers sent in the last hour."""
    await amake_message(alice_org, due_at=timezone.now() - HEAD_START / 2)
    await sync_to_async(enqueue)(EmailMessage("Reset", "x", "gatepost@example.org", ["alice@alice.example"]))
    (job,) = (await queue.claim(conn, limit=1, room=EVERYWHERE)).jobs
    assert job.recipients[0].address == "alice@alice.example"


# --- Trouble ----------------------------------------------------------------------------------------------------------


async def test_failures_in_a_row_block_a_lane_for_longer_and_longer(conn: Connection) -> None:
    """The first may be a mishap; what fails while the lane is blocked had begun before, and a success ends it."""
    first = await next_hop_troubles.failed(conn, "mx:x.example", "No.")
    second = await next_hop_troubles.failed(conn, "mx:x.example", "No.")
    third = await next_hop_troubles.failed(conn, "mx:x.example", "Still no.")
    assert (first.failures, first.seconds) == (1, 0)
    assert (second.failures, third.failures) == (2, 2)
    assert 28 < second.seconds <= 30
    await NextHopTrouble.objects.aupdate(blocked_until=timezone.now())
    again = await next_hop_troubles.failed(conn, "mx:x.example", "No.")
    assert again.failures == 3 and 58 < again.seconds <= 60
    assert (await next_hop_troubles.blocked(conn, ["mx:x.example", "mx:y.example"])).keys() == {"mx:x.example"}
    await next_hop_troubles.recovered(conn, "mx:x.example")
    assert not await NextHopTrouble.objects.aexists()


async def test_a_dead_next_hop_is_tried_a_few_times_alone(alice_org: Organization, bob_org: Organization) -> None:
    """Of fifty that wait for it, a few are tried, the rest is put aside uncounted; another's mail behind them goes."""
    async with ScriptedServer() as server:
        pass
    dead = server.port
    async with ScriptedServer() as server:
        await route_of(alice_org, dead)
        await route_of(bob_org, server.port)
        await messages(alice_org, 50)
        await messages(bob_org, 5)
        async with delivering():

            async def quiet() -> bool:
                waiting = Recipient.objects.filter(state="queued")
                return not await waiting.filter(due_at__lte=timezone.now()).aexists()

            await eventually(quiet)
    assert len(server.taken) == 5
    tried = [row for row in await attempts() if row.outcome == "deferred"]
    assert len(tried) <= 2 * lanes.START
    aside = Recipient.objects.filter(state="queued", attempts=0, message__organization=alice_org)
    assert await aside.acount() == 50 - len(tried)
    words = f"Could not connect to 127.0.0.1:{dead}: "
    assert all([row.reply.startswith(words) async for row in aside])


async def test_after_trouble_one_goes_first(alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next hop answers again: a single session tries it, and when its message has gone the others follow."""
    await NextHopTrouble.objects.acreate(lane="x", failures=3, blocked_until=timezone.now())
    await messages(alice_org, 30)
    monkeypatch.setattr("relay.loop.BEHIND_SECONDS", 0.2)
    monkeypatch.setattr(lanes, "BEHIND_SECONDS", 0.2)
    most_before = 0

    async def count() -> str:
        nonlocal most_before
        most_before = max(most_before, server.open_now) if len(server.taken) <= 1 else most_before
        return "250 Ok"

    async with ScriptedServer({"DOT": count}) as server:
        with smarthost(server):
            lane = f"smarthost:127.0.0.1:{server.port}"
            await NextHopTrouble.objects.acreate(lane=lane, failures=3, blocked_until=timezone.now())
            async with delivering():
                await all_attempted()
    assert (most_before, len(server.taken)) == (1, 30)
    assert [row.lane async for row in NextHopTrouble.objects.all()] == ["x"]


async def test_a_slow_next_hop_does_not_stop_others(
    alice_org: Organization, bob_org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest sixty wait for a server that never answers; mail for another goes at once all the same."""
    for name, value in (("LANE_IN_HAND", 20), ("FULL_SECONDS", 0.2)):
        monkeypatch.setattr(lanes, name, value)
    monkeypatch.setattr("relay.loop.CLAIM", 10)
    async with ScriptedServer({"GREETING": HANG}) as slow, ScriptedServer() as server:
        await route_of(alice_org, slow.port)
        await route_of(bob_org, server.port)
        await messages(alice_org, 60)
        await messages(bob_org, 5)
        async with delivering(Pace(claim=0.05, finish=0.1)):

            async def gone() -> bool:
                return len(server.taken) == 5

            await eventually(gone, seconds=10)
    assert not await Recipient.objects.filter(lease__isnull=False).aexists()


# --- Lanes and next hops ----------------------------------------------------------------------------------------------


def test_a_lane_takes_more_while_it_goes() -> None:
    """One more at once for each message that went, up to the bound; one alone while it is in trouble."""
    lane = lanes.Lane("mx:x.example")
    assert lane.allowed == lanes.START
    for _ in range(100):
        lane.went()
    assert lane.allowed == lanes.PER_LANE
    lane.failures = 2
    assert lane.allowed == 1


async def test_too_many_sessions_are_no_trouble(alice_org: Organization) -> None:
    """A server that takes five at once refuses the others' greeting: they come later, and the lane is not blocked."""

    async def five() -> str:
        return "220 ready" if server.open_now <= 5 else "421 4.7.0 Too many connections"

    await messages(alice_org, 30)
    async with ScriptedServer({"GREETING": five}) as server:
        with smarthost(server):
            async with delivering(QUICK):
                for _ in range(3):
                    await all_attempted_once_more()
    assert len(server.taken) == 30


async def all_attempted_once_more() -> None:
    async def idle() -> bool:
        waiting = Recipient.objects.filter(state="queued")
        return not await waiting.filter(due_at__lte=timezone.now()).aexists()

    await eventually(idle)
    await NextHopTrouble.objects.aupdate(blocked_until=timezone.now())
    await due_now()
    await eventually(idle)


async def test_a_crowded_next_hop_takes_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many domains with one slow server: beyond a bound they do not wait in this process at all."""
    for name, value in (("CROWD", 3), ("CROWD_SECONDS", 0.0)):
        monkeypatch.setattr(f"relay.next_hops.{name}", value)
    hops, hop = NextHops(per_hop=1), NextHop("127.0.0.1", 25)
    go = asyncio.Event()

    async def hold() -> None:
        async with hops.slot(hop):
            await go.wait()

    held = [asyncio.create_task(hold()) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(CrowdedError):
        async with hops.slot(hop):
            pass
    go.set()
    await asyncio.gather(*held)
    async with hops.slot(hop):
        pass
