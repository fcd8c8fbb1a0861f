"""Pages of the auth log, newest first, at any size and with any filters.

Shapes  A page is looked for kind by kind (AuthKind: result, reason, mechanism and TLS version as one number), because
        every index has the kind beside what is looked for and then the time: each probe reads only what fits. And time
        by time: today, then stretches of the past that double, so that a full page reads one partition.
        Where addresses are asked for, the sums say on which days they did that, and which of a range it was.
Units   SECONDS: what PostgreSQL may take for one statement of a page, and after which none is begun.
Errors  SearchTooLong: the filters fit neither index nor sums, and too much lies between the rows: ask for less time.
Source  docs/data.md, AuthKind; audit/queries.py for what the filters mean.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import OperationalError, connection, transaction
from django.utils import timezone
from psycopg.errors import QueryCanceled

from audit.models import AuthEvent, AuthKind
from audit.record import printable

SECONDS: Final = 3.0
ADDRESSES_MAX: Final = 20  # of a range and day that are looked for one by one
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
    days: Mapping[date, Sequence[str]] | None = None  # with their addresses (none: as the conditions say); None: any


def read(wanted: Wanted, *, limit: int) -> list[AuthEvent]:
    """Raises SearchTooLong."""
    rows: list[AuthEvent] = []
    if not wanted.kinds or (wanted.days is not None and not wanted.days):
        return rows
    until_too_long = time.monotonic() + SECONDS
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{round(SECONDS * 1000)}ms"])
            for since, until in _stretches(wanted):
                if time.monotonic() > until_too_long:
                    raise SearchTooLong
                ips = (wanted.days or {}).get(since.astimezone(UTC).date(), ())
                rows += _stretch(cursor, wanted, ips=ips, since=since, until=until, limit=limit - len(rows))
                if len(rows) >= limit:
                    break
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise SearchTooLong from error
        raise
    return rows


def _stretch(
    cursor: Any, wanted: Wanted, *, ips: Sequence[str], since: datetime, until: datetime, limit: int
) -> list[AuthEvent]:
    conditions = ["kind = wanted.kind", "at >= %s", "at < %s", *(text for text, _value in wanted.conditions)]
    values: list[Any] = [list(wanted.kinds), since, until, *(value for _text, value in wanted.conditions)]
    sources = "unnest(%s::integer[]) AS wanted (kind)"
    if ips:
        sources += " CROSS JOIN unnest(%s::inet[]) AS address (ip)"
        conditions.append("audit_authevent.ip = address.ip")
        values.insert(1, list(ips))
    if wanted.nobodys:
        conditions.append("organization_id IS NULL")
    if wanted.before:
        # The first condition says what the second implies, in the form that an index takes.
        conditions += ["at <= %s", "(at < %s OR id < %s)"]
        values += [wanted.before[0], wanted.before[0], wanted.before[1]]
    # Only columns and placeholders are put into the text.
    query = f"""
        SELECT found.* FROM {sources} CROSS JOIN LATERAL (
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
    for begin, end in between:
        if (since := max(begin, first)) < (until := min(end, last)):
            yield since, until
        if begin <= first:
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


def _of_days(days: Iterable[date]) -> Iterator[tuple[datetime, datetime]]:
    for day in sorted(set(days), reverse=True):
        yield _midnight(day), _midnight(day) + timedelta(days=1)


def kinds_of(
    organization_id: int | None, *, result: str = "", reason: str = "", mechanism: str = "", tls: str = ""
) -> list[int]:
    """The kinds that the organization, or anybody, has had and that fit. A mechanism that is none of ours is OTHER."""
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


_DAYS: Final = """
    SELECT days.day, ARRAY(
        SELECT DISTINCT ip FROM audit_authday WHERE day = days.day AND {conditions} ORDER BY ip LIMIT %s)
    FROM (SELECT generate_series(greatest(first, %s::date), least(last, %s::date), interval '1 day')::date AS day
          FROM (SELECT min(day) AS first, max(day) AS last FROM audit_authday) AS ends WHERE first IS NOT NULL) AS days
"""


def days_of(
    first: str,
    last: str,
    *,
    equal: Mapping[str, Any],
    since: datetime | None,
    until: datetime | None,
) -> dict[date, list[str]]:
    """On which days addresses from first to last did what `equal` says, and which: none where they are too many."""
    asked = {name: value for name, value in equal.items() if value not in {None, ""}}
    conditions = " AND ".join(["ip >= %s::inet", "ip <= %s::inet", *(f"{name} = %s" for name in asked)])
    bounds = [(each or other).date() for each, other in ((since, _BEGINNING), (until, _END))]
    with connection.cursor() as cursor:
        # Only columns and placeholders are put into the text.
        values = [first, last, *asked.values()]
        cursor.execute(_DAYS.format(conditions=conditions), [*values, ADDRESSES_MAX + 1, *bounds])
        found = {day: {str(ip) for ip in ips} for day, ips in cursor.fetchall() if ips}
        cursor.execute(
            f"SELECT (hour AT TIME ZONE 'UTC')::date, ip FROM audit_authpending WHERE {conditions} GROUP BY 1, 2",  # noqa: S608
            values,
        )
        for day, ip in cursor.fetchall():
            found.setdefault(day, set()).add(str(ip))
    return {day: sorted(ips) if len(ips) <= ADDRESSES_MAX else [] for day, ips in found.items()}


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
