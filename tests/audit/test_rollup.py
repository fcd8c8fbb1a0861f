"""audit/rollup.py: sums that late rows and second runs cannot falsify."""

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import marks, rollup
from audit.models import AuthDay, AuthEvent, AuthHour, AuthPending, RollupMark
from audit.partitions import make_partitions
from audit.record import attempt, record_auth_event
from audit.rollup import roll_up_auth_hours, rolled_up_until, sum_again
from tests.audit.conftest import NOON, MakeEvent

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def database_time() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]  # type: ignore[no-any-return]


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
    """What was added is not added again."""
    make_event(count=3)
    make_event(organization_id=None, smtp_user_id=None)
    roll_up_auth_hours()
    first = sums()
    assert roll_up_auth_hours() == 0
    RollupMark.objects.all().delete()
    assert roll_up_auth_hours() == 0
    assert sums() == first


def test_a_row_stored_late_is_counted(make_event: MakeEvent) -> None:
    """A buffered attempt of hours ago is added to its own hour and day, and no other is touched."""
    make_event(at=NOON - 15 * HOUR)
    make_event(at=NOON)
    roll_up_auth_hours()
    make_event(at=NOON - 15 * HOUR + timedelta(minutes=1), count=2)
    assert roll_up_auth_hours() == 1
    assert {key[0]: count for key, count in sums().items()} == {NOON - 15 * HOUR: 3, NOON: 1}
    assert {row.day.day: row.count for row in AuthDay.objects.all()} == {9: 3, 10: 1}


def test_a_folded_row_that_grows_is_counted_whole_and_once(make_event: MakeEvent) -> None:
    """Before its first sum and after it: what it grew by is added, its end moves on."""
    row = make_event(count=5)
    AuthEvent.objects.filter(id=row.id).update(count=7)
    roll_up_auth_hours()
    AuthEvent.objects.filter(id=row.id).update(count=20, last_at=NOON + timedelta(seconds=50))
    AuthEvent.objects.filter(id=row.id).update(worker="another")
    roll_up_auth_hours()
    hour, day = AuthHour.objects.get(), AuthDay.objects.get()
    assert hour.count == day.count == 20
    assert hour.last_at == day.last_at == NOON + timedelta(seconds=50)


def test_an_upsert_is_counted_as_what_it_did(make_event: MakeEvent) -> None:
    """INSERT ... ON CONFLICT stores one row and changes another: each is counted for what is new in it."""
    row = make_event(count=2)
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO audit_authevent (at, id, reference, username_given, mechanism, result, reason, ip, network,
                   tls_version, tls_cipher, client_name, port, worker, count, last_at, samples, organization_id,
                   smtp_user_id)
               SELECT at, unnest(ARRAY[id, gen_random_uuid()]), reference, username_given, mechanism, result, reason,
                   ip, network, tls_version, tls_cipher, client_name, port, worker, 10, last_at, samples,
                   organization_id, smtp_user_id FROM audit_authevent WHERE id = %s
               ON CONFLICT (at, id) DO UPDATE SET count = audit_authevent.count + excluded.count""",
            [row.id],
        )
    roll_up_auth_hours()
    assert AuthHour.objects.get().count == 22


def test_a_row_that_changes_its_group_leaves_the_old_one(make_event: MakeEvent) -> None:
    """A group of which nothing is left is removed."""
    row = make_event(ip="192.0.2.1")
    roll_up_auth_hours()
    AuthEvent.objects.filter(id=row.id).update(ip="192.0.2.2")
    roll_up_auth_hours()
    assert [key[3] for key in sums()] == ["192.0.2.2"]
    assert [row.ip for row in AuthDay.objects.all()] == ["192.0.2.2"]


def test_without_new_rows_nothing_is_read(make_event: MakeEvent) -> None:
    """A quiet installation costs nothing."""
    make_event()
    roll_up_auth_hours()
    assert roll_up_auth_hours() == 0


def test_other_hours_are_left_alone(make_event: MakeEvent) -> None:
    """Sums of an hour that nothing touched stay, even without their events."""
    make_event(at=NOON - 3 * HOUR)
    roll_up_auth_hours()
    AuthEvent.objects.all().delete()
    make_event(at=NOON)
    roll_up_auth_hours()
    assert {key[0] for key in sums()} == {NOON - 3 * HOUR, NOON}


def test_rows_that_move_into_their_partition_are_not_counted_again(make_event: MakeEvent) -> None:
    """An event of a day without a partition waits in DEFAULT, and is counted where it was stored."""
    later = timezone.now() + timedelta(days=9)
    make_event(at=later)
    roll_up_auth_hours()
    assert make_partitions(days_ahead=9)
    roll_up_auth_hours()
    assert list(sums().values()) == [1]


def test_what_dies_halfway_has_done_nothing(make_event: MakeEvent) -> None:
    """A run whose transaction is not committed leaves what was new to the next one."""
    make_event(count=4)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        roll_up_auth_hours()
        raise ZeroDivisionError
    assert not AuthHour.objects.exists()
    roll_up_auth_hours()
    assert list(sums().values()) == [4]


@pytest.mark.django_db(transaction=True)
def test_rows_of_an_open_transaction_are_counted_when_it_ends(make_event: MakeEvent) -> None:
    """A writer that began before a run and commits after it is counted by the next run."""
    row = make_event()
    roll_up_auth_hours()
    with other_connection() as writer:
        writer.execute("UPDATE audit_authevent SET count = 9 WHERE id = %s", [row.id])
        assert roll_up_auth_hours() == 0
        writer.commit()
    roll_up_auth_hours()
    assert list(sums().values()) == [9]


def test_sums_made_anew_are_the_same(make_event: MakeEvent) -> None:
    """sum_again() mends sums that somebody falsified, counts what was pending, and leaves other days alone."""
    make_event(at=NOON - 24 * HOUR, count=3)
    make_event(at=NOON, count=40, last_at=NOON + timedelta(minutes=1))
    roll_up_auth_hours()
    right = sums()
    AuthHour.objects.update(count=1000)
    AuthDay.objects.update(count=1000)
    make_event(at=NOON, count=2)
    sum_again(since=NOON, until=NOON + HOUR)
    assert {key[0]: count for key, count in sums().items()} == {NOON - 24 * HOUR: 1000, NOON: 42}
    sum_again(since=NOON - 24 * HOUR, until=NOON)
    assert sums() == {key: count + (2 if key[0] == NOON else 0) for key, count in right.items()}
    assert sum(AuthDay.objects.values_list("count", flat=True)) == 45
    assert roll_up_auth_hours() == 0


def test_the_triggers_fire_for_a_bulk_load_too() -> None:
    """A session that turns triggers off, as a restore does, cannot turn off these."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname, tgenabled::text FROM pg_trigger"
            " WHERE tgrelid = 'audit_authevent'::regclass AND NOT tgisinternal"
        )
        assert dict(cursor.fetchall()) == {"auth_event_stored": "A", "auth_event_changed": "A"}


def test_the_mark_waits_for_a_transaction_that_is_still_open(
    make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that will appear when another connection commits lie after the mark, however long that takes."""
    monkeypatch.setattr(marks, "NEXT_MARK", marks.NEXT_MARK.replace("2 minutes", "0 minutes"))
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
    AuthPending.objects.all().delete()
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
    assert sums() == expected
