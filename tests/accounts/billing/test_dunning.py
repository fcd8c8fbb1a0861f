"""What follows an invoice that is not paid, and how a payment undoes it."""

import threading
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.db import connection, transaction

from accounts import organizations
from accounts.billing import dunning, subscriptions
from accounts.billing.invoices import credit, open_cents
from accounts.billing.models import DunningStep, Invoice
from accounts.billing.payments import record_payment
from accounts.models import Organization, Subscription
from audit.changes import SYSTEM, record_change
from audit.models import ChangeEvent

START = datetime(2026, 1, 1, tzinfo=UTC)
DUE = START + timedelta(days=14)
State = Organization.State


@pytest.fixture
def unpaid(alice_org: Organization) -> Invoice:
    invoice = subscriptions.begin(alice_org, now=START)
    assert invoice is not None
    return invoice


def state_of(organization: Organization) -> str:
    return Organization.objects.get(pk=organization.pk).state


def test_the_steps_in_their_order(unpaid: Invoice, alice_org: Organization, mailoutbox: list[EmailMessage]) -> None:
    """Two reminders, the hold, the suspension; each once, each mailed, none before its day."""
    seen = []
    for day in range(40):
        for _twice in range(2):
            dunning.run(DUE + timedelta(days=day, minutes=1))
        seen.append((DunningStep.objects.count(), state_of(alice_org)))
    changes = [day for day in range(1, 40) if seen[day] != seen[day - 1]]
    assert changes == [1, 7, 14, 30]
    assert [seen[day] for day in (0, 1, 7, 14, 30)] == [
        (0, State.ACTIVE), (1, State.ACTIVE), (2, State.ACTIVE), (3, State.HELD), (4, State.SUSPENDED),
    ]  # fmt: skip
    subjects = [mail.subject for mail in mailoutbox]
    assert len(subjects) == 4 + 1  # the invoice, later months are not begun here
    assert "Sending is held" in subjects[-2]
    assert "suspended" in subjects[-1]
    actions = set(ChangeEvent.objects.values_list("action", flat=True))
    assert {"organization.held", "organization.suspended"} <= actions


def test_one_that_fails_stops_no_other(
    unpaid: Invoice, alice_org: Organization, bob_org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in dunning nor at a month's end."""
    assert subscriptions.begin(bob_org, now=START)
    drawn, begun = dunning._draw, subscriptions._invoice

    def fail(organization: Organization, *words: Any, **more: Any) -> Any:
        if organization.pk == alice_org.pk:
            raise ValueError("a broken customer")
        real = drawn if isinstance(words[0], Invoice) else begun
        return real(organization, *words, **more)

    monkeypatch.setattr(dunning, "_draw", fail)
    monkeypatch.setattr(subscriptions, "_invoice", fail)
    assert subscriptions.renew_due(START + timedelta(days=31)) == 1
    dunning.run(DUE + timedelta(days=15))
    assert (state_of(alice_org), state_of(bob_org)) == (State.ACTIVE, State.HELD)


def test_with_billing_off_nobody_is_dunned(unpaid: Invoice, alice_org: Organization, settings: Any) -> None:
    """Whatever was invoiced before."""
    settings.GATEPOST_BILLING = "off"
    assert dunning.run(DUE + timedelta(days=40)) == 0
    assert state_of(alice_org) == State.ACTIVE


@pytest.mark.parametrize(("days", "state"), [(15, State.HELD), (31, State.SUSPENDED)])
def test_a_payment_undoes_it_at_once(unpaid: Invoice, alice_org: Organization, days: int, state: str) -> None:
    """In the payment's own transaction; a late run had drawn all steps in one go, with one mail."""
    late = DUE + timedelta(days=days)
    dunning.run(late)
    assert state_of(alice_org) == state
    record_payment(unpaid, amount_cents=open_cents(unpaid) - 1, actor=SYSTEM, now=late)
    assert state_of(alice_org) == state
    record_payment(unpaid, amount_cents=1, actor=SYSTEM, now=late)
    assert state_of(alice_org) == State.ACTIVE
    dunning.run(late + timedelta(days=1))
    assert state_of(alice_org) == State.ACTIVE


def test_a_credit_undoes_it_too(unpaid: Invoice, alice_org: Organization) -> None:
    """What nobody owes any more holds nobody up."""
    late = DUE + timedelta(days=15)
    dunning.run(late)
    credit(unpaid, reason="our mistake", actor=SYSTEM, now=late)
    assert state_of(alice_org) == State.ACTIVE


def test_a_second_late_invoice_keeps_it_held(unpaid: Invoice, alice_org: Organization) -> None:
    """Paying the newer one is not enough."""
    subscriptions.renew_due(START + timedelta(days=31))
    newer = Invoice.objects.order_by("number").last()
    assert newer is not None
    late = newer.due_at + timedelta(days=14)
    dunning.run(late)
    record_payment(newer, amount_cents=open_cents(newer), actor=SYSTEM, now=late)
    assert state_of(alice_org) == State.SUSPENDED
    record_payment(unpaid, amount_cents=open_cents(unpaid), actor=SYSTEM, now=late)
    assert state_of(alice_org) == State.ACTIVE


def test_an_operators_suspension_stays(unpaid: Invoice, alice_org: Organization) -> None:
    """Money does not buy an end of what was done for another reason, before or during dunning."""
    late = DUE + timedelta(days=15)
    dunning.run(late)
    alice_org.refresh_from_db()
    organizations.suspend(alice_org, reason="Phishing.", actor=SYSTEM)
    dunning.run(late + timedelta(days=30))
    record_payment(unpaid, amount_cents=open_cents(unpaid), actor=SYSTEM, now=late + timedelta(days=30))
    assert state_of(alice_org) == State.SUSPENDED


def test_an_operator_may_let_a_debtor_send(unpaid: Invoice, alice_org: Organization) -> None:
    """A step is drawn once: who is activated by hand is not held again for the same invoice."""
    late = DUE + timedelta(days=15)
    dunning.run(late)
    alice_org.refresh_from_db()
    organizations.activate(alice_org, actor=SYSTEM)
    dunning.run(late + timedelta(hours=1))
    assert state_of(alice_org) == State.ACTIVE


@pytest.mark.parametrize("days", [15, 31])
def test_money_does_not_end_a_later_suspension(unpaid: Invoice, alice_org: Organization, days: int) -> None:
    """An operator let the debtor send, and suspended it afterwards for another reason: a payment does not undo that."""
    late = DUE + timedelta(days=days)
    dunning.run(late)
    alice_org.refresh_from_db()
    organizations.activate(alice_org, actor=SYSTEM)
    getattr(organizations, "hold" if days == 15 else "suspend")(alice_org, reason="Phishing.", actor=SYSTEM)
    before = state_of(alice_org)
    record_payment(unpaid, amount_cents=open_cents(unpaid), actor=SYSTEM, now=late)
    assert state_of(alice_org) == before != State.ACTIVE


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ["dunning", "credit"])
def test_a_change_of_plan_meanwhile_is_waited_for(unpaid: Invoice, alice_org: Organization, act: str) -> None:
    """Both record changes and write the subscription: in one order, or PostgreSQL would have to end one of them."""
    late, failed = DUE + timedelta(days=15), list[Exception]()
    if act == "credit":
        dunning.run(late)

    def other() -> None:
        try:
            if act == "dunning":
                dunning.run(late)
            else:
                credit(unpaid, reason="our mistake", actor=SYSTEM, now=late)
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=other)
    with transaction.atomic():
        Subscription.objects.select_for_update(no_key=True).get(organization=alice_org)
        thread.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        with connection.cursor() as cursor:
            number, until = 0, monotonic() + 20
            while not number and monotonic() < until:
                cursor.execute("SELECT pg_stat_clear_snapshot()")
                cursor.execute(waits)
                (number,) = cursor.fetchone()
        record_change("plan.changed", organization_id=alice_org.pk, actor=SYSTEM, subject="Standard")
    thread.join(30)
    assert number and not failed
    assert state_of(alice_org) == (State.HELD if act == "dunning" else State.ACTIVE)
