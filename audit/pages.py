"""Pages of the auth log, newest first, at any size and with any filters.

Shapes  A page is looked for kind by kind (AuthKind: result, reason, mechanism and TLS version as one number), because
        every index has the kind beside what is looked for and then the time: each probe reads only what fits. And time
        by time: today, then stretches of the past that double, so that a full page reads one partition.
        Where an address is asked for together with something else, the sums by day say on which days there is any.
Units   SECONDS: what PostgreSQL may take for all of one page.
Errors  SearchTooLong: the filters fit neither index nor sums, and too much lies between the rows; ask for a shorter time.
Source  docs/data.md, AuthKind; audit/queries.py for what the filters mean.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import OperationalError, connection, transaction
from django.db.models import Q
from django.utils import timezone
from psycopg.errors import QueryCanceled

from audit.models import AuthDay, AuthEvent, AuthKind, AuthPending
from audit.record import printable

SECONDS: Final = 5
LONGEST_DAYS: Final = 64  # of one stretch; what lies beyond is read as one
NONE: Final = "-"  # for mechanism and tls: the client named no mechanism, the connection had no TLS
OTHER: Final = "?"  # AuthKind.mechanism of all that are none of ours
_FIELDS: Final = [field.attname for field in AuthEvent._meta.concrete_fields]
_COLUMNS: Final = ", ".join(_FIELDS)
_BEGINNING: Final = datetime(1, 1, 2, tzinfo=UTC)
_END: Final = datetime(9999, 12, 30, tzinfo=UTC)


class SearchTooLong(Exception):
    """PostgreSQL was stopped: a shorter time, or fewer filters, finds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A page as SQL sees it: kinds, and conditions on columns that an index has."""

    kinds: Sequence[int]
    conditions: Sequence[tuple[str, Any]]  # "column = %s", its value
    nobodys: bool = False  # only what belongs to no organization
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, Any] | None = None
    days: Sequence[date] | None = None  # None: any


def read(wanted: Wanted, *, limit: int) -> list[AuthEvent]:
    """Raises SearchTooLong."""
    rows: list[AuthEvent] = []
    if not wanted.kinds:
        return rows
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{SECONDS}s"])
            for since, until in _stretches(wanted):
                rows += _stretch(cursor, wanted, since=since, until=until, limit=limit - len(rows))
                if len(rows) >= limit:
                    break
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise SearchTooLong from error
        raise
    return rows


def _stretch(cursor: Any, wanted: Wanted, *, since: datetime, until: datetime, limit: int) -> list[AuthEvent]:
    conditions = ["kind = wanted.kind", "at >= %s", "at < %s", *(text for text, _value in wanted.conditions)]
    values: list[Any] = [list(wanted.kinds), since, until, *(value for _text, value in wanted.conditions)]
    if wanted.nobodys:
        conditions.append("organization_id IS NULL")
    if wanted.before:
        # The first condition says what the second implies, in the form that an index takes.
        conditions += ["at <= %s", "(at < %s OR id < %s)"]
        values += [wanted.before[0], wanted.before[0], wanted.before[1]]
    # Only columns and placeholders are put into the text.
    query = f"""
        SELECT found.* FROM unnest(%s::integer[]) AS wanted (kind) CROSS JOIN LATERAL (
            SELECT {_COLUMNS} FROM audit_authevent WHERE {" AND ".join(conditions)}
            ORDER BY at DESC, id DESC LIMIT %s
        ) AS found ORDER BY at DESC, id DESC LIMIT %s
    """  # noqa: S608
    cursor.execute(query, [*values, limit, limit])
    return [AuthEvent.from_db(connection.alias, _FIELDS, row) for row in cursor.fetchall()]


def _stretches(wanted: Wanted) -> Iterator[tuple[datetime, datetime]]:
    """Newest first; together they are the time that is asked for."""
    first = wanted.since or _BEGINNING
    last = min(wanted.until or _END, wanted.before[0] + timedelta(microseconds=1) if wanted.before else _END)
    between = _of_days(wanted.days) if wanted.days is not None else _doubling(min(last, timezone.now()))
    for since, until in between:
        since, until = max(since, first), min(until, last)
        if since < until:
            yield since, until
        if until <= first:
            return


def _doubling(newest: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The newest day and whatever lies ahead of it, the day before it, two before that, four …, and all the rest."""
    until, since, days = _END, _midnight(newest.astimezone(UTC).date()), 1
    while days <= LONGEST_DAYS:
        yield since, until
        try:
            until, since, days = since, since - timedelta(days=days), days * 2
        except OverflowError:  # a cursor of the year 1
            break
    yield _BEGINNING, until


def _of_days(days: Sequence[date]) -> Iterator[tuple[datetime, datetime]]:
    for day in sorted(set(days), reverse=True):
        yield _midnight(day), _midnight(day) + timedelta(days=1)


def kinds_of(
    organization_id: int | None, *, result: str = "", reason: str = "", mechanism: str = "", tls: str = ""
) -> list[int]:
    """The kinds that the organization, or anybody, has had and that fit. A mechanism that is none of ours fits OTHER."""
    kinds = AuthKind.objects.all()
    if organization_id is not None:
        kinds = kinds.filter(organization_id=organization_id)
    equal = {
        "result": result,
        "reason": reason,
        "tls_version": "" if tls == NONE else printable(tls, 16),
    }
    asked = {"result": bool(result), "reason": bool(reason), "tls_version": bool(tls)}
    kinds = kinds.filter(**{name: value for name, value in equal.items() if asked[name]})
    if mechanism:
        kinds = kinds.filter(mechanism__in=["" if mechanism == NONE else printable(mechanism, 32).upper(), OTHER])
    return list(kinds.values_list("kind", flat=True).distinct())


def days_of(
    organization_id: int | None, *, ips: Q, smtp_user_id: int | None, result: str, reason: str, most: int
) -> list[date] | None:
    """The days on which addresses did that, by the sums and what is not in them yet; None where there are too many."""
    asked = Q(ips)
    for name, value in (("organization_id", organization_id), ("smtp_user_id", smtp_user_id)):
        asked &= Q(**{name: value}) if value is not None else Q()
    for name, text in (("result", result), ("reason", reason)):
        asked &= Q(**{name: text}) if text else Q()
    days = set(AuthDay.objects.filter(asked).values_list("day", flat=True).distinct()[: most + 1])
    hours = AuthPending.objects.filter(asked).values_list("hour", flat=True).distinct()[: 24 * most]
    days |= {hour.astimezone(UTC).date() for hour in hours}
    return sorted(days) if len(days) <= most else None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
