"""Sums of authentication attempts by hour and by day: AuthHour and AuthDay, from what AuthPending holds.

Shapes  A trigger of AuthEvent puts what each statement stored, or changed, into AuthPending, in the same transaction.
        A run takes all of it away and adds it to the sums, in one transaction: nothing is counted twice or not at all,
        whatever dies between, however late a row comes; and it costs what is new, not what is there. What is summed
        is AuthEvent.count: a folded run counts whole, and again as it grows.
        sum_again() makes the sums of some hours and days anew from the events: a repair, and what tests compare with.
Units   Hours and days are UTC's. now: aware; only for the mark, which it can hold back.
Errors  Those of the database; nothing is half done then, the next run does it all.
Source  docs/data.md, AuthHour; audit/migrations/0006_sums_at_once.py.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from audit.marks import mark_of, next_mark, set_mark

MARK: Final = "auth_hours"
_LOCK: Final = 0x6761_7465_0002  # advisory: of two rollups at once, one goes home
_DAY: Final = timedelta(days=1)

_GROUP: Final = "organization_id, smtp_user_id, ip, result, reason"
_ADD = f"""
    WITH taken AS (DELETE FROM audit_authpending RETURNING hour, {_GROUP}, count, first_at, last_at),
    sums AS MATERIALIZED (
        SELECT hour, {_GROUP}, sum(count)::bigint AS count, min(first_at) AS first_at, max(last_at) AS last_at
        FROM taken GROUP BY hour, {_GROUP} HAVING sum(count) <> 0
    ), hours AS (
        INSERT INTO audit_authhour AS old (hour, {_GROUP}, count, first_at, last_at)
        SELECT hour, {_GROUP}, count, first_at, last_at FROM sums
        ON CONFLICT (hour, {_GROUP}) DO UPDATE SET count = old.count + excluded.count,
            first_at = least(old.first_at, excluded.first_at), last_at = greatest(old.last_at, excluded.last_at)
    ), days AS (
        INSERT INTO audit_authday AS old (day, {_GROUP}, count, first_at, last_at)
        SELECT (hour AT TIME ZONE 'UTC')::date, {_GROUP}, sum(count), min(first_at), max(last_at)
        FROM sums GROUP BY 1, {_GROUP}
        ON CONFLICT (day, {_GROUP}) DO UPDATE SET count = old.count + excluded.count,
            first_at = least(old.first_at, excluded.first_at), last_at = greatest(old.last_at, excluded.last_at)
    )
    SELECT count(DISTINCT hour), coalesce(bool_or(count < 0), false), min(hour), max(hour) FROM sums
"""  # noqa: S608  # only names of columns are put into it
_EMPTY_GROUPS = """
    DELETE FROM audit_authhour WHERE hour BETWEEN %(first)s AND %(last)s AND count <= 0;
    DELETE FROM audit_authday WHERE day BETWEEN (%(first)s AT TIME ZONE 'UTC')::date
                                        AND (%(last)s AT TIME ZONE 'UTC')::date AND count <= 0
"""
_SUM_AGAIN = f"""
    LOCK TABLE audit_authpending IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM audit_authpending WHERE hour >= %(start)s AND hour < %(end)s;
    DELETE FROM audit_authhour WHERE hour >= %(start)s AND hour < %(end)s;
    DELETE FROM audit_authday WHERE day >= (%(start)s AT TIME ZONE 'UTC')::date
                                AND day < (%(end)s AT TIME ZONE 'UTC')::date;
    INSERT INTO audit_authhour (hour, {_GROUP}, count, first_at, last_at)
    SELECT date_trunc('hour', at, 'UTC'), {_GROUP}, sum(count), min(coalesce(first_at, at)), max(last_at)
    FROM audit_authevent WHERE at >= %(start)s AND at < %(end)s GROUP BY 1, {_GROUP};
    INSERT INTO audit_authday (day, {_GROUP}, count, first_at, last_at)
    SELECT (hour AT TIME ZONE 'UTC')::date, {_GROUP}, sum(count), min(first_at), max(last_at)
    FROM audit_authhour WHERE hour >= %(start)s AND hour < %(end)s GROUP BY 1, {_GROUP}
"""  # noqa: S608


def roll_up_auth_hours(now: datetime | None = None) -> int:
    """Add what is new. The number of hours that it touched; 0 as well while another run is at it."""
    with transaction.atomic(), connection.cursor() as cursor:
        if not _row(cursor, "SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])[0]:
            return 0
        until = next_mark(now)  # before the rows are read
        hours, less, first, last = _row(cursor, _ADD, [])
        if less:
            cursor.execute(_EMPTY_GROUPS, {"first": first, "last": last})
        set_mark(MARK, until)
        return int(hours)


def sum_again(*, since: datetime, until: datetime) -> None:
    """Make the sums of whole UTC days anew from their events; writers of new events wait meanwhile."""
    start, end = _midnight(since), _midnight(until + _DAY - timedelta(microseconds=1))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute(_SUM_AGAIN, {"start": start, "end": end})


def rolled_up_until() -> datetime | None:
    """Everything stored before is in the sums; None before the first run."""
    return mark_of(MARK)


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _row(cursor: Any, query: str, parameters: list[Any]) -> Any:
    cursor.execute(query, parameters)
    return cursor.fetchone()
