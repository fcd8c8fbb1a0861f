"""audit/queries.py: pages of events and counts of them."""

import re
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.partitions import make_partitions
from audit.queries import (
    NONE,
    AuthFilters,
    Cursor,
    accepted_addresses,
    auth_counts,
    auth_events,
    filtered_events,
)
from audit.rollup import roll_up_auth_hours
from tests.audit.conftest import NOON, MakeEvent

pytestmark = pytest.mark.django_db
ALICE, BOB = 1, 2
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("filters", "matching"),
    [
        ({}, {}),
        ({"result": "accepted"}, {"result": "accepted", "reason": "ok"}),
        ({"reason": "revoked"}, {"reason": "revoked"}),
        ({"ip": "203.0.113.9"}, {"ip": "203.0.113.9"}),
        ({"ip": " ::ffff:203.0.113.9 "}, {"ip": "203.0.113.9"}),
        ({"ip": "2001:DB8:0::5"}, {"ip": "2001:db8::5"}),
        ({"cidr": "203.0.113.0/24"}, {"ip": "203.0.113.255"}),
        ({"cidr": "203.0.113.77/24"}, {"ip": "203.0.113.0"}),
        ({"cidr": "2001:db8::/32"}, {"ip": "2001:db8:ffff::1"}),
        ({"username": "other.alice"}, {"username_given": "other.alice"}),
        ({"username": "Other.Alice"}, {"username_given": "other.alice"}),
        ({"username": "a\x00b"}, {"username_given": "a\x00b"}),
        ({"mechanism": "login"}, {"mechanism": "LOGIN"}),
        ({"mechanism": "Login"}, {"mechanism": "login"}),
        ({"mechanism": NONE}, {"mechanism": ""}),
        ({"tls": "TLSv1.2"}, {"tls_version": "TLSv1.2"}),
        ({"tls": NONE}, {"tls_version": ""}),
        ({"smtp_user_id": 12}, {"smtp_user_id": 12}),
        ({"app_password_id": 99}, {"app_password_id": 99}),
        ({"reference": " k7q2mx9ta4 "}, {"reference": "K7Q2MX9TA4"}),
        ({"since": NOON + HOUR, "until": NOON + 2 * HOUR}, {"at": NOON + HOUR}),
    ],
)
def test_each_filter_finds_its_event_alone(
    make_event: MakeEvent, filters: dict[str, Any], matching: dict[str, Any]
) -> None:
    """Of three events, one of which matches, one is found (and bob's like it is not)."""
    if filters:
        make_event(at=NOON - HOUR)
        make_event(at=NOON + 2 * HOUR, ip="203.0.112.255")
    bobs = {**matching, "organization_id": BOB} | ({"smtp_user_id": 99} if "smtp_user_id" in matching else {})
    make_event(**bobs)  # an SMTP user is one organization's
    event = make_event(**matching)
    assert [found.id for found in auth_events(ALICE, filters=AuthFilters(**filters))] == [event.id]


def test_an_organization_sees_its_own_alone(make_event: MakeEvent) -> None:
    """Neither bob's events nor those of nobody are alice's, even if she names bob's SMTP user; operators see all."""
    make_event(organization_id=BOB, smtp_user_id=22)
    make_event(organization_id=None, smtp_user_id=None)
    mine = make_event()
    assert [event.id for event in auth_events(ALICE)] == [mine.id]
    assert auth_events(ALICE, filters=AuthFilters(smtp_user_id=22)) == []
    assert len(auth_events(None)) == 3


@pytest.mark.parametrize("filters", [{"ip": "x"}, {"cidr": "192.0.2.0/99"}, {"ip": "192.0.2.0/24"}])
def test_an_address_that_is_none_is_refused(filters: dict[str, str]) -> None:
    """Nonsense is an error for the form to show, not an empty list."""
    with pytest.raises(ValueError, match="does not appear"):
        auth_events(ALICE, filters=AuthFilters(**filters))


def test_pages_follow_each_other_without_gap_or_repetition(make_event: MakeEvent) -> None:
    """Newest first, over partitions and over many events of one instant, with a cursor that survives a link."""
    make_partitions(1, now=NOON)
    events = [make_event(at=NOON + timedelta(hours=6 * (number // 6))) for number in range(30)]
    newest_first = sorted(events, key=lambda event: (event.at, event.id), reverse=True)
    found: list[Any] = []
    before = None
    while page := auth_events(ALICE, before=before, limit=4):
        found += page
        before = Cursor.parse(str(Cursor.of(page[-1])))
    assert [event.id for event in found] == [event.id for event in newest_first]


@pytest.mark.parametrize("text", ["", "x", "20260310T120000.000000", "20260310T120000.000000-x", "-" * 40])
def test_a_cursor_that_somebody_typed_is_refused(text: str) -> None:
    """A broken link is an error, not the first page."""
    with pytest.raises(ValueError, match=r".+"):
        Cursor.parse(text)


def partitions_read(query: Any) -> set[str]:
    """The partitions that the plan of a query scans."""
    return set(re.findall(r" on (auth_event_[a-z0-9]+)", query.explain()))


def test_a_day_reads_the_partition_of_that_day_alone() -> None:
    """A list of one whole day scans that day's partition and no other; an open end adds the later ones and DEFAULT."""
    make_partitions(2, now=NOON)
    day = NOON.replace(hour=0)
    for organization_id in (ALICE, None):
        one_day = filtered_events(organization_id, filters=AuthFilters(since=day, until=day + timedelta(days=1)))
        assert partitions_read(one_day.order_by("-at", "-id")[:50]) == {"auth_event_20260310"}
        no_end = filtered_events(organization_id, filters=AuthFilters(since=day + timedelta(days=1)))
        read = partitions_read(no_end.order_by("-at", "-id")[:50])
        assert {"auth_event_20260311", "auth_event_default"} <= read
        assert "auth_event_20260310" not in read


def test_a_later_page_does_not_read_newer_partitions(make_event: MakeEvent) -> None:
    """The cursor prunes as well."""
    make_partitions(7, now=NOON)
    event = make_event(at=NOON)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        auth_events(ALICE, before=Cursor.of(event))
    with connection.cursor() as cursor:
        query = next(each["sql"] for each in queries.captured_queries if "LATERAL" in each["sql"])
        cursor.execute("EXPLAIN " + query)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "auth_event_20260310" in plan
    assert "auth_event_20260311" not in plan


@pytest.fixture
def three_hours(make_event: MakeEvent) -> None:
    """Rolled up: per hour 5 accepted of alice's, 2 refused as a folded run; one of bob's."""
    for number in range(3):
        at = NOON + number * HOUR
        make_event(at=at, result="accepted", reason="ok", count=5, ip="192.0.2.1")
        make_event(at=at, count=2, smtp_user_id=12)
        make_event(at=at, organization_id=BOB, smtp_user_id=22)
    make_event(at=NOON + HOUR, result="error", reason="unavailable")
    roll_up_auth_hours()


def test_counts_come_from_the_sums(three_hours: None) -> None:
    """By result and by reason, most first; the running hour of `since` counts whole."""
    counts = auth_counts(ALICE, since=NOON + HOUR + timedelta(minutes=30))
    assert asdict(counts) == {
        "accepted": 10,
        "refused": 4,
        "error": 1,
        "reasons": {"ok": 10, "wrong_password": 4, "unavailable": 1},
        "last_at": NOON + 2 * HOUR,
    }
    assert list(counts.reasons) == ["ok", "wrong_password", "unavailable"]
    assert counts.total == 15


def test_counts_can_be_narrowed(three_hours: None) -> None:
    """To one SMTP user, to an end, to another organization, and to nothing at all."""
    assert auth_counts(ALICE, since=NOON, smtp_user_id=12).total == 6
    assert auth_counts(ALICE, since=NOON, until=NOON + HOUR).total == 7
    assert auth_counts(None, since=NOON).total == 25
    assert auth_counts(BOB, since=NOON, smtp_user_id=12) == auth_counts(99, since=NOON)
    assert auth_counts(99, since=NOON).total == 0


def test_counts_read_no_event(three_hours: None) -> None:
    """The pages that count do not scan what they count."""
    with CaptureQueriesContext(connection) as queries:
        auth_counts(ALICE, since=NOON)
        accepted_addresses(ALICE, since=NOON)
    assert "audit_authevent" not in str(queries.captured_queries)


def test_accepted_addresses_tell_who_would_be_shut_out(three_hours: None, make_event: MakeEvent) -> None:
    """By SMTP user and address from the sums; by app password from the events; refused ones are no use of it."""
    uses = [(use.smtp_user_id, use.ip, use.count, use.last_at) for use in accepted_addresses(ALICE, since=NOON)]
    assert uses == [(11, "192.0.2.1", 15, NOON + 2 * HOUR)]
    make_event(result="accepted", reason="ok", app_password_id=3, ip="192.0.2.2")
    of_password = accepted_addresses(ALICE, since=NOON, app_password_id=3)
    assert [(use.ip, use.count) for use in of_password] == [("192.0.2.2", 1)]
    assert accepted_addresses(BOB, since=NOON) == []


def test_an_event_of_this_minute_is_listed_at_once(make_event: MakeEvent) -> None:
    """Lists do not wait for the rollup."""
    event = make_event(at=timezone.now())
    assert [found.id for found in auth_events(ALICE)] == [event.id]


def test_a_filter_that_no_row_can_hold_finds_nothing() -> None:
    """PostgreSQL refuses a NUL; a client that sends one is told that there is nothing."""
    for name in ("reference", "mechanism", "tls", "username"):
        assert auth_events(None, filters=AuthFilters(**{name: "a\0b"})) == []
