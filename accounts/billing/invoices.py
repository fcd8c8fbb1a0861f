"""Invoices and credit notes: numbered without gaps, written once, never changed.

Shapes  issue() takes lines (text, period, cents net) and makes an Invoice with tax and total; credit() takes one back,
        in whole or in part, by a credit note. An amount in lines is net; the tax is taken of the sum, once.
        The number is taken under the lock of its series, in the transaction that stores the document: what is rolled
        back leaves no gap, and the documents of a series follow one another in time.
Units   cents.
Errors  CreditRefused (a ValidationError): more than is left of the invoice.
Source  docs/billing.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.billing import dunning
from accounts.billing.models import BillingProfile, Invoice, InvoiceLine, InvoiceSeries
from accounts.billing.periods import Period, tax_of
from accounts.models import Organization
from audit.changes import Actor, record_change


class CreditRefused(ValidationError):
    """Why so much cannot be taken back."""


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    amount_cents: int
    period: Period | None = None


def issue(
    organization: Organization,
    *,
    lines: Sequence[Line],
    currency: str,
    actor: Actor,
    period: Period | None = None,
    now: datetime | None = None,
) -> Invoice:
    """An invoice with these lines. What comes to nothing is settled as it is issued."""
    now = now or timezone.now()
    rate = settings.GATEPOST_TAX_RATE
    with transaction.atomic():
        invoice = Invoice(
            kind=Invoice.Kind.INVOICE,
            series=settings.GATEPOST_INVOICE_SERIES,
            organization=organization,
            due_at=now + timedelta(days=settings.GATEPOST_PAYMENT_DAYS),
            period_start=period.start if period else None,
            period_end=period.end if period else None,
            currency=currency,
            tax_name=settings.GATEPOST_TAX_NAME,
            tax_rate=rate,
        )
        tax = tax_of(sum(line.amount_cents for line in lines), int(rate * 100))
        return _write(invoice, lines, tax, actor=actor, now=now)


def credit(
    invoice: Invoice, *, reason: str, actor: Actor, net_cents: int | None = None, now: datetime | None = None
) -> Invoice:
    """A credit note for the whole invoice, or for so much of its net amount. Raises CreditRefused."""
    now = now or timezone.now()
    with transaction.atomic():
        locked = Invoice.objects.select_for_update(no_key=True).get(pk=invoice.pk)
        dunning.lock(locked.organization_id)
        left = locked.subtotal_cents - credited_net(locked)
        net = left if net_cents is None else net_cents
        if locked.kind != Invoice.Kind.INVOICE or not 0 < net <= left:
            raise CreditRefused(_("There is not that much left of this invoice to take back."), code="too_much")
        note = Invoice(
            kind=Invoice.Kind.CREDIT_NOTE,
            series=f"{settings.GATEPOST_INVOICE_SERIES}C"[:16],
            organization_id=locked.organization_id,
            due_at=now,
            currency=locked.currency,
            tax_name=locked.tax_name,
            tax_rate=locked.tax_rate,
            credits=locked,
        )
        text = _("Credit for invoice %(number)s: %(reason)s") % {"number": locked, "reason": reason.strip()}
        # The last credit takes the rest of the tax, so that parts take back exactly what the invoice took.
        tax = -tax_of(net, int(locked.tax_rate * 100)) if net < left else -(locked.tax_cents - credited_tax(locked))
        note = _write(note, [Line(text[:200], -net)], tax, actor=actor, now=now)
        settle_if_nothing_is_open(locked, now=now)
        dunning.end_if_paid(locked.organization_id, actor=actor, now=now)
    return note


def open_cents(invoice: Invoice) -> int:
    """What is still to be paid: the total less payments and credit notes."""
    paid = invoice.payments.aggregate(sum=Sum("amount_cents"))["sum"] or 0
    credited = invoice.credit_notes.aggregate(sum=Sum("total_cents"))["sum"] or 0
    return int(invoice.total_cents - paid + credited)


def credited_net(invoice: Invoice) -> int:
    """How much of the net amount credit notes have taken back."""
    return -int(invoice.credit_notes.aggregate(sum=Sum("subtotal_cents"))["sum"] or 0)


def credited_tax(invoice: Invoice) -> int:
    return -int(invoice.credit_notes.aggregate(sum=Sum("tax_cents"))["sum"] or 0)


def settle_if_nothing_is_open(invoice: Invoice, *, now: datetime) -> bool:
    """Writes down when an invoice was paid or credited in full; the caller has locked it."""
    if invoice.settled_at is not None or open_cents(invoice) > 0:
        return invoice.settled_at is not None
    invoice.settled_at = now
    invoice.save(update_fields=["settled_at"])
    return True


def _write(invoice: Invoice, lines: Sequence[Line], tax_cents: int, *, actor: Actor, now: datetime) -> Invoice:
    organization = Organization.objects.get(pk=invoice.organization_id)
    invoice.subtotal_cents = sum(line.amount_cents for line in lines)
    invoice.tax_cents = tax_cents
    invoice.total_cents = invoice.subtotal_cents + invoice.tax_cents
    invoice.seller, invoice.buyer = settings.GATEPOST_INVOICE_SELLER, buyer_of(organization)
    invoice.number, invoice.issued_at = _next_number(invoice.series), now
    if invoice.total_cents <= 0:
        invoice.settled_at = now
    invoice.save(force_insert=True)
    InvoiceLine.objects.bulk_create(
        InvoiceLine(
            invoice=invoice,
            position=position,
            text=line.text,
            starts_at=line.period.start if line.period else None,
            ends_at=line.period.end if line.period else None,
            amount_cents=line.amount_cents,
        )
        for position, line in enumerate(lines, start=1)
    )
    record_change(
        f"{invoice.kind}.issued",
        organization_id=organization.pk,
        actor=actor,
        subject=str(invoice),
        subject_id=invoice.pk,
        values={"total_cents": invoice.total_cents, "currency": invoice.currency},
    )
    return invoice


def _next_number(series: str) -> int:
    InvoiceSeries.objects.bulk_create([InvoiceSeries(code=series)], ignore_conflicts=True)
    row = InvoiceSeries.objects.select_for_update().get(code=series)
    row.last_number += 1
    row.save(update_fields=["last_number"])
    return row.last_number


def buyer_of(organization: Organization) -> str:
    """The lines of the address that an invoice is made out to."""
    profile = BillingProfile.objects.filter(organization=organization).first() or BillingProfile()
    tax = _("Tax number: %s") % profile.tax_id if profile.tax_id else ""
    return "\n".join(filter(None, (profile.name or organization.name, profile.address.strip(), tax)))
