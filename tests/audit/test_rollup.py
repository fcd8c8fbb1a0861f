"""audit/rollup.py: sums that late rows and second runs cannot falsify."""

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import rollup
from audit.models import AuthEvent, AuthHour, RollupMark
from audit.record import attempt, record_auth_event
from audit.rollup import roll_up_auth_hours, rolled_up_until
from tests.audit.conftest import NOON, MakeEvent

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def database_time() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]  # type: ignore[no-any-return]


def mark_now() -> None:
    """As if the last run was long after all rows until here were stored."""
    RollupMark.objects.update(done_until=database_time())


def sums() -> dict[tuple[Any, ...], int]:
    return {
        (row.hour, row.organization_id, row.smtp_user_id, row.ip, row.result, row.reason): row.count
        for row in AuthHour.objects.all()
    }


def other_connection() -> psycopg.Connection[Any]:
    wanted = {"dbname", "user", "host", "port"}
    return psycopg.connect(**{k: v for k, v in connection.get_connection_params().items() if k in wanted})


def test_counts_are_summed_not_rows(make_event: MakeEvent) -> None:
    """A folded run of 40 and two single attempts are 42, from the first to the last of them."""
    make_event(at=NOON, count=40, last_at=NOON + timedelta(minutes=59))
    make_event(at=NOON + timedelta(minutes=1))
    make_event(at=NOON + timedelta(minutes=2))
    assert roll_up_auth_hours() == 1
    hour = AuthHour.objects.get()
    assert (hour.count, hour.hour, hour.first_at, hour.last_at) == (42, NOON, NOON, NOON + timedelta(minutes=59))


def test_every_difference_is_a_row_of_its_own(make_event: MakeEvent) -> None:
    """Hour, organization, SMTP user, address, result and reason are kept apart, unknown ones too."""
    make_event()
    for other in (
        {"at": NOON + HOUR},
        {"organization_id": 2},
        {"organization_id": None, "smtp_user_id": None},
        {"smtp_user_id": 12},
        {"ip": "2001:db8::1"},
        {"reason": "revoked"},
        {"result": "accepted", "reason": "ok"},
    ):
        make_event(**other)
    roll_up_auth_hours()
    assert sorted(sums().values()) == [1] * 8


def test_a_second_run_changes_nothing(make_event: MakeEvent) -> None:
    """Rows are summed again, not added; rows that are the same are not even written."""
    make_event(count=3)
    make_event(organization_id=None, smtp_user_id=None)
    roll_up_auth_hours()
    first, rows = sums(), set(AuthHour.objects.values_list("pk", flat=True))
    roll_up_auth_hours()
    RollupMark.objects.all().delete()
    roll_up_auth_hours()
    assert sums() == first
    assert set(AuthHour.objects.values_list("pk", flat=True)) == rows


def test_a_row_stored_late_is_counted(make_event: MakeEvent) -> None:
    """A buffered attempt of hours ago is added to its own hour, and only that hour is read again."""
    make_event(at=NOON - 5 * HOUR)
    make_event(at=NOON)
    roll_up_auth_hours()
    mark_now()
    make_event(at=NOON - 5 * HOUR + timedelta(minutes=1))
    assert roll_up_auth_hours() == 1
    assert {key[0]: count for key, count in sums().items()} == {NOON - 5 * HOUR: 2, NOON: 1}


def test_without_new_rows_nothing_is_read(make_event: MakeEvent) -> None:
    """A quiet installation costs nothing."""
    make_event()
    roll_up_auth_hours()
    mark_now()
    assert roll_up_auth_hours() == 0


def test_a_group_that_vanished_is_removed(make_event: MakeEvent) -> None:
    """Sums follow their events when an hour is summed again."""
    make_event(ip="192.0.2.1")
    gone = make_event(ip="192.0.2.2")
    unknown = make_event(organization_id=None, smtp_user_id=None)
    roll_up_auth_hours()
    AuthEvent.objects.filter(id__in=[gone.id, unknown.id]).delete()
    roll_up_auth_hours()
    assert [key[3] for key in sums()] == ["192.0.2.1"]


def test_other_hours_are_left_alone(make_event: MakeEvent) -> None:
    """Sums of an hour that nothing touched stay, even without their events."""
    make_event(at=NOON - 3 * HOUR)
    roll_up_auth_hours()
    AuthEvent.objects.all().delete()
    mark_now()
    make_event(at=NOON)
    roll_up_auth_hours()
    assert {key[0] for key in sums()} == {NOON - 3 * HOUR, NOON}


def test_the_mark_waits_for_a_transaction_that_is_still_open(
    make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that will appear when another connection commits lie after the mark, however long that takes."""
    monkeypatch.setattr(rollup, "NEXT_MARK", rollup.NEXT_MARK.replace("2 minutes", "0 minutes"))
    with other_connection() as writer:
        began = writer.execute("SELECT now(), pg_current_xact_id()").fetchone()
        assert began
        roll_up_auth_hours()
        assert rolled_up_until() == began[0]
        writer.rollback()
    roll_up_auth_hours()
    until = rolled_up_until()
    assert until
    assert until > began[0]


def test_the_mark_stays_two_minutes_behind() -> None:
    """A clock ahead of PostgreSQL's cannot carry the mark over rows to come."""
    roll_up_auth_hours(now=database_time() + timedelta(days=1))
    until = rolled_up_until()
    assert until
    assert until <= database_time() - timedelta(minutes=2)


def test_of_two_runs_at_once_one_goes_home(make_event: MakeEvent) -> None:
    """While another connection rolls up, a run does nothing and says 0."""
    make_event()
    with other_connection() as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [rollup._LOCK])
        assert roll_up_auth_hours() == 0
        other.rollback()
    assert roll_up_auth_hours() == 1


def test_hours_are_joined_only_where_they_touch() -> None:
    """A late row of last week does not make the week be read."""
    hours = [NOON, NOON + HOUR, NOON + 2 * HOUR, NOON + 9 * HOUR]
    assert rollup._ranges(hours) == [(NOON, NOON + 3 * HOUR), (NOON + 9 * HOUR, NOON + 10 * HOUR)]
    assert rollup._ranges([]) == []


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 240),  # minutes after noon
        st.sampled_from([None, 1, 2]),
        st.sampled_from(["192.0.2.1", "2001:db8::1"]),
        st.integers(1, 50),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(EVENTS, min_size=1, max_size=4))
def test_whatever_comes_in_whatever_order_the_sums_are_those_of_all_events(rounds: list[list[tuple[Any, ...]]]) -> None:
    """After any sequence of stores and runs, each hour holds exactly the counts of its events."""
    AuthEvent.objects.all().delete()
    AuthHour.objects.all().delete()
    RollupMark.objects.all().delete()
    expected: dict[tuple[Any, ...], int] = {}
    for events in rounds:
        for minutes, organization_id, ip, count in events:
            at = NOON + timedelta(minutes=minutes)
            each = attempt(
                at=at,
                organization_id=organization_id,
                ip=ip,
                count=count,
                result="refused",
                reason="throttled",
                port=587,
                worker="w",
            )
            record_auth_event(each)
            key = (at.replace(minute=0), organization_id, None, ip, "refused", "throttled")
            expected[key] = expected.get(key, 0) + count
        roll_up_auth_hours()
        mark_now()
    assert sums() == expected
