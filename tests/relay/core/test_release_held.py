"""relay.limits.release_held: oldest first, debited as it goes, exact with several at it."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import pytest

from accounts.models import Organization
from accounts.organizations import activate, suspend
from audit.changes import SYSTEM
from relay import limits
from relay.credentials import update_smtp_user
from relay.database import connect
from relay.limits import IP, ORGANIZATION, SMTP_USER, release_held
from relay.models import LimitWindow, Recipient
from relay.models.messages import NEVER
from relay.submission import Accepted
from tests.relay.core.conftest import Sender, accepted, set_plan, used


def released(*, releasers: int = 1, batch: int = 200) -> list[int]:
    async def one() -> int:
        async with await connect(application_name="test") as conn:
            return await release_held(conn, batch=batch)

    async def run() -> list[int]:
        return await asyncio.gather(*(one() for _each in range(releasers)))

    return asyncio.run(run())


def held_of(sender: Sender, *counts: int, **fields: str) -> list[UUID]:
    """Messages that must wait, oldest first."""
    batch = [sender.submission(recipients=count, **fields) for count in counts]
    assert accepted(batch) == [Accepted(held=True)] * len(batch)
    return [each.id for each in batch]


def queued() -> set[UUID]:
    return set(Recipient.objects.filter(state="queued").values_list("message_id", flat=True))


def empty_windows() -> None:
    LimitWindow.objects.update(buckets=[0] * 61)


@pytest.fixture
def holding(alice_org: Organization, sender_of: Callable[..., Sender]) -> Sender:
    """An SMTP user that holds, of an organization whose hour of 10 is used up and whose queue is empty."""
    set_plan(alice_org, 10)
    made = sender_of(alice_org, excess="hold")
    accepted([made.submission(recipients=10)])
    Recipient.objects.update(state="delivered")
    return made


def test_nothing_is_released_without_room(holding: Sender) -> None:
    """As long as the hour is full, all of it waits."""
    held_of(holding, 1, 2)
    assert released() == [0]
    assert not queued()


def test_the_oldest_are_released_and_debited(holding: Sender, alice_org: Organization) -> None:
    """What fits, in the order in which it came; the first that does not fit ends it, though a younger one would fit."""
    oldest, second, big, small = held_of(holding, 3, 4, 5, 1)
    empty_windows()
    assert released() == [7]
    assert queued() == {oldest, second}
    assert used(ORGANIZATION, alice_org.pk) == 7
    assert released() == [0]
    empty_windows()
    assert released() == [6]
    assert queued() == {oldest, second, big, small}
    assert not Recipient.objects.filter(state="held").exists()


def test_two_releasers_are_exact(holding: Sender, alice_org: Organization) -> None:
    """At once over connections of their own: together no more than the room, each message once."""
    messages = held_of(holding, *[3] * 20)
    empty_windows()
    counts = released(releasers=4)
    assert sum(counts) == used(ORGANIZATION, alice_org.pk) == 9
    assert queued() == set(messages[:3])


def test_a_suspended_organization_releases_nothing(holding: Sender, alice_org: Organization) -> None:
    """Its held mail waits until it is activated again."""
    held_of(holding, 1)
    empty_windows()
    suspend(alice_org, reason="test", actor=SYSTEM)
    assert released() == [0]
    activate(alice_org, actor=SYSTEM)
    assert released() == [1]


def test_a_suspension_during_the_release_counts(
    holding: Sender, alice_org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is read under the lock: suspended after the organizations were listed is suspended all the same."""
    held_of(holding, 1)
    empty_windows()
    suspend(alice_org, reason="test", actor=SYSTEM)
    monkeypatch.setattr("relay.limits.HELD_ORGANIZATIONS", f"SELECT {alice_org.pk}")  # as listed before
    assert released() == [0]


@pytest.mark.parametrize(("limit", "scope"), [("recipients_per_hour", SMTP_USER), ("recipients_per_hour_per_ip", IP)])
def test_a_full_smtp_user_keeps_nobody_else_waiting(
    holding: Sender, alice_org: Organization, sender_of: Callable[..., Sender], limit: str, scope: int
) -> None:
    """Its many older messages wait for its own window; those of others behind them are released."""
    crowded = sender_of(alice_org, name="crowded", excess="hold", **{limit: 2})
    mine = held_of(crowded, 2, 2, 1, 2, 1)
    others = held_of(holding, 1, 1)
    empty_windows()
    assert released(batch=2) == [2]
    assert queued() == {mine[0]}
    assert released(batch=2) == [2]
    assert queued() == {mine[0], *others}
    assert used(scope, crowded.smtp_user.pk, "192.0.2.1" if scope == IP else None) == 2
    assert released(batch=2) == [0]


def test_what_no_longer_fits_any_hour_holds_nobody_up(holding: Sender, alice_org: Organization) -> None:
    """A limit lowered below a held message: the message waits for a higher one, the others go."""
    big, small = held_of(holding, 8, 1)
    set_plan(alice_org, 5)
    empty_windows()
    assert released() == [1]
    assert queued() == {small}
    set_plan(alice_org, 10)
    assert released() == [8]
    assert queued() == {big, small}


def test_own_limits_set_later_bind_the_release(holding: Sender) -> None:
    """The limits of now are debited, not those of when the message came."""
    held_of(holding, 2, 2)
    update_smtp_user(holding.smtp_user, actor=SYSTEM, recipients_per_hour=3)
    empty_windows()
    assert released() == [2]
    assert used(SMTP_USER, holding.smtp_user.pk) == 2


def test_no_more_is_released_than_was_debited(holding: Sender, alice_org: Organization) -> None:
    """What an operator gives back to the limit after a message was counted waits for the next turn."""
    held_of(holding, 3)
    empty_windows()
    by_hand = Recipient.objects.filter(state="held").order_by("pk")[:2].values_list("pk", flat=True)
    Recipient.objects.filter(pk__in=list(by_hand)).update(due_at=NEVER)

    async def run() -> None:
        full = set[limits.Key]()
        async with await connect(application_name="test") as conn, conn.transaction():
            needs = await limits._held_needs(conn, alice_org.pk, full, 200)
            await conn.execute("UPDATE relay_recipient SET due_at = now() WHERE state = 'held'")
            await limits._debit(conn, needs, full)

    asyncio.run(run())
    assert used(ORGANIZATION, alice_org.pk) == Recipient.objects.filter(state="queued").count() == 1
    assert released() == [2] and used(ORGANIZATION, alice_org.pk) == 3


def test_writers_and_releasers_share_one_hour(holding: Sender, alice_org: Organization) -> None:
    """Accepting and releasing at the same time never exceeds the limit either."""
    held_of(holding, *[1] * 8)
    empty_windows()

    async def send() -> None:
        for _message in range(8):
            await asyncio.to_thread(accepted, [holding.submission()])

    async def release() -> None:
        async with await connect(application_name="test") as conn:
            for _turn in range(8):
                await release_held(conn)

    async def run() -> None:
        await asyncio.gather(send(), release(), release())

    asyncio.run(run())
    assert used(ORGANIZATION, alice_org.pk) == 10
    assert Recipient.objects.filter(state="queued").count() == 10
