"""Months, invoices, credit notes, payments."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.db import IntegrityError, connection, transaction

from accounts import plans
from accounts.billing import subscriptions
from accounts.billing.invoices import CreditRefused, Line, credit, issue, open_cents
from accounts.billing.models import BillingProfile, Invoice, InvoiceLine, PendingCharge
from accounts.billing.payments import PaymentRefused, record_payment
from accounts.models import Organization, Subscription
from audit.changes import SYSTEM

NEW_YEAR = datetime(2026, 1, 31, 9, tzinfo=UTC)


def begun(organization: Organization, code: str = "standard", now: datetime = NEW_YEAR) -> Invoice:
    Subscription.objects.filter(organization=organization).update(plan=plans.present_plan(code))
    invoice = subscriptions.begin(organization, now=now)
    assert invoice is not None
    return invoice


def test_the_first_month_is_invoiced_when_it_begins(
    alice_org: Organization, settings: Any, mailoutbox: list[EmailMessage]
) -> None:
    """With tax, the buyer as the profile says, a due date, and a mail to who does the billing."""
    settings.GATEPOST_TAX_RATE, settings.GATEPOST_INVOICE_SELLER = Decimal("19"), "Gatepost\nAt the gate 1"
    BillingProfile.objects.create(
        organization=alice_org, name="Alice Works plc", address="1 Mill Lane", tax_id="GB1", email="books@alice.example"
    )
    invoice = begun(alice_org)
    assert str(invoice) == "GP-000001"
    assert (invoice.subtotal_cents, invoice.tax_cents, invoice.total_cents) == (14_500, 2_755, 17_255)
    assert invoice.buyer == "Alice Works plc\n1 Mill Lane\nTax number: GB1"
    assert invoice.due_at == NEW_YEAR + timedelta(days=14)
    assert [(mail.subject, mail.to) for mail in mailoutbox] == [("Invoice GP-000001", ["books@alice.example"])]
    for words in ("Standard, a month: $145.00", "VAT 19 %: $27.55", "$172.55", f"/plan/invoices/{invoice.pk}/"):
        assert words in mailoutbox[0].body
    assert subscriptions.begin(alice_org, now=NEW_YEAR) is None  # it runs already


def test_each_month_is_invoiced_once_however_late(alice_org: Organization) -> None:
    """A run after three months makes up for each; a second run finds nothing."""
    begun(alice_org)
    late = datetime(2026, 4, 30, 9, tzinfo=UTC)
    assert subscriptions.renew_due(late) == 3
    assert subscriptions.renew_due(late) == 0
    starts = Invoice.objects.order_by("number").values_list("period_start", flat=True)
    assert [each.date().isoformat() for each in starts] == ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]


def test_a_change_in_the_month_is_on_the_next_invoice(alice_org: Organization) -> None:
    """Its two shares first, then the new plan's month; and never again."""
    begun(alice_org)
    middle = NEW_YEAR + timedelta(days=14)
    plans.change_plan(alice_org, plan=plans.present_plan("premium"), actor=SYSTEM, now=middle)
    subscriptions.renew_due(datetime(2026, 3, 31, 9, tzinfo=UTC))
    second, third = Invoice.objects.order_by("number")[1:]
    assert [line.amount_cents for line in second.lines.order_by("position")] == [-7_250, 9_250, 18_500]
    assert [line.amount_cents for line in third.lines.all()] == [18_500]


def test_a_planned_change_comes_with_the_next_month(alice_org: Organization) -> None:
    """The next invoice is the smaller plan's."""
    begun(alice_org, "premium")
    plans.change_plan(alice_org, plan=plans.present_plan("trial"), actor=SYSTEM, now=NEW_YEAR + timedelta(days=1))
    subscriptions.renew_due(datetime(2026, 2, 28, 9, tzinfo=UTC))
    assert Invoice.objects.order_by("number").last().total_cents == 5_000  # type: ignore[union-attr]
    assert Subscription.objects.get(organization=alice_org).plan.code == "trial"


def test_a_credit_larger_than_the_month_waits(alice_org: Organization) -> None:
    """No invoice is negative, and not a cent is lost."""
    begun(alice_org, "professional")
    plans.change_plan(
        alice_org, plan=plans.present_plan("trial"), actor=SYSTEM, when="now", now=NEW_YEAR + timedelta(minutes=1)
    )
    saved = -sum(PendingCharge.objects.values_list("amount_cents", flat=True))
    for month in range(2, 8):
        subscriptions.renew_due(datetime(2026, month, 28, 9, tzinfo=UTC) + timedelta(days=3))
    later = list(Invoice.objects.order_by("number")[1:])
    assert [each.total_cents for each in later][:4] == [0, 0, 0, 4 * 5_000 - saved]
    assert sum(each.total_cents for each in later) == len(later) * 5_000 - saved
    assert later[0].settled_at is not None


def test_a_suspended_customer_is_not_invoiced_and_begins_anew(alice_org: Organization) -> None:
    """The subscription rests at the month's end; the next activation begins a month of its own."""
    begun(alice_org)
    Organization.objects.filter(pk=alice_org.pk).update(state=Organization.State.SUSPENDED)
    march = datetime(2026, 3, 5, tzinfo=UTC)
    assert subscriptions.renew_due(march) == 0
    assert Invoice.objects.count() == 1
    Organization.objects.filter(pk=alice_org.pk).update(state=Organization.State.ACTIVE)
    assert subscriptions.renew_due(march) == 1
    assert Subscription.objects.get(organization=alice_org).period_start == march


def test_what_costs_nothing_is_not_invoiced(alice_org: Organization, settings: Any) -> None:
    """Nor is anything where billing is off."""
    plans.edit_plan(plans.present_plan("standard"), values={"price_cents": 0}, actor=SYSTEM)
    Subscription.objects.filter(organization=alice_org).update(plan=plans.present_plan("standard"))
    assert subscriptions.begin(alice_org, now=NEW_YEAR) is None
    settings.GATEPOST_BILLING = "off"
    assert subscriptions.renew_due(NEW_YEAR + timedelta(days=99)) == 0
    assert not Invoice.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_numbers_have_no_gaps_even_where_some_fail(alice_org: Organization, bob_org: Organization) -> None:
    """Eight threads issue for two customers, every third one rolls back."""

    def work(organization: Organization, seed: int) -> None:
        try:
            for turn in range(6):
                try:
                    with transaction.atomic():
                        issue(organization, lines=[Line("A month", 100)], currency="USD", actor=SYSTEM)
                        if (seed + turn) % 3 == 0:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    pass
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=((alice_org, bob_org)[seed % 2], seed)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = list(Invoice.objects.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, 33))
    times = list(Invoice.objects.order_by("number").values_list("issued_at", flat=True))
    assert len(times) == 32


def test_an_invoice_never_changes(alice_org: Organization) -> None:
    """The database refuses it, whoever asks: amounts, lines, deletion; paying is written once."""
    invoice = begun(alice_org)
    attempts = (
        lambda: Invoice.objects.filter(pk=invoice.pk).update(total_cents=1),
        lambda: Invoice.objects.filter(pk=invoice.pk).update(number=99),
        lambda: InvoiceLine.objects.filter(invoice=invoice).update(amount_cents=1),
        lambda: InvoiceLine.objects.filter(invoice=invoice)._raw_delete("default"),  # type: ignore[attr-defined]
        lambda: Invoice.objects.filter(pk=invoice.pk)._raw_delete("default"),  # type: ignore[attr-defined]
    )
    for attempt in attempts:
        with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
            attempt()
    Invoice.objects.filter(pk=invoice.pk).update(settled_at=NEW_YEAR)
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(settled_at=None)


def test_payments_settle_and_never_exceed(alice_org: Organization) -> None:
    """In parts; the last part settles; a cent too much is refused."""
    invoice = begun(alice_org)
    record_payment(invoice, amount_cents=4_500, actor=SYSTEM, reference="bank 1")
    assert open_cents(invoice) == 10_000
    for wrong in (10_001, 0, -5):
        with pytest.raises(PaymentRefused):
            record_payment(invoice, amount_cents=wrong, actor=SYSTEM)
    record_payment(invoice, amount_cents=10_000, actor=SYSTEM)
    invoice.refresh_from_db()
    assert invoice.settled_at is not None
    with pytest.raises(PaymentRefused):
        record_payment(invoice, amount_cents=1, actor=SYSTEM)


def test_credit_notes_take_back_exactly_what_was_taken(alice_org: Organization, settings: Any) -> None:
    """Parts with odd cents: their tax sums to the invoice's; more is refused; their series is their own."""
    settings.GATEPOST_TAX_RATE = Decimal("7.7")
    invoice = begun(alice_org)
    notes = [credit(invoice, reason="outage", net_cents=cents, actor=SYSTEM) for cents in (3_333, 3_333, 3_333)]
    notes.append(credit(invoice, reason="goodwill", actor=SYSTEM))
    assert sum(note.total_cents for note in notes) == -invoice.total_cents
    assert [str(note) for note in notes] == [f"GPC-{number:06d}" for number in range(1, 5)]
    with pytest.raises(CreditRefused):
        credit(invoice, reason="again", actor=SYSTEM)
    with pytest.raises(CreditRefused):
        credit(notes[0], reason="a credit note", actor=SYSTEM)
    invoice.refresh_from_db()
    assert (open_cents(invoice), invoice.settled_at is None) == (0, False)
