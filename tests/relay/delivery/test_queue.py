"""relay.queue against a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import connection as django_connection
from django.utils import timezone

from accounts.models import Organization
from relay import leases, queue, settling
from relay.connections import Connection
from relay.database import connect
from relay.models import DeliveryAttempt, NamedRoute, Recipient, RouteChoice
from relay.models.messages import NEVER
from relay.queue import Claim, ClaimedRecipient, Job, Outcome, Room, Settlement
from relay.routes import named_of
from tests.relay.conftest import make_message

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]
EVERYWHERE = Room(("sandbox", "smarthost", "mx"))

amake_message = sync_to_async(make_message)


@pytest.fixture
async def conn(transactional_db: None) -> AsyncIterator[Connection]:
    connection = await connect(application_name="test")
    yield connection
    await connection.close()


async def claim(conn: Connection, *, limit: int = 100, room: Room = EVERYWHERE, **keywords: Any) -> Claim:
    return await queue.claim(conn, limit=limit, room=room, **keywords)


async def mark(conn: Connection, job: Job, recipients: Sequence[ClaimedRecipient]) -> dict[int, int]:
    marks = [settling.Mark(job, recipient, timezone.now()) for recipient in recipients]
    return await settling.mark_final_dots(conn, marks, worker="test")


async def settle(conn: Connection, given: list[tuple[Job, Settlement]]) -> dict[int, str]:
    settled = await settling.settle(conn, given, worker="test")
    return {done.recipient.id: state for _job, done, state in settled}


def settlements(job: Job, outcome: str, **columns: Any) -> list[tuple[Job, Settlement]]:
    return [
        (job, Settlement(recipient=recipient, outcome=outcome, started_at=timezone.now(), **columns))
        for recipient in job.recipients
    ]


async def test_a_claim_groups_the_recipients_of_a_message(alice_org: Organization, conn: Connection) -> None:
    """Two messages of two recipients are two jobs, each with a lease of its own."""
    for _ in range(2):
        await amake_message(alice_org, recipients=("a@example.net", "b@example.net"))
    jobs = (await claim(conn)).jobs
    assert [[one.address for one in job.recipients] for job in jobs] == [["a@example.net", "b@example.net"]] * 2
    assert jobs[0].lease != jobs[1].lease


async def test_the_final_dot_makes_the_attempt_row(alice_org: Organization, conn: Connection) -> None:
    """Nothing is written before; a second final dot of the same attempt finds the row of the first."""
    await amake_message(alice_org, route="smarthost")
    (job,) = (await claim(conn)).jobs
    assert not await DeliveryAttempt.objects.aexists()
    made = await mark(conn, job, job.recipients)
    row = await DeliveryAttempt.objects.aget()
    assert made == {job.recipients[0].id: row.id}
    assert (row.number, row.route, row.worker, row.reached_final_dot) == (1, "smarthost", "test", True)
    assert row.finished_at is None
    again = [settling.Mark(job, job.recipients[0], timezone.now(), row.id)]
    assert await settling.mark_final_dots(conn, again, worker="test") == made
    assert await DeliveryAttempt.objects.acount() == 1


async def test_a_claimed_recipient_is_not_claimed_again(alice_org: Organization, conn: Connection) -> None:
    """A second claim finds nothing while the lease lives."""
    await amake_message(alice_org)
    assert (await claim(conn)).recipients == 1
    assert (await claim(conn)).recipients == 0


async def test_what_is_not_due_is_left(alice_org: Organization, conn: Connection) -> None:
    """A recipient due in a minute, a held and a delivered one are not claimed."""
    await amake_message(alice_org, due_at=timezone.now() + timedelta(minutes=1))
    await amake_message(alice_org, state="held")
    await amake_message(alice_org, state="delivered")
    assert (await claim(conn)).recipients == 0


async def test_the_oldest_is_claimed_first(alice_org: Organization, conn: Connection) -> None:
    """With room for one, the one that has been due for longest is taken."""
    now = timezone.now()
    await amake_message(alice_org, recipients=("late@example.net",), due_at=now - timedelta(minutes=1))
    await amake_message(alice_org, recipients=("early@example.net",), due_at=now - timedelta(minutes=2))
    (job,) = (await claim(conn, limit=1)).jobs
    assert job.recipients[0].address == "early@example.net"


async def test_hold_is_never_claimed(alice_org: Organization, conn: Connection) -> None:
    """Mail on the route hold is put out of the way for good, and does not stop what is behind it."""
    for _ in range(3):
        await amake_message(alice_org, route="hold")
    await amake_message(alice_org)
    first = await claim(conn, limit=3)
    assert (first.recipients, first.parked) == (0, {"hold": 3})
    assert (await claim(conn, limit=3)).recipients == 1
    assert await Recipient.objects.filter(message__route="hold", due_at=NEVER, state="queued").acount() == 3


async def test_the_mail_of_a_suspended_organization_waits(
    alice_org: Organization, bob_org: Organization, conn: Connection
) -> None:
    """It is put off for a minute, others' is claimed, and it is due again when that minute is over."""
    await amake_message(alice_org)
    await amake_message(bob_org)
    await Organization.objects.filter(pk=alice_org.pk).aupdate(state="suspended")
    claimed = await claim(conn)
    assert (claimed.recipients, claimed.parked) == (1, {"sandbox": 1})
    waiting = await Recipient.objects.aget(message__organization=alice_org)
    assert timezone.now() < waiting.due_at < timezone.now() + timedelta(seconds=61)
    assert (waiting.state, waiting.attempts, waiting.lease) == ("queued", 0, None)
    await Organization.objects.filter(pk=alice_org.pk).aupdate(state="active")
    await Recipient.objects.filter(pk=waiting.pk).aupdate(due_at=timezone.now())
    assert (await claim(conn)).recipients == 1


async def test_a_route_without_room_does_not_stop_the_others(alice_org: Organization, conn: Connection) -> None:
    """Sandbox mail is found behind smarthost mail for which there is no room."""
    await amake_message(alice_org, route="smarthost", recipients=["x@example.net"] * 50)
    await amake_message(alice_org)
    claimed = await claim(conn, limit=10, room=Room(["sandbox"]))
    assert [job.route for job in claimed.jobs] == ["sandbox"]
    assert await Recipient.objects.filter(lease__isnull=True, message__route="smarthost").acount() == 50


async def test_an_organization_has_a_smarthost_of_its_own(alice_org: Organization, conn: Connection) -> None:
    """The job carries the organization's named route where it has one, login and all."""
    named = await NamedRoute.objects.acreate(name="Own", kind="smarthost", hosts=[["relay.alice.example", 2525]])
    await RouteChoice.objects.acreate(route=named, organization=alice_org)
    await amake_message(alice_org, route="smarthost")
    (job,) = (await claim(conn)).jobs
    assert [str(hop) for hop in named_of(job.named).hops] == ["relay.alice.example:2525"]


async def test_workers_never_share_a_recipient(alice_org: Organization, transactional_db: None) -> None:
    """Eight connections claim 600 recipients at once in small bites: each is claimed exactly once."""
    for _ in range(60):
        await amake_message(alice_org, recipients=[f"{n}@example.net" for n in range(10)])
    connections = [await connect(application_name="test") for _ in range(8)]

    async def drain(conn: Connection) -> list[int]:
        taken: list[int] = []
        while True:
            claimed = await claim(conn, limit=7)
            taken += [one.id for job in claimed.jobs for one in job.recipients]
            # Nothing claimed may mean that the others hold the locks: the queue says when it is empty.
            if not claimed.recipients and not await Recipient.objects.filter(lease__isnull=True).aexists():
                return taken

    taken = [one for some in await asyncio.gather(*(drain(conn) for conn in connections)) for one in some]
    for conn in connections:
        await conn.close()
    assert len(taken) == len(set(taken)) == 600


def _fill(organization: Organization, count: int) -> None:
    message = make_message(organization, state="delivered")
    with django_connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO relay_recipient (message_id, address, state, due_at, attempts, possibly_delivered, reply,
                                         dsn_notify, dsn_orcpt)
            SELECT %s, 'x', 'delivered', now() - interval '1 day', 1, false, '', '', '' FROM generate_series(1, %s)
            """,
            [message.pk, count],
        )
        cursor.execute("ANALYZE relay_recipient")


async def test_a_claim_does_not_read_the_table(alice_org: Organization, conn: Connection) -> None:
    """With 20,000 delivered recipients and three that are due, the claim reads by indexes only."""
    await sync_to_async(_fill)(alice_org, 20_000)
    for _ in range(3):
        await amake_message(alice_org)
    parameters = queue.claim_parameters(limit=100, room=EVERYWHERE, lease_seconds=60, window=5000)
    for text in (queue.OLDEST_FIRST, queue.NEWEST_FIRST):
        rows = await (await conn.execute("EXPLAIN " + text, parameters)).fetchall()
        plan = "\n".join(row[0] for row in rows)
        assert "recipient_due" in plan
        assert "Seq Scan on relay_recipient" not in plan


@pytest.mark.parametrize("outcome", ["delivered", "failed"])
async def test_settled_for_good(alice_org: Organization, conn: Connection, outcome: str) -> None:
    """Recipient and attempt tell the same end, and the lease is gone."""
    await amake_message(alice_org)
    (job,) = (await claim(conn)).jobs
    owned = await settle(
        conn,
        settlements(
            job, outcome, code=550, enhanced_code="5.1.1", text="who?", next_hop="mx:25", next_hop_ip="192.0.2.1"
        ),
    )
    recipient, row = await Recipient.objects.aget(), await DeliveryAttempt.objects.aget()
    assert owned == {recipient.id: outcome}
    assert (recipient.state, recipient.lease, recipient.reply) == (outcome, None, "550 5.1.1 who?")
    assert recipient.settled_at is not None
    assert (row.outcome, row.code, row.enhanced_code, row.next_hop_ip) == (outcome, 550, "5.1.1", "192.0.2.1")
    assert row.finished_at is not None


async def test_deferred_comes_again_by_schedule(alice_org: Organization, conn: Connection) -> None:
    """After the first failure the next attempt is due in a minute, give or take a tenth."""
    await amake_message(alice_org)
    (job,) = (await claim(conn)).jobs
    await settle(conn, settlements(job, Outcome.DEFERRED, code=451, text="later"))
    recipient = await Recipient.objects.aget()
    wait = (recipient.due_at - timezone.now()).total_seconds()
    assert (recipient.state, recipient.settled_at) == ("queued", None)
    assert 50 < wait <= 66


def test_the_schedule_grows_to_four_hours() -> None:
    """Each step is within a tenth of 1, 5, 15, 30, 60, 120 minutes, then 4 hours for ever."""
    steps = (60, 300, 900, 1800, 3600, 7200, 14400, 14400, 14400)
    for attempts, step in enumerate(steps, start=1):
        assert step * 0.9 <= queue.retry_seconds(attempts) <= step * 1.1


async def test_a_message_ends_after_five_days(alice_org: Organization, conn: Connection) -> None:
    """A failure for now that comes later than five days after the accept is the last one, and says so."""
    await amake_message(alice_org, received_at=timezone.now() - timedelta(days=5, seconds=1))
    (job,) = (await claim(conn)).jobs
    await settle(conn, settlements(job, Outcome.DEFERRED, code=451, text="later"))
    recipient = await Recipient.objects.aget()
    assert (recipient.state, recipient.reply) == ("failed", "Given up after 5 days. The last answer: 451 later")
    assert (await DeliveryAttempt.objects.aget()).outcome == "deferred"


async def test_the_last_attempt_is_made_at_the_end_of_the_five_days(alice_org: Organization, conn: Connection) -> None:
    """The next attempt is never due later than five days after the accept."""
    received = timezone.now() - timedelta(days=5) + timedelta(seconds=10)
    await amake_message(alice_org, received_at=received)
    (job,) = (await claim(conn)).jobs
    await settle(conn, settlements(job, Outcome.DEFERRED))
    assert (await Recipient.objects.aget()).due_at == received + timedelta(days=5)


async def test_a_lost_lease_settles_nothing(alice_org: Organization, conn: Connection) -> None:
    """With another's token the row and its attempt stay as they are."""
    await amake_message(alice_org)
    (job,) = (await claim(conn)).jobs
    await Recipient.objects.aupdate(lease=uuid4())
    assert await settle(conn, settlements(job, Outcome.DELIVERED)) == {}
    assert (await Recipient.objects.aget()).state == "queued"
    assert not await DeliveryAttempt.objects.aexists()


async def _lapse() -> None:
    await Recipient.objects.aupdate(leased_until=timezone.now() - timedelta(seconds=1))


async def test_a_lapsed_lease_is_taken_back(alice_org: Organization, conn: Connection) -> None:
    """The attempt is lost, the recipient due at once, and nothing says that it was delivered."""
    await amake_message(alice_org)
    await claim(conn)
    assert await leases.recover(conn) == 0
    await _lapse()
    assert await leases.recover(conn) == 1
    recipient, row = await Recipient.objects.aget(), await DeliveryAttempt.objects.aget()
    assert (recipient.lease, recipient.possibly_delivered, recipient.attempts) == (None, False, 1)
    assert recipient.due_at <= timezone.now()
    assert row.outcome == "lost" and row.finished_at is not None
    assert (await claim(conn)).recipients == 1


async def test_after_the_final_dot_it_is_possibly_delivered(alice_org: Organization, conn: Connection) -> None:
    """Only the recipient whose attempt had reached the final dot is marked."""
    await amake_message(alice_org, recipients=("a@example.net", "b@example.net"))
    (job,) = (await claim(conn)).jobs
    await mark(conn, job, job.recipients[:1])
    await _lapse()
    await leases.recover(conn)
    marks = {one.address: one.possibly_delivered async for one in Recipient.objects.all()}
    assert marks == {"a@example.net": True, "b@example.net": False}


async def test_a_message_that_kills_workers_comes_later_and_later(alice_org: Organization, conn: Connection) -> None:
    """From the third lost attempt on, the next waits."""
    await amake_message(alice_org)
    await Recipient.objects.aupdate(attempts=4)
    await claim(conn)
    await _lapse()
    await leases.recover(conn)
    assert (await Recipient.objects.aget()).due_at > timezone.now() + timedelta(minutes=2)


async def test_no_final_dot_without_the_lease(alice_org: Organization, conn: Connection) -> None:
    """The mark before the final dot fails once another worker has taken the recipient back."""
    await amake_message(alice_org)
    (job,) = (await claim(conn)).jobs
    await _lapse()
    await leases.recover(conn)
    assert await mark(conn, job, job.recipients) == {}
    assert (await DeliveryAttempt.objects.aget()).outcome == "lost"


async def test_renewal_prolongs_what_is_held(alice_org: Organization, conn: Connection) -> None:
    """The lease that lives is prolonged and named; one that is no more is not."""
    await amake_message(alice_org)
    (job,) = (await claim(conn, lease_seconds=5)).jobs
    assert await leases.renew(conn, [job.lease, uuid4()], lease_seconds=60) == {job.lease}
    until = (await Recipient.objects.aget()).leased_until
    assert until is not None and until > timezone.now() + timedelta(seconds=50)


async def test_what_is_given_back_was_never_claimed(alice_org: Organization, conn: Connection) -> None:
    """No attempt is left or counted; what had reached the final dot stays leased."""
    await amake_message(alice_org, recipients=("a@example.net", "b@example.net"))
    (job,) = (await claim(conn)).jobs
    await mark(conn, job, job.recipients[1:])
    assert await leases.give_back(conn, [job.lease]) == 1
    rows = {one.address: (one.lease, one.attempts) async for one in Recipient.objects.all()}
    assert rows == {"a@example.net": (None, 0), "b@example.net": (job.lease, 1)}
    assert await DeliveryAttempt.objects.acount() == 1


@pytest.mark.parametrize(
    ("states", "word"),
    [
        (["queued", "delivered"], "queued"),
        (["held", "failed"], "held"),
        (["queued", "held"], "queued"),
        (["failed", "failed"], "failed"),
        (["failed", "delivered"], "partly delivered"),
        (["delivered", "delivered"], "delivered"),
        (["cancelled"], "cancelled"),
        (["cancelled", "failed"], "failed"),
        (["cancelled", "delivered"], "partly delivered"),
    ],
)
def test_one_word_for_a_message(states: list[str], word: str) -> None:
    """What waits comes first, then what failed, then what went."""
    assert queue.message_state(states) == word
