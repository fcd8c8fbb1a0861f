"""The customer's side of billing: the change with its preview, invoices, details."""

from datetime import UTC, datetime, timedelta

from django.test import Client
from django.utils import timezone

from accounts import plans
from accounts.billing import subscriptions
from accounts.billing.models import BillingProfile, Invoice
from accounts.models import Organization, Plan, Subscription
from audit.changes import SYSTEM
from audit.models import ChangeEvent

NAME = "Ünïcode & <b>Söhne</b> " + "x" * 150


def begun(organization: Organization, code: str = "standard") -> Invoice:
    Subscription.objects.filter(organization=organization).update(plan=plans.present_plan(code))
    invoice = subscriptions.begin(organization, now=timezone.now())
    assert invoice is not None
    return invoice


def test_more_is_previewed_with_its_cost(alice_client: Client, alice_org: Organization) -> None:
    """At once, with what the next invoice has more; after it the page says so."""
    begun(alice_org)
    asked = alice_client.get("/plan/change/premium/").content.decode()
    assert "the next invoice has $40.00 more" in asked  # the month has just begun
    assert "Your plan is Premium now." in alice_client.post("/plan/change/premium/", follow=True).content.decode()


def test_less_comes_at_the_months_end_and_can_be_taken_back(alice_client: Client, alice_org: Organization) -> None:
    """The page names the day and offers to stay; what will not fit is named before."""
    begun(alice_org)
    Plan.objects.filter(code="trial").update(members_max=1)
    asked = alice_client.get("/plan/change/trial/").content.decode()
    day = f"{Subscription.objects.get(organization=alice_org).period_end:%Y-%m-%d}"
    assert f"on {day}; until then all stays as it is" in asked
    page = alice_client.post("/plan/change/trial/", follow=True).content.decode()
    assert f"From {day} on your plan will be Trial." in page
    assert "/plan/change/trial/" not in page
    page = alice_client.post("/plan/change/standard/", follow=True).content.decode()
    assert "Your plan stays Standard." in page
    assert "your plan will be" not in page


def test_an_old_version_is_kept_and_shown(alice_client: Client, alice_org: Organization) -> None:
    """A plan that is no longer sold stays the customer's, with its price; the new version can be bought."""
    begun(alice_org)
    plans.edit_plan(plans.present_plan("standard"), values={"price_cents": 99_900}, actor=SYSTEM)
    page = alice_client.get("/plan/").content.decode()
    assert "$145" in page
    assert "$999" in page


def test_an_invoice_shows_its_document(alice_client: Client, bob_org: Organization, alice_org: Organization) -> None:
    """With lines and what is open; another customer's is not there."""
    invoice = begun(alice_org)
    page = alice_client.get(f"/plan/invoices/{invoice.pk}/").content.decode()
    for words in ("GP-000001", "Standard, a month", "$145.00", "Still to pay", "Alice Works"):
        assert words in page
    assert "GP-000001" in alice_client.get("/plan/").content.decode()
    foreign = begun(bob_org)
    assert alice_client.get(f"/plan/invoices/{foreign.pk}/").status_code == 404


def test_details_are_saved_recorded_and_escaped(alice_client: Client, alice_org: Organization) -> None:
    """Hostile names are words; the next invoice has them, the one before does not."""
    before = begun(alice_org)
    values = {"name": NAME[:200], "address": "1 Mill Lane\n<script>", "tax_id": "GB1", "email": "books@alice.example"}
    alice_client.post("/plan/details/", values)
    assert BillingProfile.objects.get().address.split() == ["1", "Mill", "Lane", "<script>"]
    assert ChangeEvent.objects.filter(action="billing_profile.changed").count() == 1
    alice_client.post("/plan/details/", values)
    assert ChangeEvent.objects.filter(action="billing_profile.changed").count() == 1
    subscriptions.renew_due(timezone.now() + timedelta(days=32))
    after = Invoice.objects.order_by("number").last()
    assert after is not None
    page = alice_client.get(f"/plan/invoices/{after.pk}/").content.decode()
    assert "&lt;script&gt;" in page
    assert "<b>Söhne" not in page
    assert "Söhne" not in before.buyer
    for wrong in ({"email": "nobody"}, {"name": "x" * 201}, {"address": "x" * 501}):
        assert alice_client.post("/plan/details/", values | wrong).status_code == 200


def test_overdue_is_said(alice_client: Client, alice_org: Organization) -> None:
    """In the list of invoices, once its day has passed."""
    Subscription.objects.filter(organization=alice_org).update(plan=plans.present_plan("standard"))
    subscriptions.begin(alice_org, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert "Overdue" in alice_client.get("/plan/").content.decode()
