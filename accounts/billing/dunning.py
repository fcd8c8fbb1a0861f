"""Dunning: what happens when an invoice is not paid, step by step, and how a payment undoes it.

Shapes  Step: a name and the days after the invoice's due date. Reminders first; then sending is held: mail that was
        accepted waits, new mail is put off with 450 4.7.1, the panel stays open; then the organization is suspended.
        Each step is drawn once for each invoice and mailed. A payment or credit of the last overdue invoice brings the
        organization back, unless an operator suspended it for another reason.
Units   days, from settings; a run acts on what is due by now, so that a late run skips nothing.
Errors  Those of the database; each organization has a transaction of its own.
Source  docs/billing.md; docs/smtp.md, 450 4.7.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import organizations
from accounts.billing import mails
from accounts.billing.models import DunningStep, Invoice
from accounts.billing.runs import of_each
from accounts.models import Organization, Subscription
from audit.changes import SYSTEM, Actor

HOLD: Final = "hold"
SUSPEND: Final = "suspend"

log = structlog.get_logger("accounts.billing")


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    days: int  # after the due date


def steps() -> list[Step]:
    """In the order of their days."""
    reminders = [
        Step(f"reminder-{number}", days) for number, days in enumerate(settings.GATEPOST_REMINDER_DAYS, start=1)
    ]
    found = [*reminders, Step(HOLD, settings.GATEPOST_HOLD_DAYS), Step(SUSPEND, settings.GATEPOST_SUSPEND_DAYS)]
    return sorted(found, key=lambda step: step.days)


def overdue(organization_id: int, *, now: datetime) -> Sequence[Invoice]:
    """Open invoices past their due date, oldest first."""
    rows = Invoice.objects.filter(organization_id=organization_id, settled_at=None, kind=Invoice.Kind.INVOICE)
    return list(rows.filter(due_at__lt=now).order_by("due_at", "pk"))


def run(now: datetime | None = None) -> int:
    """Draws every step that is due. Returns how many."""
    now = now or timezone.now()
    if settings.GATEPOST_BILLING == "off":
        return 0
    rows = Invoice.objects.filter(settled_at=None, kind=Invoice.Kind.INVOICE, due_at__lt=now)
    behind = list(rows.order_by().values_list("organization_id", flat=True).distinct())
    return of_each(behind, lambda organization_id: _run_one(organization_id, now))


def end_if_paid(organization_id: int, *, actor: Actor, now: datetime) -> bool:
    """Within the transaction of a payment or credit: sends again once nothing is open that holds it up."""
    organization, subscription = lock(organization_id)
    if not subscription.dunning or _worst(overdue(organization_id, now=now), now):
        return False
    was_ours = organization.state == (
        Organization.State.HELD if subscription.dunning == HOLD else Organization.State.SUSPENDED
    )
    subscription.dunning = ""
    subscription.save(update_fields=["dunning"])
    if was_ours:
        organizations.activate(organization, actor=actor)
    return was_ours


def lock(organization_id: int) -> tuple[Organization, Subscription]:
    """Before anything is recorded: changes of plan lock the subscription first and then the chain of changes."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=organization_id)
    return organization, Subscription.objects.select_for_update(no_key=True).get(organization_id=organization_id)


def forget_at_activation(organization: Organization) -> None:
    """A hook of accounts.organizations: what is suspended after it is suspended for another reason."""
    if organization.state == Organization.State.ACTIVE:
        Subscription.objects.filter(organization=organization).exclude(dunning="").update(dunning="")


def _run_one(organization_id: int, now: datetime) -> int:
    with transaction.atomic():
        organization, _subscription = lock(organization_id)
        drawn = 0
        for invoice in overdue(organization_id, now=now):
            known = set(invoice.dunning_steps.values_list("step", flat=True))
            due = [step for step in steps() if invoice.due_at + timedelta(days=step.days) <= now]
            new = [step for step in due if step.name not in known]
            DunningStep.objects.bulk_create(DunningStep(invoice=invoice, step=step.name, at=now) for step in new)
            for step in new:
                _draw(organization, invoice, step, is_last=step == due[-1])
            drawn += len(new)
    return drawn


def _draw(organization: Organization, invoice: Invoice, step: Step, *, is_last: bool) -> None:
    """The consequence; and one mail, of the last step that is due, should a late run draw several."""
    reason = _("Invoice %(number)s is overdue.") % {"number": invoice}
    if step.name == HOLD and organization.state == Organization.State.ACTIVE:
        organizations.hold(organization, reason=reason, actor=SYSTEM)
        Subscription.objects.filter(organization=organization).update(dunning=HOLD)
    elif step.name == SUSPEND and organization.state in {Organization.State.ACTIVE, Organization.State.HELD}:
        organizations.suspend(organization, reason=reason, actor=SYSTEM)
        Subscription.objects.filter(organization=organization).update(dunning=SUSPEND)
    if is_last:
        mails.tell_of_dunning(invoice, step.name)
    log.info("billing.dunning", organization=organization.pk, invoice=str(invoice), step=step.name)


def _worst(invoices: Sequence[Invoice], now: datetime) -> bool:
    """Whether any of them is so late that sending is held."""
    return any(invoice.due_at + timedelta(days=settings.GATEPOST_HOLD_DAYS) <= now for invoice in invoices)
