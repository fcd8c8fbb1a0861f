"""relay.waiting.verbs: what happens to one recipient."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import Organization
from audit.changes import Actor
from relay.models import Hold, MessageEvent, NextHopTrouble, Recipient
from relay.models.messages import NEVER
from relay.waiting.verbs import RUNNING, By, act
from tests.relay.ops.builders import make_message, make_recipient
from tests.relay.waiting.rows import waiting

pytestmark = pytest.mark.django_db

CUSTOMER = By(Actor("alice@alice.example"), is_operator=False)
OPERATOR = By(Actor("carol@gatepost.example"), is_operator=True, note="Complaint 12")


def outcome(organization: Organization, verb: str, how: str, by: By) -> str:
    """ "changed", or why not."""
    recipient = waiting(organization, how)
    with transaction.atomic():
        done = act(verb, [recipient.pk], by=by)
    if done.again:
        return RUNNING
    return next(iter(done.skipped), "changed")


@pytest.mark.parametrize(
    ("verb", "how", "customers", "operators"),
    [
        ("hold", "due", "changed", "changed"),
        ("hold", "parked", "changed", "changed"),
        ("hold", "leased", RUNNING, RUNNING),
        ("hold", "limit", "limit", "changed"),
        ("hold", "customer", "held already", "changed"),
        ("hold", "operator", "held already", "held already"),
        ("hold", "delivered", "gone", "gone"),
        ("release", "customer", "changed", "changed"),
        ("release", "operator", "operator", "changed"),
        ("release", "limit", "limit", "limit"),
        ("release", "due", "not held", "not held"),
        ("release", "parked", "route", "route"),
        ("retry", "later", "changed", "changed"),
        ("retry", "due", "due", "due"),
        ("retry", "parked", "route", "route"),
        ("retry", "limit", "limit", "limit"),
        ("retry", "customer", "held", "held"),
        ("retry", "leased", RUNNING, RUNNING),
        ("cancel", "due", "changed", "changed"),
        ("cancel", "limit", "changed", "changed"),
        ("cancel", "operator", "changed", "changed"),
        ("cancel", "leased", RUNNING, RUNNING),
        ("cancel", "delivered", "gone", "gone"),
        ("wake", "parked", "changed", "changed"),
        ("wake", "later", "not held", "not held"),
    ],
)
def test_what_may_be_done(alice_org: Organization, verb: str, how: str, customers: str, operators: str) -> None:
    """Each thing that can be done, on mail in each way of waiting, by a customer and by an operator."""
    assert (outcome(alice_org, verb, how, CUSTOMER), outcome(alice_org, verb, how, OPERATOR)) == (customers, operators)


def test_a_hold_and_its_release(alice_org: Organization) -> None:
    """Held mail is never due; released it is due at once, and the timeline tells both with who and why."""
    recipient = waiting(alice_org, "later")
    with transaction.atomic():
        act("hold", [recipient.pk], by=OPERATOR)
    recipient.refresh_from_db()
    assert (recipient.state, recipient.due_at, recipient.hold.was_debited) == ("held", NEVER, True)
    with transaction.atomic():
        act("release", [recipient.pk], by=OPERATOR)
    recipient.refresh_from_db()
    assert recipient.state == "queued" and abs(recipient.due_at - timezone.now()) < timedelta(seconds=30)
    assert not Hold.objects.exists()
    events = MessageEvent.objects.order_by("pk").values_list("kind", "actor", "note", "recipient")
    assert list(events) == [
        ("held", "carol@gatepost.example", "Complaint 12", None),
        ("released", "carol@gatepost.example", "Complaint 12", None),
    ]


def test_a_retry_reaches_a_next_hop_in_trouble(alice_org: Organization) -> None:
    """Its time is over for who asks; a smarthost's only for the operator, other domains' for nobody."""
    until = timezone.now() + timedelta(minutes=20)
    for lane in ("mx:example.net", "mx:other.example", "smarthost:1:5"):
        NextHopTrouble.objects.create(lane=lane, blocked_until=until)

    def blocked_after(by: By) -> set[str]:
        with transaction.atomic():
            act("retry", [waiting(alice_org, "later", address="a@Example.NET").pk], by=by)
        return set(NextHopTrouble.objects.filter(blocked_until__gt=timezone.now()).values_list("lane", flat=True))

    assert blocked_after(CUSTOMER) == {"mx:other.example", "smarthost:1:5"}
    assert blocked_after(OPERATOR) == {"mx:other.example"}


def test_released_to_the_limit(alice_org: Organization) -> None:
    """What was held by the limit, then by hand, waits for the limit again: nothing was debited for it."""
    recipient = waiting(alice_org, "limit")
    for verb in ("hold", "release"):
        with transaction.atomic():
            act(verb, [recipient.pk], by=OPERATOR)
    recipient.refresh_from_db()
    assert recipient.state == "held" and recipient.due_at < NEVER and not Hold.objects.exists()


def test_a_cancelled_recipient(alice_org: Organization) -> None:
    """It has ended, says who ended it and what the next hop had said, and one of several has an event of its own."""
    message = make_message(alice_org, recipient_count=2)
    first, second = (
        make_recipient(message, f"{name}@example.net", attempts=1, reply="451 4.7.1 Later") for name in "ab"
    )
    with transaction.atomic():
        act("cancel", [first.pk], by=OPERATOR)
    first.refresh_from_db()
    assert first.state == "cancelled" and first.settled_at is not None
    assert first.reply == "Cancelled by the operator. Complaint 12 The last answer: 451 4.7.1 Later"
    assert Recipient.objects.get(pk=second.pk).state == "queued"
    assert MessageEvent.objects.get().recipient_id == first.pk
