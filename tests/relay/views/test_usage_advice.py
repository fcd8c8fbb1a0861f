"""Advice on plans, from messages to the page."""

from collections.abc import Callable
from datetime import timedelta

from django.test import Client
from django.utils import timezone

from accounts.billing.models import UsageAdvice
from accounts.models import Organization
from audit.changes import SYSTEM
from relay.credentials import create_smtp_user
from relay.models import Message, Refusal
from relay.usage_advice import make_advice


def test_it_is_made_from_what_was_sent(
    alice_client: Client, alice_org: Organization, bob_org: Organization, queued_message: Callable[..., Message]
) -> None:
    """1,400 emails within an hour are too many for Trial and fit Standard; older mail and others' mail do not count."""
    now = timezone.now()
    smtp_user = create_smtp_user(alice_org, name="shop", excess="refuse", actor=SYSTEM)
    sent = [queued_message(alice_org) for _number in range(3)]
    for message, ago in zip(sent, (timedelta(minutes=90), timedelta(minutes=50), timedelta(days=31)), strict=True):
        values = {"received_at": now - ago, "recipient_count": 700, "smtp_user": smtp_user}
        Message.objects.filter(pk=message.pk).update(**values)
    Refusal.objects.create(
        at=now, reference="K7Q2MX9TA4", organization_id=alice_org.pk, smtp_user_id=1, ip="192.0.2.1", code=451,
        enhanced_code="4.7.1", text="The limit of 1000 emails an hour of your plan is reached; room in 9 seconds",
    )  # fmt: skip
    assert make_advice(now) == 1
    made = UsageAdvice.objects.get()
    assert (made.organization, made.emails, made.peak, made.over_limit) == (alice_org, 1400, 1400, 1)
    assert made.refused == {"1000": 400, "1500": 0, "3000": 0, "5000": 0}
    page = alice_client.get("/plan/").content.decode()
    assert "Enough, and the cheapest" in page
    assert "400" in page
    Message.objects.all().update(received_at=now - timedelta(days=40))
    assert make_advice(now) == 0
    assert "Which plan would have done" not in alice_client.get("/plan/").content.decode()
