"""The operator's money: what is open and overdue, what each plan brings, payments, credit notes, the books' export."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import UserRequest, actor_of
from accounts.billing.invoices import credit, credited_net, open_cents
from accounts.billing.models import Invoice
from accounts.billing.payments import record_payment
from relay.ops.billing import invoices_csv, open_invoices, revenue_by_plan, totals_of
from relay.views.billing import pdf_of
from relay.views.ops.access import operator_action, operator_page

SHOWN = 200
form_page = require_http_methods(["GET", "HEAD", "POST"])


class AmountForm(forms.Form):
    """An amount as people write it; cents() is what is stored."""

    amount = forms.DecimalField(
        label=gettext_lazy("Amount"), min_value=Decimal("0.01"), max_digits=12, decimal_places=2
    )

    def cents(self) -> int:
        return int(self.cleaned_data["amount"] * 100)


class PaymentForm(AmountForm):
    reference = forms.CharField(
        label=gettext_lazy("Reference"), max_length=120, required=False, help_text=gettext_lazy("Of the bank, say.")
    )


class CreditForm(AmountForm):
    reason = forms.CharField(
        label=gettext_lazy("Reason"), max_length=120, help_text=gettext_lazy("The customer sees it.")
    )


class TimeForm(forms.Form):
    since = forms.DateField()
    until = forms.DateField()


@require_safe
@operator_page
def billing(request: UserRequest) -> HttpResponse:
    now = timezone.now()
    rows = open_invoices()
    first = now.replace(day=1)
    context = {
        "invoices": rows[:SHOWN],
        "total": rows.count(),
        "sums": totals_of(rows, now=now),
        "revenue": revenue_by_plan(),
        "latest": Invoice.objects.select_related("organization").order_by("-issued_at", "-pk")[:20],
        "now": now,
        "since": (first - timedelta(days=1)).replace(day=1),
        "until": first,
    }
    return render(request, "ops/billing.html", context)


@require_safe
@operator_page
def export(request: UserRequest) -> HttpResponse:
    form = TimeForm(request.GET)
    if not form.is_valid():
        messages.error(request, _("Say from which day until which: since and until, like 2026-01-01."))
        return redirect("relay:ops_billing")
    since, until = (datetime.combine(form.cleaned_data[name], datetime.min.time(), UTC) for name in ("since", "until"))
    return invoices_csv(since=since, until=until)


@require_safe
@operator_page
def invoice(request: UserRequest, invoice_id: int) -> HttpResponse:
    found = _invoice(invoice_id)
    context = {
        "invoice": found,
        "open_cents": open_cents(found),
        "left_net": found.subtotal_cents - credited_net(found),
    }
    return render(request, "ops/invoice.html", context)


@require_safe
@operator_page
def invoice_pdf(request: UserRequest, invoice_id: int) -> HttpResponse:
    return pdf_of(_invoice(invoice_id))


@form_page
@operator_action
def pay(request: UserRequest, invoice_id: int) -> HttpResponse:
    found = _invoice(invoice_id)
    initial = {"amount": Decimal(open_cents(found)) / 100}
    form = PaymentForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            record_payment(
                found,
                amount_cents=form.cents(),
                reference=form.cleaned_data["reference"],
                recorded_by=request.user,
                actor=actor_of(request),
            )
        except ValidationError as refused:
            form.add_error("amount", refused)
        else:
            messages.success(request, _("The payment is recorded."))
            return redirect("relay:ops_invoice", found.pk)
    return _form_page(request, found, form, _("Record a payment"))


@form_page
@operator_action
def take_back(request: UserRequest, invoice_id: int) -> HttpResponse:
    found = _invoice(invoice_id)
    initial = {"amount": Decimal(found.subtotal_cents - credited_net(found)) / 100}
    form = CreditForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        reason = form.cleaned_data["reason"]
        try:
            note = credit(found, reason=reason, net_cents=form.cents(), actor=actor_of(request))
        except ValidationError as refused:
            form.add_error("amount", refused)
        else:
            messages.success(request, _("Credit note %(number)s is issued.") % {"number": note})
            return redirect("relay:ops_invoice", note.pk)
    return _form_page(request, found, form, _("Issue a credit note"))


def _invoice(invoice_id: int) -> Invoice:
    rows = Invoice.objects.select_related("organization", "credits")
    return get_object_or_404(rows.prefetch_related("lines", "payments", "credit_notes"), pk=invoice_id)


def _form_page(request: UserRequest, found: Invoice, form: forms.Form, title: str) -> HttpResponse:
    return render(request, "ops/invoice_form.html", {"invoice": found, "form": form, "title": title})
