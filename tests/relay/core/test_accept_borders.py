"""The rolling hour through the real transaction, by PostgreSQL's clock: the stored window is moved instead of time."""

from collections.abc import Callable

import pytest
from django.db import connection

from accounts.models import Organization
from relay.limits import ORGANIZATION, OverLimit
from relay.models import LimitWindow, Message
from relay.submission import Accepted, Outcome
from tests.relay.core.conftest import Sender, accepted, set_plan

LIMIT = 1000


def minute_now() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT floor(extract(epoch FROM clock_timestamp()) / 60)::bigint")
        return int(cursor.fetchone()[0])


def set_window(organization: Organization, counts: dict[int, int]) -> int:
    """counts: minutes ago -> recipients. A negative number is a minute that lies ahead. Returns the running minute."""
    now = minute_now()
    buckets = [0] * 61
    for ago, count in counts.items():
        buckets[(now - ago) % 61] += count
    values = {"minute": now - min(counts), "buckets": buckets}
    LimitWindow.objects.update_or_create(scope=ORGANIZATION, owner_id=organization.pk, ip=None, defaults=values)
    return now


def outcome_after(counts: dict[int, int], sender: Sender, organization: Organization, recipients: int) -> Outcome:
    """Begins again if the minute ended meanwhile: the borders are what is tested."""
    while True:
        now = set_window(organization, counts)
        (outcome,) = accepted([sender.submission(recipients=recipients)])
        if minute_now() == now:
            return outcome


@pytest.mark.parametrize(
    ("counts", "room"),
    [
        ({0: LIMIT}, 0),
        ({1: LIMIT}, 0),
        ({59: LIMIT}, 0),
        ({60: LIMIT}, 0),
        ({61: LIMIT}, LIMIT),
        ({120: LIMIT}, LIMIT),
        ({60: 400, 0: 600}, 0),
        ({61: 400, 1: 600}, 400),
        ({60: 1, 59: LIMIT - 2}, 1),
        ({-5: LIMIT - 10}, 10),
    ],
)
def test_room_is_exact_at_the_borders(
    sender: Sender, alice_org: Organization, counts: dict[int, int], room: int
) -> None:
    """Counts leave when they are 61 minutes old and not before; a window ahead of the clock is not emptied."""
    set_plan(alice_org, LIMIT)
    if room:
        assert outcome_after(counts, sender, alice_org, room) == Accepted()
    over = outcome_after(counts, sender, alice_org, room + 1)
    assert isinstance(over, OverLimit)
    assert over.room == room


def test_the_wait_is_told_to_the_second(sender: Sender, alice_org: Organization) -> None:
    """A minute that began m minutes ago leaves 61 minutes after its beginning."""
    set_plan(alice_org, LIMIT)
    for ago in (60, 30, 0):
        over = outcome_after({ago: LIMIT}, sender, alice_org, 1)
        assert isinstance(over, OverLimit)
        assert over.seconds is not None
        assert (60 - ago) * 60 < over.seconds <= (61 - ago) * 60


def test_a_clock_set_back_gives_no_room(sender: Sender, alice_org: Organization) -> None:
    """The row's last minute stays, what is accepted counts in it, and the wait reckons from the clock as it is."""
    set_plan(alice_org, LIMIT)
    assert outcome_after({-5: LIMIT - 1}, sender, alice_org, 1) == Accepted()
    row = LimitWindow.objects.get(scope=ORGANIZATION)
    assert row.minute >= minute_now() + 4
    assert sum(row.buckets) == row.buckets[row.minute % 61] == LIMIT
    over = outcome_after({-5: LIMIT}, sender, alice_org, 1)
    assert isinstance(over, OverLimit)
    assert over.seconds is not None
    assert 65 * 60 < over.seconds <= 66 * 60


def test_an_hour_of_sending_at_the_limit(
    sender: Sender, alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """With every minute in use exactly one minute's worth comes free."""
    set_plan(alice_org, 610)
    counts = dict.fromkeys(range(1, 62), 10)
    assert outcome_after(counts, sender, alice_org, 10) == Accepted()
    assert isinstance(outcome_after(counts, sender, alice_org, 11), OverLimit)
    assert Message.objects.filter(recipient_count=11).count() == 0
