"""Daily partitions of AuthEvent: made ahead, filled from the DEFAULT partition where rows came first, dropped when old.

Shapes  auth_event_YYYYMMDD holds one UTC day of `at`; auth_event_default holds what has no day yet.
Units   days_ahead, days: whole UTC days. now: aware.
Errors  OperationalError (lock_not_available) if a lock is not had in 5 s: nothing is half done, run again.
Source  PostgreSQL manual 5.12 (table partitioning), ALTER TABLE (locks of ATTACH PARTITION); docs/data.md.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.utils import timezone
from psycopg import sql

TABLE: Final = sql.Identifier("audit_authevent")
DEFAULT: Final = sql.Identifier("auth_event_default")
_PREFIX: Final = "auth_event_"
_LOCK: Final = 0x6761_7465_0001  # advisory: one maker or dropper of partitions at a time
_LOCK_TIMEOUT: Final = "5s"
_PAST_DAYS: Final = 400  # rows of a wild clock stay in the DEFAULT partition: no partition for the year 1970


def make_partitions(days_ahead: int = 7, now: datetime | None = None) -> list[str]:
    """Make the partitions of today and the days ahead, and of each day of which DEFAULT has rows; the new names."""
    today = _today(now)
    wanted = {today + timedelta(days=ahead) for ahead in range(days_ahead + 1)}
    wanted |= _days_in_default(since=today - timedelta(days=_PAST_DAYS), until=today + timedelta(days=days_ahead))
    return [_name(day) for day in sorted(wanted - _existing_days()) if _make(day)]


def drop_expired(*, days: int, now: datetime | None = None) -> list[str]:
    """Drop the partitions of the days before the last `days` whole days, and such rows of DEFAULT; the names."""
    first_kept = _today(now) - timedelta(days=days)
    dropped = [_name(day) for day in sorted(_existing_days()) if day < first_kept and _drop(day)]
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DELETE FROM {} WHERE at < %s").format(DEFAULT), [_midnight(first_kept)])
    return dropped


def partition_names() -> list[str]:
    """The daily partitions that exist, oldest first."""
    return [_name(day) for day in sorted(_existing_days())]


def _make(day: date) -> bool:
    """One day in one transaction. ATTACH, unlike CREATE ... PARTITION OF, lets inserts and reads go on."""
    partition = sql.Identifier(_name(day))
    bounds = [_midnight(day), _midnight(day + timedelta(days=1))]
    with transaction.atomic(), connection.cursor() as cursor:
        _serialize(cursor)
        if day in _existing_days():
            return False  # another maker was faster
        cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(TABLE))
        cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(DEFAULT))
        cursor.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES)").format(partition, TABLE))
        columns = sql.SQL(", ").join(map(sql.Identifier, _stored_columns(cursor)))
        # Straight into the partition, which has no triggers: these rows have been counted.
        cursor.execute(
            sql.SQL(
                """WITH moved AS (DELETE FROM {} WHERE at >= %s AND at < %s RETURNING {})
                   INSERT INTO {} ({}) SELECT * FROM moved"""
            ).format(DEFAULT, columns, partition, columns),
            bounds,
        )
        cursor.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                TABLE, partition, *(sql.Literal(bound.isoformat()) for bound in bounds)
            )
        )
    return True


def _drop(day: date) -> bool:
    with transaction.atomic(), connection.cursor() as cursor:
        _serialize(cursor)
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(_name(day))))
    return True


def _serialize(cursor: Any) -> None:
    """One at a time, and never in the way of the writers for long: a waiting lock would hold up all who come after."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])


def _stored_columns(cursor: Any) -> list[str]:
    """Those that can be written: PostgreSQL makes the generated ones itself."""
    cursor.execute(
        """SELECT attname FROM pg_attribute WHERE attrelid = 'audit_authevent'::regclass
           AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"""
    )
    return [name for (name,) in cursor.fetchall()]


def _existing_days() -> set[date]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
               WHERE inhparent = 'audit_authevent'::regclass AND relname ~ '^auth_event_[0-9]{8}$'"""
        )
        return {datetime.strptime(name, f"{_PREFIX}%Y%m%d").date() for (name,) in cursor.fetchall()}


def _days_in_default(*, since: date, until: date) -> set[date]:
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("SELECT DISTINCT (at AT TIME ZONE 'UTC')::date FROM {} WHERE at >= %s AND at < %s").format(DEFAULT),
            [_midnight(since), _midnight(until + timedelta(days=1))],
        )
        return {day for (day,) in cursor.fetchall()}


def _name(day: date) -> str:
    return f"{_PREFIX}{day:%Y%m%d}"


def _today(now: datetime | None) -> date:
    return (now or timezone.now()).astimezone(UTC).date()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
