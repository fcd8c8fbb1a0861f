"""Payments of invoices: recorded by an operator, or told by a provider.

Shapes  record_payment() -> Payment; what settles the last overdue invoice ends dunning in the same transaction.
Units   cents.
Errors  PaymentRefused (a ValidationError): more than is open, or nothing.
Source  docs/billing.md.
"""

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.billing import dunning
from accounts.billing.invoices import open_cents, settle_if_nothing_is_open
from accounts.billing.models import Invoice, Payment
from accounts.models import User
from audit.changes import Actor, record_change

MANUAL = "manual"


class PaymentRefused(ValidationError):
    """Why a payment cannot be recorded so."""


def record_payment(
    invoice: Invoice,
    *,
    amount_cents: int,
    actor: Actor,
    method: str = MANUAL,
    reference: str = "",
    recorded_by: User | None = None,
    received_at: datetime | None = None,
    now: datetime | None = None,
) -> Payment:
    """Money that came for an invoice. Raises PaymentRefused."""
    now = now or timezone.now()
    with transaction.atomic():
        locked = Invoice.objects.select_for_update(no_key=True).get(pk=invoice.pk)
        if locked.kind != Invoice.Kind.INVOICE or not 0 < amount_cents <= open_cents(locked):
            raise PaymentRefused(_("That is not what is open of this invoice."), code="amount")
        payment = Payment.objects.create(
            invoice=locked,
            amount_cents=amount_cents,
            received_at=received_at or now,
            method=method,
            reference=reference.strip()[:120],
            recorded_by=recorded_by,
            recorded_at=now,
        )
        settle_if_nothing_is_open(locked, now=now)
        dunning.end_if_paid(locked.organization_id, actor=actor, now=now)
        record_change(
            "invoice.paid",
            organization_id=locked.organization_id,
            actor=actor,
            subject=str(locked),
            subject_id=locked.pk,
            values={
                "amount_cents": amount_cents,
                "currency": locked.currency,
                "method": method,
                "reference": reference,
            },
        )
    return payment
