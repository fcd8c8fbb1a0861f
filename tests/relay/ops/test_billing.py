"""The operator's plans and money."""

import csv
import io
from datetime import timedelta

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.billing import subscriptions
from accounts.billing.invoices import open_cents
from accounts.billing.models import Invoice
from accounts.models import Organization, Plan, Subscription
from accounts.plans import present_plan
from audit.models import ChangeEvent

PLAN = {
    "name": "Standard", "price_cents": "16000", "currency": "USD", "recipients_per_hour": "1500",
    "retention_days": "30", "is_visible": "on", "position": "2", "members_max": "5",
}  # fmt: skip


def begun(organization: Organization) -> Invoice:
    Subscription.objects.filter(organization=organization).update(plan=present_plan("standard"))
    invoice = subscriptions.begin(organization, now=timezone.now())
    assert invoice is not None
    return invoice


def test_an_edit_makes_a_version_for_new_customers(operator: Client, alice_org: Organization) -> None:
    """The list shows both, and how many have which."""
    begun(alice_org)
    page = operator.get(reverse("relay:ops_plan_edit", args=["standard"])).content.decode()
    assert "1 customer has this version" in page
    page = operator.post(reverse("relay:ops_plan_edit", args=["standard"]), PLAN, follow=True).content.decode()
    assert "Standard is saved, version 2." in page
    assert "Earlier versions that customers still have" in page
    assert present_plan("standard").members_max == 5


def test_wrong_plans_are_refused_in_words(operator: Client) -> None:
    """A taken code, a currency that is none, a negative price, a number beyond the column: no 500."""
    add = reverse("relay:ops_plan_add")
    wrong = (
        {"code": "trial"},
        {"currency": "usd"},
        {"price_cents": "-1"},
        {"recipients_per_hour": "9" * 30},
        {"code": "a b"},
    )
    for change in wrong:
        answer = operator.post(add, {"code": "agency", **PLAN, **change})
        assert answer.status_code == 200, change
        assert answer.context["form"].errors, change
    assert operator.post(add, {"code": "agency", **PLAN}).status_code == 302
    assert Plan.objects.get(code="agency").is_visible


def test_a_payment_is_recorded(operator: Client, alice_org: Organization) -> None:
    """In parts, never more than is open; the customer's log has it with the operator's name."""
    invoice = begun(alice_org)
    address = reverse("relay:ops_invoice_pay", args=[invoice.pk])
    assert 'value="145' in operator.get(address).content.decode()
    for wrong in ("145.01", "0", "-3", "1e9", "NaN", "x"):
        assert operator.post(address, {"amount": wrong}).status_code == 200
    operator.post(address, {"amount": "45.00", "reference": "bank 7"})
    assert open_cents(invoice) == 10_000
    page = operator.get(reverse("relay:ops_billing")).content.decode()
    assert "$100.00" in page
    operator.post(address, {"amount": "100"})
    assert "Everything is paid" in operator.get(reverse("relay:ops_billing")).content.decode()
    event = ChangeEvent.objects.filter(action="invoice.paid").latest("sequence")
    assert (event.organization_id, event.actor) == (alice_org.pk, "carol@gatepost.example")


def test_a_credit_note_is_issued(operator: Client, alice_org: Organization) -> None:
    """Its document names the invoice and the reason."""
    invoice = begun(alice_org)
    address = reverse("relay:ops_invoice_credit", args=[invoice.pk])
    page = operator.post(address, {"amount": "45", "reason": "outage"}, follow=True).content.decode()
    assert "Credit for invoice GP-000001: outage" in page
    assert open_cents(invoice) == 10_000
    operator.post(reverse("relay:ops_invoice_pay", args=[invoice.pk]), {"amount": "20"})
    operator.post(address, {"amount": "5", "reason": "outage"})
    listed = operator.get(reverse("relay:ops_billing")).context
    assert [row.left_cents for row in listed["invoices"]] == [7_500] == [open_cents(invoice)]
    assert listed["sums"] == [("USD", 7_500, 0)]


def test_the_books_are_exported(operator: Client, alice_org: Organization) -> None:
    """Every document of the days asked for, and a name that a spreadsheet would run is quoted."""
    Organization.objects.filter(pk=alice_org.pk).update(name="=1+1")
    alice_org.refresh_from_db()
    begun(alice_org)
    today = f"{timezone.now():%Y-%m-%d}"
    address = reverse("relay:ops_invoices_csv")
    tomorrow = f"{timezone.now() + timedelta(days=1):%Y-%m-%d}"
    rows = list(csv.DictReader(io.StringIO(operator.get(f"{address}?since={today}&until={tomorrow}").content.decode())))
    assert [(row["number"], row["organization"], row["total_cents"]) for row in rows] == [
        ("GP-000001", "'=1+1", "14500")
    ]
    none = operator.get(f"{address}?since=2020-01-01&until=2020-02-01").content.decode().splitlines()
    assert len(none) == 1
    assert operator.get(f"{address}?since=yesterday").status_code == 302


def test_revenue_counts_paying_customers(operator: Client, alice_org: Organization, bob_org: Organization) -> None:
    """By version of a plan, without the installation's own organization."""
    begun(alice_org)
    begun(bob_org)
    page = operator.get(reverse("relay:ops_billing"))
    assert [(row.plan.code, row.customers, row.month_cents) for row in page.context["revenue"]] == [
        ("standard", 2, 29_000)
    ]
