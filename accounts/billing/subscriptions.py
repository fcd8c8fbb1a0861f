"""Months that are bought: the first one, each next one with its invoice, and the end of them.

Shapes  begin() at an organization's activation: the anchor, the first period and its invoice. renew_due(): each period
        that has ended is followed by the next one, with the plan that was chosen for then, and the charges that waited.
        A month is invoiced when it begins. One that begins while the organization is suspended is not invoiced: the
        subscription rests, and begins anew at the next activation.
Units   cents; aware UTC.
Errors  Those of the database; each organization has a transaction of its own, and the next run does what is left.
Source  docs/billing.md.
"""

from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.billing import mails
from accounts.billing.invoices import Line, issue
from accounts.billing.models import Invoice, PendingCharge
from accounts.billing.periods import Period, period_at
from accounts.billing.runs import of_each
from accounts.models import Organization, Subscription
from accounts.plans import apply_planned
from audit.changes import SYSTEM, Actor

log = structlog.get_logger("accounts.billing")


def is_billed_here() -> bool:
    """Whether invoices are Gatepost's own business: not where billing is off or a provider makes them."""
    return bool(settings.GATEPOST_BILLING == "manual")


def begin(organization: Organization, *, actor: Actor = SYSTEM, now: datetime | None = None) -> Invoice | None:
    """The first month, unless one runs already. Returns its invoice, if it costs anything."""
    now = now or timezone.now()
    with transaction.atomic():
        subscription = _locked(organization.pk)
        if subscription.period_start is not None or organization.is_system:
            return None
        period = period_at(now, now)
        subscription.anchor_at, subscription.period_start, subscription.period_end = now, period.start, period.end
        subscription.save(update_fields=["anchor_at", "period_start", "period_end"])
        return _invoice(organization, subscription, period, actor=actor, now=now)


def begin_at_activation(organization: Organization) -> None:
    """A hook of accounts.organizations: within the transaction that activates."""
    if is_billed_here() and organization.state == Organization.State.ACTIVE:
        begin(organization)


def renew_due(now: datetime | None = None) -> int:
    """How many months began. A run that comes late makes up for every month that it missed."""
    now = now or timezone.now()
    if not is_billed_here():
        return 0
    ended = Subscription.objects.filter(period_end__lte=now).values_list("organization_id", flat=True)
    waiting = Subscription.objects.filter(
        period_start=None, organization__state=Organization.State.ACTIVE, organization__is_system=False,
        plan__price_cents__gt=0,
    )  # fmt: skip
    began = of_each(list(ended), lambda organization_id: _renew(organization_id, now))
    unbilled = list(waiting.values_list("organization_id", flat=True))
    return began + of_each(unbilled, lambda organization_id: _begin(organization_id, now))


def _begin(organization_id: int, now: datetime) -> int:
    begin(Organization.objects.get(pk=organization_id), now=now)
    return 1


def _renew(organization_id: int, now: datetime) -> int:
    count = 0
    while _renew_once(organization_id, now):
        count += 1
    return count


def _renew_once(organization_id: int, now: datetime) -> bool:
    with transaction.atomic():
        subscription = _locked(organization_id)
        end = subscription.period_end
        if subscription.anchor_at is None or end is None or end > now:
            return False  # another run was here
        organization = subscription.organization
        apply_planned(organization, subscription, actor=SYSTEM, now=end)
        if organization.state == Organization.State.SUSPENDED:
            subscription.anchor_at = subscription.period_start = subscription.period_end = None
            subscription.save(update_fields=["anchor_at", "period_start", "period_end"])
            return False
        period = period_at(subscription.anchor_at, end)
        subscription.period_start, subscription.period_end = period.start, period.end
        subscription.save(update_fields=["period_start", "period_end"])
        _invoice(organization, subscription, period, actor=SYSTEM, now=now)
    return True


def _locked(organization_id: int) -> Subscription:
    return (
        Subscription.objects.select_for_update(no_key=True, of=("self",))
        .select_related("plan", "next_plan", "organization")
        .get(organization_id=organization_id)
    )


def _invoice(
    organization: Organization, subscription: Subscription, period: Period, *, actor: Actor, now: datetime
) -> Invoice | None:
    plan = subscription.plan
    lines = [Line(_("%(plan)s, a month") % {"plan": plan.name}, plan.price_cents, period)] if plan.price_cents else []
    charges, charged = _waiting_charges(organization, plan.currency, plan.price_cents)
    if not lines and not charged:
        return None
    invoice = issue(organization, lines=[*charged, *lines], currency=plan.currency, actor=actor, period=period, now=now)
    PendingCharge.objects.filter(pk__in=[charge.pk for charge in charges]).update(invoice=invoice)
    mails.tell_of_invoice(invoice)
    log.info("billing.invoice_issued", organization=organization.pk, invoice=str(invoice))
    return invoice


def _waiting_charges(
    organization: Organization, currency: str, price_cents: int
) -> tuple[list[PendingCharge], list[Line]]:
    """Charges and credits for this invoice. Credits never make it negative: what is over waits for the next one."""
    rows = list(
        PendingCharge.objects.select_for_update(no_key=True)
        .filter(organization=organization, invoice=None, currency=currency)
        .order_by("created_at", "pk")
    )
    _hold_back(rows, over_cents=-(price_cents + sum(row.amount_cents for row in rows)))
    lines = [Line(row.text, row.amount_cents, Period(row.starts_at, row.ends_at)) for row in rows if row.amount_cents]
    return rows, lines


def _hold_back(rows: list[PendingCharge], *, over_cents: int) -> None:
    """Leaves so much of the credits for the next invoice."""
    for row in sorted(rows, key=lambda row: row.amount_cents):
        if over_cents <= 0 or row.amount_cents >= 0:
            return
        kept = min(over_cents, -row.amount_cents)
        PendingCharge.objects.create(
            organization_id=row.organization_id, text=row.text, starts_at=row.starts_at, ends_at=row.ends_at,
            amount_cents=-kept, currency=row.currency,
        )  # fmt: skip
        row.amount_cents += kept
        row.save(update_fields=["amount_cents"])
        over_cents -= kept
