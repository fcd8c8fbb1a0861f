"""Forgetting: events and their sums are kept as many whole days as the organization's plan says.

Shapes  days_of: organization id -> days. Whoever is not in it (and attempts on names that nobody has) gets defaults.
        kept_since(): from when on an organization's own lists show anything. What is older is hidden at once when a
        plan changes, or while nothing deletes; it is deleted within the hour.
        The log of changes is kept: a chain from which links are taken proves nothing.
Units   days: whole UTC days before today; today comes on top.
Errors  OperationalError (lock_not_available): the partitions wait for the next run.
Source  docs/data.md, Retention.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from audit.models import AuthKind
from audit.partitions import drop_expired

BATCH: Final = 10_000  # rows of one statement: short transactions, so that nothing waits and vacuum keeps up

_EVENTS = """DELETE FROM audit_authevent WHERE at < %(before)s AND (at, id) IN
             (SELECT at, id FROM audit_authevent WHERE at < %(before)s AND {whose} LIMIT %(batch)s)"""
_HOURS = """DELETE FROM audit_authhour WHERE id IN
            (SELECT id FROM audit_authhour WHERE hour < %(before)s AND {whose} LIMIT %(batch)s)"""
_DAYS = """DELETE FROM {table} WHERE id IN
           (SELECT id FROM {table} WHERE day < (%(before)s AT TIME ZONE 'UTC')::date AND {whose} LIMIT %(batch)s)"""
_LISTED = "organization_id = ANY(%(organizations)s)"
_NOBODYS = "organization_id IS NULL"

# Of one organization, by its plan; None: it has none. relay.apps.ready() puts it in: plans are above this floor.
kept_days: list[Callable[[int], int | None]] = []


@dataclass(frozen=True, slots=True)
class Forgotten:
    partitions: tuple[str, ...]
    events: int
    hours: int


def delete_expired(*, days_of: Mapping[int, int], default: int, now: datetime | None = None) -> Forgotten:
    """Drop the days that nobody keeps, then delete what is older than its organization's own days. Idempotent."""
    now = now or timezone.now()
    partitions = drop_expired(days=max([default, *days_of.values()]), now=now)
    listed: dict[int, list[int]] = defaultdict(list)
    for organization_id, days in days_of.items():
        listed[days].append(organization_id)
    listed[default] += _others(days_of)
    groups = [(days, _LISTED, organizations) for days, organizations in listed.items()]
    groups.append((default, _NOBODYS, []))
    events = hours = 0
    for days, whose, organizations in groups:
        parameters = {"before": _midnight(now) - timedelta(days=days), "organizations": organizations, "batch": BATCH}
        events += _delete(_EVENTS.format(whose=whose), parameters)
        hours += _delete(_HOURS.format(whose=whose), parameters)
        for table in ("audit_authday", "audit_loginday"):
            _delete(_DAYS.format(table=table, whose=whose), parameters)
    return Forgotten(tuple(partitions), events, hours)


def kept_since(organization_id: int, *, now: datetime | None = None) -> datetime | None:
    """None: nobody said how long."""
    days = next((each(organization_id) for each in kept_days), None)
    return _midnight(now or timezone.now()) - timedelta(days=days) if days is not None else None


def _others(known: Iterable[int]) -> list[int]:
    """Organizations that have events and no plan: named, an index finds them; "all but these" would read all."""
    everybody = AuthKind.objects.exclude(organization_id=0).values_list("organization_id", flat=True).distinct()
    return sorted(set(everybody) - set(known))


def _delete(statement: str, parameters: dict[str, Any]) -> int:
    """Batch after batch, each its own transaction where the caller has none."""
    total = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(statement, parameters)
            deleted: int = cursor.rowcount
            total += deleted
            if deleted < BATCH:
                return total


def _midnight(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
