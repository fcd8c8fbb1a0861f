"""What many customers used of their hour, read at once and without a lock.

Units   used, limit: accepted recipients in the rolling hour. NEAR: the share of it from which a customer is near.
Source  relay/windows.py for the arithmetic.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from accounts.models import Organization, Subscription
from relay.models import LimitWindow
from relay.windows import BUCKETS, Window

NEAR = 0.8


@dataclass(frozen=True, slots=True)
class Hour:
    used: int
    limit: int

    @property
    def share(self) -> float:
        return self.used / self.limit if self.limit else 0.0

    @property
    def percent(self) -> int:
        return int(self.share * 100)

    @property
    def is_full(self) -> bool:
        return self.used >= self.limit > 0


@dataclass(frozen=True, slots=True)
class NearLimit:
    organization: Organization
    hour: Hour


def hours_of(organization_ids: Collection[int], *, now: datetime) -> dict[int, Hour]:
    """The hour of each of these customers; one without a subscription has a limit of 0."""
    limits = dict(
        Subscription.objects.filter(organization__in=organization_ids).values_list(
            "organization_id", "plan__recipients_per_hour"
        )
    )
    used = _used(organization_ids, now=now)
    return {pk: Hour(used=used.get(pk, 0), limit=limits.get(pk, 0)) for pk in organization_ids}


def near_limit(*, now: datetime) -> list[NearLimit]:
    """Customers who used NEAR of their plan or more, the fullest first. Only who sent this hour is read."""
    hours = hours_of(_used(None, now=now).keys(), now=now)
    near = {pk: hour for pk, hour in hours.items() if hour.share >= NEAR}
    organizations = Organization.objects.in_bulk(near.keys())
    found = [NearLimit(organization, near[pk]) for pk, organization in organizations.items()]
    return sorted(found, key=lambda each: (-each.hour.share, each.organization.name))


def _used(organization_ids: Collection[int] | None, *, now: datetime) -> dict[int, int]:
    minute = int(now.timestamp() // 60)
    rows = LimitWindow.objects.filter(scope=LimitWindow.Scope.ORGANIZATION, minute__gt=minute - BUCKETS)
    if organization_ids is not None:
        rows = rows.filter(owner_id__in=organization_ids)
    used = {}
    for owner_id, written, buckets in rows.values_list("owner_id", "minute", "buckets"):
        window = Window(written, list(buckets))
        window.advance(minute)
        used[owner_id] = window.used
    return used
