"""Invoices as the customer sees them, and to whom they are made out."""

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from accounts.billing.invoices import open_cents
from accounts.billing.models import BillingProfile, Invoice
from accounts.billing.profiles import save_profile


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    class Meta:
        model = BillingProfile
        fields = ("name", "address", "tax_id", "email", "limit_mails")
        widgets = {"address": forms.Textarea(attrs={"rows": 4, "autocomplete": "street-address"})}
        help_texts = {
            "name": _("Empty: the organization's name."),
            "email": _("Empty: owners, and members with the role Billing."),
        }


@member_required(roles.PLAN_SEE)
def invoice(request: MemberRequest, invoice_id: int) -> HttpResponse:
    """One document, fit to be printed."""
    found = get_object_or_404(
        Invoice.objects.select_related("credits").prefetch_related("lines", "payments", "credit_notes"),
        pk=invoice_id,
        organization=request.organization,
    )
    return render(request, "relay/invoice.html", {"invoice": found, "open_cents": open_cents(found)})


@member_required(roles.PLAN_SEE)
def invoice_pdf(request: MemberRequest, invoice_id: int) -> HttpResponse:
    found = get_object_or_404(
        Invoice.objects.select_related("credits"), pk=invoice_id, organization=request.organization
    )
    return pdf_of(found)


def pdf_of(invoice: Invoice) -> HttpResponse:
    from accounts.billing.pdf import document  # a second of imports that no other page needs

    response = HttpResponse(document(invoice), content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="{invoice}.pdf"'
    return response


@member_required(roles.PLAN_CHANGE)
def profile(request: MemberRequest) -> HttpResponse:
    present = BillingProfile.objects.filter(organization=request.organization).first()
    form = ProfileForm(request.POST or None, instance=present or BillingProfile(organization=request.organization))
    if request.method == "POST" and form.is_valid():
        save_profile(request.organization, values=form.cleaned_data, actor=actor_of(request))
        messages.success(request, _("Saved. It holds from the next invoice on."))
        return redirect("relay:plan")
    return render(request, "relay/billing_profile.html", {"form": form})
