"""Sums of authentication attempts by hour: AuthHour from AuthEvent.

Shapes  Every hour that a row stored since the mark touches is summed again from its events, whole: running twice, or
        over rows that came late, gives the same sums. What is summed is AuthEvent.count: a folded run counts whole.
Units   now: aware; it can only hold the mark back, never carry it past PostgreSQL's own clock.
Errors  Those of the database; nothing is half done then, the next run does it all.
Source  docs/data.md, AuthHour.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from audit.models import RollupMark

MARK: Final = "auth_hours"
_LOCK: Final = 0x6761_7465_0002  # advisory: of two rollups at once, one goes home
_HOUR: Final = timedelta(hours=1)

# A row is stamped when its statement starts, and seen when its transaction ends. The mark stays behind the start of
# every transaction that writes, and 2 minutes behind in any case, so that no row can appear behind it.
NEXT_MARK = """
    SELECT least(
        least(%s, clock_timestamp()) - interval '2 minutes',
        (SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()
         AND pid <> pg_backend_pid())
    )
"""
_TOUCHED = """
    SELECT DISTINCT date_trunc('hour', at, 'UTC') FROM audit_authevent
    WHERE stored_at >= coalesce(%s, '-infinity'::timestamptz) ORDER BY 1
"""
# Ids are never negative, so -1 can stand for NULL and the join can hash. Sums that did not change are not written.
_SUM_AGAIN = """
    WITH sums AS MATERIALIZED (
        SELECT date_trunc('hour', at, 'UTC') AS hour, organization_id, smtp_user_id, ip, result, reason,
               sum(count)::bigint AS count, min(at) AS first_at, max(last_at) AS last_at
        FROM audit_authevent WHERE at >= %(start)s AND at < %(end)s
        GROUP BY 1, 2, 3, 4, 5, 6
    ), vanished AS (
        DELETE FROM audit_authhour AS old WHERE old.hour >= %(start)s AND old.hour < %(end)s AND NOT EXISTS (
            SELECT FROM sums WHERE sums.hour = old.hour AND sums.ip = old.ip
            AND sums.result = old.result AND sums.reason = old.reason
            AND coalesce(sums.organization_id, -1) = coalesce(old.organization_id, -1)
            AND coalesce(sums.smtp_user_id, -1) = coalesce(old.smtp_user_id, -1)
        )
    )
    INSERT INTO audit_authhour AS old
        (hour, organization_id, smtp_user_id, ip, result, reason, count, first_at, last_at)
    SELECT hour, organization_id, smtp_user_id, ip, result, reason, count, first_at, last_at FROM sums
    ON CONFLICT (hour, organization_id, smtp_user_id, ip, result, reason) DO UPDATE
    SET count = excluded.count, first_at = excluded.first_at, last_at = excluded.last_at
    WHERE (old.count, old.first_at, old.last_at) IS DISTINCT FROM (excluded.count, excluded.first_at, excluded.last_at)
"""


def roll_up_auth_hours(now: datetime | None = None) -> int:
    """Sum every hour touched since the last run. The number of hours summed; 0 as well while another run is at it."""
    with transaction.atomic(), connection.cursor() as cursor:
        if not _value(cursor, "SELECT pg_try_advisory_xact_lock(%s)", [_LOCK]):
            return 0
        mark = RollupMark.objects.filter(name=MARK).values_list("done_until", flat=True).first()
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees the same activity to its end
        next_mark = _value(cursor, NEXT_MARK, [now])  # before the rows are read
        cursor.execute(_TOUCHED, [mark])
        hours = [hour for (hour,) in cursor.fetchall()]
        for start, end in _ranges(hours):
            cursor.execute(_SUM_AGAIN, {"start": start, "end": end})
        RollupMark.objects.update_or_create(name=MARK, defaults={"done_until": next_mark})
        return len(hours)


def rolled_up_until() -> datetime | None:
    """Everything stored before is in the sums; None before the first run."""
    return RollupMark.objects.filter(name=MARK).values_list("done_until", flat=True).first()


def _ranges(hours: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """Ascending hours joined where they touch: a late row of last month must not make the month be read."""
    ranges: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if ranges and ranges[-1][1] == hour:
            ranges[-1] = (ranges[-1][0], hour + _HOUR)
        else:
            ranges.append((hour, hour + _HOUR))
    return ranges


def _value(cursor: Any, query: str, parameters: list[Any]) -> Any:
    cursor.execute(query, parameters)
    return cursor.fetchone()[0]
