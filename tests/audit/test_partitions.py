"""audit/partitions.py and the migration: daily partitions, made ahead, filled from DEFAULT, dropped."""

from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from audit.models import AuthEvent
from audit.partitions import drop_expired, make_partitions, partition_names
from tests.audit.conftest import NOON, MakeEvent

pytestmark = pytest.mark.django_db


def partition_of(event: AuthEvent) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM audit_authevent WHERE id = %s", [event.id])
        return str(cursor.fetchone()[0])


def rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def columns(where: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
               WHERE attrelid = '{where}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
        )
        return list(cursor.fetchall())


def index_shapes(where: str) -> set[str]:
    """The definitions of a table's indexes without their names and their table's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass", [where])
        return {definition.partition(" USING ")[2] for (definition,) in cursor.fetchall()}


def test_the_migrations_know_all_of_the_models() -> None:
    """makemigrations would add nothing to audit."""
    call_command("makemigrations", "audit", check=True, dry_run=True, verbosity=0)


def test_the_table_made_in_sql_is_the_table_that_django_would_make() -> None:
    """Columns, types, nullability and indexes are those that Django makes of the model's state."""
    with connection.schema_editor() as editor:
        table, AuthEvent._meta.db_table = AuthEvent._meta.db_table, "audit_twin"
        try:
            for index in AuthEvent._meta.indexes:
                index.name = f"twin_{index.name}"
            editor.create_model(AuthEvent)
        finally:
            AuthEvent._meta.db_table = table
            for index in AuthEvent._meta.indexes:
                index.name = index.name.removeprefix("twin_")
    assert sorted(columns("audit_authevent")) == sorted(columns("audit_twin"))  # columns that came later stand last
    assert index_shapes("audit_authevent") == index_shapes("audit_twin")


def test_today_and_seven_days_are_there_after_the_migration() -> None:
    """An installation that was just made has its partitions."""
    today = timezone.now().date()
    wanted = {f"auth_event_{today + timedelta(days=ahead):%Y%m%d}" for ahead in range(7)}
    assert wanted <= set(partition_names())


def test_an_event_of_today_is_in_its_partition(make_event: MakeEvent) -> None:
    """Rows of a day that has a partition do not go to DEFAULT."""
    now = timezone.now()
    make_partitions()
    assert partition_of(make_event(at=now)) == f"auth_event_{now:%Y%m%d}"


def test_rows_that_waited_in_default_move_into_the_new_partition(make_event: MakeEvent) -> None:
    """Whole, with their stamps, at both ends of the day; those of other days stay."""
    first = datetime(2026, 3, 10, tzinfo=UTC)
    moved = [
        make_event(at=first),
        make_event(at=NOON, samples=["a"]),
        make_event(at=first + timedelta(days=1, microseconds=-1)),
    ]
    other = make_event(at=first + timedelta(days=40))
    before = list(AuthEvent.objects.order_by("at").values())
    assert partition_of(moved[0]) == "auth_event_default"
    made = make_partitions(2, now=NOON)
    assert made == ["auth_event_20260310", "auth_event_20260311", "auth_event_20260312"]
    assert {partition_of(event) for event in moved} == {"auth_event_20260310"}
    assert partition_of(other) == "auth_event_default"
    assert list(AuthEvent.objects.order_by("at").values()) == before


def test_a_day_that_was_missed_gets_its_partition_later(make_event: MakeEvent) -> None:
    """Days without a scheduler end in DEFAULT, and leave it as soon as it runs again."""
    event = make_event(at=NOON - timedelta(days=9))
    assert "auth_event_20260301" in make_partitions(0, now=NOON)
    assert partition_of(event) == "auth_event_20260301"


def test_a_wild_clock_makes_no_partition(make_event: MakeEvent) -> None:
    """A row of 1970 or of next year stays in DEFAULT."""
    make_event(at=datetime(1970, 1, 1, tzinfo=UTC))
    make_event(at=NOON + timedelta(days=300))
    assert make_partitions(0, now=NOON) == ["auth_event_20260310"]


def test_making_twice_makes_nothing() -> None:
    """It can be run at every start and every hour."""
    make_partitions(3, now=NOON)
    assert make_partitions(3, now=NOON) == []


def test_the_new_partition_has_every_index_and_default(make_event: MakeEvent) -> None:
    """Nothing of the parent is missing, the primary key and the stamp included."""
    make_partitions(0, now=NOON)
    assert columns("auth_event_20260310") == columns("audit_authevent")
    assert index_shapes("auth_event_20260310") == index_shapes("audit_authevent")
    event = make_event(at=NOON)
    assert AuthEvent.objects.get(pk=(event.at, event.id)).stored_at is not None


def test_a_failure_midway_loses_nothing(make_event: MakeEvent) -> None:
    """Rows leave DEFAULT and arrive in the partition in one transaction, or stay where they are."""
    event = make_event(at=NOON)

    def fail_at_attach(execute: Any, query: Any, *rest: Any) -> Any:
        if "ATTACH" in str(query):
            assert rows("auth_event_20260310") == 1  # it was moved, and nothing but ATTACH is missing
            raise RuntimeError("the server went away")
        return execute(query, *rest)

    with connection.execute_wrapper(fail_at_attach), pytest.raises(RuntimeError, match="went away"):
        make_partitions(0, now=NOON)
    assert partition_of(event) == "auth_event_default"


def test_two_makers_at_once_make_each_day_once(committed: int) -> None:
    """Every process may make partitions at its start."""
    made: list[str] = []
    future = timezone.now() + timedelta(days=2000)

    def make() -> None:
        try:
            made.extend(make_partitions(2, now=future))
        finally:
            connection.close()

    threads = [Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == len(set(made)) == 3
    with connection.cursor() as cursor:
        for name in made:
            cursor.execute(f"DROP TABLE {name}")


def test_old_days_are_dropped_whole_and_from_default(make_event: MakeEvent) -> None:
    """Ten days kept: day eleven goes, with its rows wherever they are; day ten and the future stay."""
    kept = make_event(at=NOON - timedelta(days=10))
    make_event(at=NOON - timedelta(days=11))
    make_partitions(0, now=NOON)
    stray = make_event(at=NOON - timedelta(days=500))
    dropped = drop_expired(days=10, now=NOON)
    assert dropped == ["auth_event_20260227"]
    assert "auth_event_20260228" in partition_names()
    assert list(AuthEvent.objects.values_list("id", flat=True)) == [kept.id]
    assert not AuthEvent.objects.filter(id=stray.id).exists()
