"""Figures of billing for operators: what is open, what comes in by plan, who is near a limit.

Shapes  Figures for the page; Row for each plan. Money is never added up over currencies.
Units   cents.
Source  docs/billing.md.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.http import HttpResponse

from accounts.billing.models import Invoice
from accounts.models import Organization, Plan
from relay.ops.export import cell

EXPORT_ROWS = 100_000
COLUMNS = (
    "number", "kind", "issued_at", "due_at", "settled_at", "organization", "slug", "currency", "net_cents", "tax_name",
    "tax_rate", "tax_cents", "total_cents", "credits",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Revenue:
    """Of one version of a plan: how many have it, and what they pay a month."""

    plan: Plan
    customers: int

    @property
    def month_cents(self) -> int:
        return self.customers * self.plan.price_cents


def revenue_by_plan() -> list[Revenue]:
    paying = Q(subscription__organization__is_system=False) & ~Q(
        subscription__organization__state=Organization.State.PENDING
    )
    rows = Plan.objects.annotate(customers=Count("subscription", filter=paying)).filter(customers__gt=0)
    return [Revenue(plan, plan.customers) for plan in rows.order_by("position", "code", "version")]


def open_invoices() -> QuerySet[Invoice]:
    """Not paid yet, the most overdue first, each with what is open of it as `left_cents`."""
    rows = Invoice.objects.filter(kind=Invoice.Kind.INVOICE, settled_at=None).select_related("organization")
    paid = Coalesce(Sum("payments__amount_cents"), Value(0))
    notes = Invoice.objects.filter(credits=OuterRef("pk")).order_by().values("credits")
    credited = Coalesce(Subquery(notes.annotate(sum=Sum("total_cents")).values("sum")), Value(0))  # less than nothing
    return rows.annotate(left_cents=F("total_cents") - paid + credited).order_by("due_at", "pk")


def totals_of(rows: QuerySet[Invoice], *, now: datetime) -> list[tuple[str, int, int]]:
    """Currency, open, and overdue of that."""
    sums: dict[str, list[int]] = {}
    for invoice in rows:
        found = sums.setdefault(invoice.currency, [0, 0])
        found[0] += invoice.left_cents  # type: ignore[attr-defined]  # annotated
        found[1] += invoice.left_cents if invoice.due_at < now else 0  # type: ignore[attr-defined]
    return [(currency, open_cents, overdue) for currency, (open_cents, overdue) in sorted(sums.items())]


def invoices_csv(*, since: datetime, until: datetime) -> HttpResponse:
    """Every document issued in that time, for the books."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="invoices-{since:%Y-%m-%d}-{until:%Y-%m-%d}.csv"'
    writer = csv.writer(response)
    writer.writerow(COLUMNS)
    rows = Invoice.objects.filter(issued_at__gte=since, issued_at__lt=until).select_related("organization", "credits")
    for invoice in rows.order_by("issued_at", "pk")[:EXPORT_ROWS].iterator(chunk_size=2000):
        writer.writerow([cell(value) for value in _values(invoice)])
    return response


def _values(invoice: Invoice) -> Iterator[object]:
    yield from (str(invoice), invoice.kind, invoice.issued_at, invoice.due_at, invoice.settled_at)
    yield from (invoice.organization.name, invoice.organization.slug, invoice.currency, invoice.subtotal_cents)
    yield from (invoice.tax_name, invoice.tax_rate, invoice.tax_cents, invoice.total_cents)
    yield str(invoice.credits) if invoice.credits else ""
