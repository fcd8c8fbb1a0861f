"""Who signed in with what: accepted sign-ins by day, and what has happened since the last sum.

Shapes  LoginDay from AuthEvent: every day that a row stored since the mark touches is summed again, whole.
        LoginUse: sign-ins of one credential from one address with one mechanism and TLS version, over the time asked.
Units   since: taken down to its UTC day. count: attempts, a folded run with all of its own, as of the last sum (every
        two minutes). No use is missing, however new: what the sums do not know yet is added from the events.
Errors  Those of the database; nothing is half done then, the next run does it all.
Source  docs/data.md, LoginDay.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Aggregate, BooleanField, ExpressionWrapper, Max, Min, Q, QuerySet, Sum, TextField
from django.utils import timezone

from audit.marks import mark_of, next_mark, set_mark
from audit.models import AuthEvent, LoginDay, Result

MARK: Final = "login_days"
TAIL: Final = timedelta(minutes=10)  # of events that the sums may not have yet, if the rollup runs
_LOCK: Final = 0x6761_7465_0003  # advisory: of two rollups at once, one goes home
_KEY: Final = ("smtp_user_id", "app_password_id", "ip", "mechanism", "tls_version")

_TOUCHED = """
    SELECT DISTINCT (at AT TIME ZONE 'UTC')::date FROM audit_authevent
    WHERE stored_at >= coalesce(%s, '-infinity'::timestamptz) AND result = 'accepted' ORDER BY 1
"""
# Ids are never negative, so -1 can stand for NULL and the join can hash. Sums that did not change are not written.
_SUM_AGAIN = """
    WITH sums AS MATERIALIZED (
        SELECT %(day)s::date AS day, organization_id, smtp_user_id, app_password_id, ip, mechanism, tls_version,
               (array_agg(client_name ORDER BY last_at DESC))[1] AS client_name,
               sum(count)::bigint AS count, min(at) AS first_at, max(last_at) AS last_at
        FROM audit_authevent WHERE at >= %(start)s AND at < %(end)s AND result = 'accepted'
        GROUP BY organization_id, smtp_user_id, app_password_id, ip, mechanism, tls_version
    ), vanished AS (
        DELETE FROM audit_loginday AS old WHERE old.day = %(day)s AND NOT EXISTS (
            SELECT FROM sums WHERE sums.ip = old.ip AND sums.mechanism = old.mechanism
            AND sums.tls_version = old.tls_version
            AND coalesce(sums.organization_id, -1) = coalesce(old.organization_id, -1)
            AND coalesce(sums.smtp_user_id, -1) = coalesce(old.smtp_user_id, -1)
            AND coalesce(sums.app_password_id, -1) = coalesce(old.app_password_id, -1)
        )
    )
    INSERT INTO audit_loginday AS old (day, organization_id, smtp_user_id, app_password_id, ip, mechanism, tls_version,
                                       client_name, count, first_at, last_at)
    SELECT day, organization_id, smtp_user_id, app_password_id, ip, mechanism, tls_version,
           client_name, count, first_at, last_at FROM sums
    ON CONFLICT (day, organization_id, smtp_user_id, app_password_id, ip, mechanism, tls_version) DO UPDATE
    SET client_name = excluded.client_name, count = excluded.count,
        first_at = excluded.first_at, last_at = excluded.last_at
    WHERE (old.count, old.first_at, old.last_at) IS DISTINCT FROM (excluded.count, excluded.first_at, excluded.last_at)
"""


def roll_up_login_days(now: datetime | None = None) -> int:
    """Sum every day touched since the last run. The number of days summed; 0 as well while another run is at it."""
    with transaction.atomic(), connection.cursor() as cursor:
        if not _value(cursor, "SELECT pg_try_advisory_xact_lock(%s)", [_LOCK]):
            return 0
        until = next_mark(now)  # before the rows are read
        cursor.execute(_TOUCHED, [mark_of(MARK)])
        days = [day for (day,) in cursor.fetchall()]
        for day in days:
            start = _midnight(day)
            cursor.execute(_SUM_AGAIN, {"day": day, "start": start, "end": start + timedelta(days=1)})
        set_mark(MARK, until)
        return len(days)


@dataclass(frozen=True, slots=True)
class LoginUse:
    """Accepted sign-ins that have all of this in common. client_name: of the last one."""

    organization_id: int | None
    smtp_user_id: int | None
    app_password_id: int | None
    ip: str
    mechanism: str
    tls_version: str
    client_name: str
    count: int
    first_at: datetime
    last_at: datetime


def logins(
    organization_id: int | None,
    *,
    since: datetime,
    smtp_user_id: int | None = None,
    app_password_id: int | None = None,
    now: datetime | None = None,
) -> list[LoginUse]:
    """Every use since that day, most first. organization_id None: of the whole installation, for operators."""
    whose = {"organization_id": organization_id, "smtp_user_id": smtp_user_id, "app_password_id": app_password_id}
    wanted = {name: value for name, value in whose.items() if value is not None}
    days = LoginDay.objects.filter(day__gte=since.astimezone(UTC).date(), **wanted)
    recent = AuthEvent.objects.filter(at__gte=_tail_since(since, now or timezone.now()), **wanted)
    found = {_key_of(use): use for use in _uses(recent.filter(result=Result.ACCEPTED), first="at")}
    for use in _uses(days, first="first_at"):
        newest = found.get(_key_of(use))
        found[_key_of(use)] = use if newest is None or newest.last_at <= use.last_at else _with_last(use, newest)
    return sorted(found.values(), key=lambda use: (-use.count, use.ip))


@dataclass(frozen=True, slots=True)
class LoginKind:
    mechanism: str
    tls_version: str
    by_app_password: bool


def login_counts(organization_id: int | None, *, since: datetime, now: datetime | None = None) -> dict[LoginKind, int]:
    """Accepted sign-ins since that day by kind; one that is used for the first time is not missing."""
    whose = {} if organization_id is None else {"organization_id": organization_id}
    days = LoginDay.objects.filter(day__gte=since.astimezone(UTC).date(), **whose)
    recent = AuthEvent.objects.filter(at__gte=_tail_since(since, now or timezone.now()), **whose)
    found: dict[LoginKind, int] = {}
    for rows in (recent.filter(result=Result.ACCEPTED), days):  # the sums' own count is the later word
        found.update(_by_kind(rows))
    return found


def _by_kind(rows: QuerySet[LoginDay] | QuerySet[AuthEvent]) -> dict[LoginKind, int]:
    by_app_password = ExpressionWrapper(Q(app_password_id__isnull=False), output_field=BooleanField())
    kinds = rows.values_list("mechanism", "tls_version", by_app_password).annotate(attempts=Sum("count")).order_by()
    return {LoginKind(*kind): attempts for *kind, attempts in kinds}


class _LastClient(Aggregate):
    """The client's name of the last sign-in, behind its time: a maximum, where an ordered array would sort all rows."""

    TIME = 20  # characters
    template = "max(to_char(%(expressions)s))"
    arg_joiner = " AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') || ("
    output_field = TextField()


def _uses(rows: QuerySet[LoginDay] | QuerySet[AuthEvent], *, first: str) -> Iterable[LoginUse]:
    sums = (
        rows.values("organization_id", *_KEY)
        .annotate(
            attempts=Sum("count"),
            earliest=Min(first),
            latest=Max("last_at"),
            last_client=_LastClient("last_at", "client_name"),
        )
        .order_by()
    )
    for row in sums:
        yield LoginUse(
            **{name: row[name] for name in ("organization_id", *_KEY)},
            client_name=row["last_client"][_LastClient.TIME :],
            count=row["attempts"],
            first_at=row["earliest"],
            last_at=row["latest"],
        )


def _with_last(use: LoginUse, newest: LoginUse) -> LoginUse:
    """The sums with the last moment of the events: their count follows with the next run."""
    count = max(use.count, newest.count)
    return replace(use, client_name=newest.client_name, count=count, last_at=newest.last_at)


def _key_of(use: LoginUse) -> tuple[Any, ...]:
    return (use.organization_id, *(getattr(use, name) for name in _KEY))


def _tail_since(since: datetime, now: datetime) -> datetime:
    """From where on events are read: a little before what the sums have, or all of the time if they have nothing."""
    mark, first = mark_of(MARK), _midnight(since.astimezone(UTC).date())
    return max(first, min(mark, now) - TAIL) if mark else first


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _value(cursor: Any, query: str, parameters: list[Any]) -> Any:
    cursor.execute(query, parameters)
    return cursor.fetchone()[0]
