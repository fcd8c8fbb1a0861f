"""Charges besides the plan: the shares of a month that a change of plan costs or saves.

Shapes  shares_of() -> the credit for the rest of the old plan and the charge for the rest of the new one; none before
        the first period and none of a plan that costs nothing. charge_shares() keeps them for the next invoice.
Units   cents. A credit is negative.
Errors  Those of the database.
Source  docs/billing.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from accounts.billing.models import PendingCharge
from accounts.billing.periods import Period, share
from accounts.models import Organization, Plan, Subscription


@dataclass(frozen=True, slots=True)
class Share:
    text: str
    period: Period
    amount_cents: int
    currency: str


def shares_of(subscription: Subscription, plan: Plan, *, now: datetime) -> list[Share]:
    """What a change to this plan costs at this moment of the running period."""
    if subscription.period_start is None or subscription.period_end is None or now >= subscription.period_end:
        return []
    running = Period(subscription.period_start, subscription.period_end)
    rest = Period(max(now, running.start), running.end)
    before = subscription.plan
    both = (
        (before, -share(before.price_cents, of=running, since=now), _("%(plan)s, the rest of the month, credited")),
        (plan, share(plan.price_cents, of=running, since=now), _("%(plan)s, the rest of the month")),
    )
    return [Share(text % {"plan": each.name}, rest, cents, each.currency) for each, cents, text in both if cents]


def charge_shares(organization: Organization, shares: Sequence[Share]) -> None:
    """Kept for the next invoice, within the caller's transaction."""
    PendingCharge.objects.bulk_create(
        PendingCharge(
            organization=organization,
            text=each.text,
            starts_at=each.period.start,
            ends_at=each.period.end,
            amount_cents=each.amount_cents,
            currency=each.currency,
        )
        for each in shares
    )
