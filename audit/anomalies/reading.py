"""What the watch reads: sums and new logins, never a flood row by row.

Shapes  new_uses(): accepted logins stored since the mark, grouped. failures(): guesses of the last 24 hours from
        AuthHour. names(): usernames tried from a few addresses. known(): habits. histories(): from SendingHour.
Units   mark: stored_at of AuthEvent. hours: full UTC hours.
Errors  Those of the database.
Source  docs/data.md.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.db.models import Min

from audit.anomalies.models import Habit, HabitKind, SendingHour
from audit.anomalies.rows import GUESSES, Failure, Known, Use
from audit.anomalies.volume import HISTORY, LEAST, slots

FAILURES_MAX: Final = 50_000  # rows of one run, the most attempts first
ADDRESSES_MAX: Final = 200  # whose usernames are read in one run
EVENTS_MAX: Final = 2_000  # of one address
_HOUR: Final = timedelta(hours=1)

# By day: over a long time (the first run) a use counts on each of its days.
_USES = """
    SELECT organization_id, smtp_user_id, app_password_id, host(ip), client_name, tls_version,
           sum(count)::bigint, min(at), max(last_at)
    FROM audit_authevent
    WHERE stored_at >= coalesce(%s, '-infinity'::timestamptz) AND result = 'accepted'
      AND organization_id IS NOT NULL AND smtp_user_id IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5, 6, date_trunc('day', at, 'UTC')
"""
_FAILURES = """
    WITH day AS MATERIALIZED (
        SELECT organization_id, smtp_user_id, ip, sum(count) FILTER (WHERE hour >= %(recent)s) AS last_hour,
               sum(count) AS last_day, min(first_at) AS first_at, max(last_at) AS last_at
        FROM audit_authhour
        WHERE hour >= %(since)s AND hour <= %(now)s AND result = 'refused' AND reason = ANY(%(reasons)s)
        GROUP BY 1, 2, 3
    ), weighed AS (
        SELECT *, sum(last_day) OVER (PARTITION BY organization_id) AS of_organization,
               sum(last_day) OVER (PARTITION BY ip) AS of_ip
        FROM day
    )
    SELECT organization_id, smtp_user_id, host(ip), coalesce(last_hour, 0)::bigint, last_day::bigint, first_at, last_at
    FROM weighed WHERE (organization_id IS NOT NULL AND of_organization >= 5) OR of_ip >= 10
    ORDER BY last_day DESC LIMIT %(most)s
"""
_NAMES = """
    SELECT DISTINCT asked.ip, event.organization_id, tried.name
    FROM unnest(%(ips)s::inet[]) AS asked(ip)
    CROSS JOIN LATERAL (
        SELECT organization_id, username_given, samples FROM audit_authevent
        WHERE ip = asked.ip AND at >= %(since)s AND result = 'refused' ORDER BY at DESC LIMIT %(most)s
    ) AS event
    CROSS JOIN LATERAL unnest(array_append(event.samples, event.username_given)) AS tried(name)
    WHERE tried.name <> ''
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    organization_id: int
    smtp_user_id: int
    hour: datetime
    recipients: int


def new_uses(mark: datetime | None) -> list[Use]:
    return [
        Use(
            organization_id=organization_id,
            smtp_user_id=smtp_user_id,
            app_password_id=app_password_id,
            ip=ip,
            client_name=client_name,
            tls_version=tls_version,
            count=count,
            first_at=first_at,
            last_at=last_at,
        )
        for organization_id, smtp_user_id, app_password_id, ip, client_name, tls_version, count, first_at, last_at in (
            _rows(_USES, [mark])
        )
    ]


def failures(now: datetime) -> list[Failure]:
    hour = full_hour(now)
    asked = {
        "recent": hour - _HOUR,
        "since": hour - 23 * _HOUR,
        "now": now,
        "reasons": [reason.value for reason in GUESSES],
        "most": FAILURES_MAX,
    }
    return [
        Failure(
            organization_id=organization_id,
            smtp_user_id=smtp_user_id,
            ip=ip,
            last_hour=last_hour,
            last_day=last_day,
            first_at=first_at,
            last_at=last_at,
        )
        for organization_id, smtp_user_id, ip, last_hour, last_day, first_at, last_at in _rows(_FAILURES, asked)
    ]


def names(ips: Sequence[str], *, now: datetime) -> dict[str, frozenset[tuple[int | None, str]]]:
    found: dict[str, set[tuple[int | None, str]]] = defaultdict(set)
    if ips:
        since = full_hour(now) - 23 * _HOUR
        for ip, organization_id, name in _rows(_NAMES, {"ips": list(ips), "since": since, "most": EVENTS_MAX}):
            found[str(ip)].add((organization_id, name.lower()))
    return {ip: frozenset(tried) for ip, tried in found.items()}


def known(organization_ids: Collection[int]) -> Iterator[Known]:
    columns = (
        "organization_id smtp_user_id kind value first_at last_at days longest_gap_seconds amount doubted taught_at"
    )
    rows = Habit.objects.filter(organization_id__in=organization_ids).values_list(*columns.split())
    for organization_id, smtp_user_id, kind, value, first_at, last_at, days, gap, amount, doubted, taught_at in rows:
        yield Known(
            organization_id=organization_id,
            smtp_user_id=smtp_user_id,
            kind=kind,
            value=value,
            first_at=first_at,
            last_at=last_at,
            days=days,
            longest_gap=timedelta(seconds=gap),
            amount=amount,
            doubted=doubted,
            taught=taught_at is not None,
        )


def candidates(hour: datetime) -> list[Candidate]:
    rows = SendingHour.objects.filter(hour=hour, recipients__gt=LEAST)
    return [Candidate(*row) for row in rows.values_list("organization_id", "smtp_user_id", "hour", "recipients")]


def began(smtp_user_ids: Collection[int], *, hour: datetime) -> dict[int, datetime]:
    """The first hour of each one's history."""
    rows = SendingHour.objects.filter(smtp_user_id__in=smtp_user_ids, hour__gte=hour - HISTORY, hour__lt=hour)
    return {row["smtp_user_id"]: row["first"] for row in rows.values("smtp_user_id").annotate(first=Min("hour"))}


def same_hours(smtp_user_ids: Collection[int], *, hour: datetime) -> dict[int, dict[datetime, int]]:
    """What was sent in the hours of other weeks that this one is judged by."""
    return _histories(smtp_user_ids, hour__in=[each for slot in slots(hour) for each in slot])


def histories(smtp_user_ids: Collection[int], *, hour: datetime) -> dict[int, dict[datetime, int]]:
    return _histories(smtp_user_ids, hour__gte=hour - HISTORY, hour__lt=hour)


def taught_volumes(smtp_user_ids: Collection[int]) -> Mapping[int, int]:
    rows = Habit.objects.filter(smtp_user_id__in=smtp_user_ids, kind=HabitKind.VOLUME)
    return dict(rows.values_list("smtp_user_id", "amount"))


def full_hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _histories(smtp_user_ids: Collection[int], **hours: Any) -> dict[int, dict[datetime, int]]:
    found: dict[int, dict[datetime, int]] = {smtp_user_id: {} for smtp_user_id in smtp_user_ids}
    rows = SendingHour.objects.filter(smtp_user_id__in=smtp_user_ids, **hours)
    for smtp_user_id, hour, recipients in rows.values_list("smtp_user_id", "hour", "recipients"):
        found[smtp_user_id][hour] = recipients
    return found


def _rows(query: str, parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
