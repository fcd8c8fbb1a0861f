"""relay.waiting.actions: much mail at once, in batches that can be interrupted anywhere."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM, Actor, verify_chain
from audit.models import ChangeEvent
from relay.models import NamedRoute, QueueAction, QueueActionItem, Recipient, RouteChoice
from relay.waiting import actions
from relay.waiting.filters import FilterInvalid, WaitingFilter
from tests.relay.ops.builders import make_message, make_recipient
from tests.relay.waiting.rows import waiting

pytestmark = pytest.mark.django_db

CAROL = Actor("carol@gatepost.example", 7)


def many(organization: Organization, number: int, **values: Any) -> list[Recipient]:
    message = make_message(organization, recipient_count=number, route="smarthost")
    rows = [Recipient(message=message, address=f"r{each}@example.net", **values) for each in range(number)]
    return Recipient.objects.bulk_create(rows)


def test_a_killed_action_goes_on(alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is committed with its place in the list: the next worker does the rest, and nobody is done twice."""
    monkeypatch.setattr(actions, "BATCH", 10)
    many(alice_org, 35)
    action = actions.request_action("cancel", WaitingFilter(), actor=CAROL)
    assert [actions._step() for _ in range(3)] == [0, 10, 10]
    action.refresh_from_db()
    assert (action.state, action.total, action.changed) == ("running", 35, 20)
    assert QueueActionItem.objects.filter(action=action).count() == 15
    real = actions.act

    def dying(*args: Any, **words: Any) -> Any:
        real(*args, **words)
        raise KeyboardInterrupt

    monkeypatch.setattr(actions, "act", dying)
    with pytest.raises(KeyboardInterrupt):
        actions.run_due()
    assert Recipient.objects.filter(state="cancelled").count() == 20
    monkeypatch.setattr(actions, "act", real)
    assert actions.run_due() == 15
    action.refresh_from_db()
    assert (action.state, action.changed, action.skipped) == ("done", 35, {})
    assert not QueueActionItem.objects.exists() and actions.run_due() == 0
    recorded = ChangeEvent.objects.filter(organization_id=0).order_by("sequence")
    assert [(event.action, event.actor) for event in recorded] == [
        ("mail.cancel_asked", CAROL.name),
        ("mail.cancel_done", CAROL.name),
    ]
    assert recorded[1].values == {"changed": 35, "left": {}} and verify_chain(0).ok


def test_what_is_being_delivered_is_tried_again(alice_org: Organization) -> None:
    """Later, several times; what then still is being delivered is named."""
    leased = waiting(alice_org, "leased")
    late = waiting(alice_org, "leased")
    action = actions.request_action("cancel", WaitingFilter(), actor=CAROL)
    actions.run_due()
    action.refresh_from_db()
    assert action.finished_at is None and action.next_at > timezone.now() + timedelta(seconds=10)
    Recipient.objects.filter(pk=late.pk).update(lease=None, leased_until=None)
    for _pass in range(actions.PASSES_MAX + 1):
        QueueAction.objects.filter(finished_at__isnull=True).update(next_at=timezone.now())
        actions.run_due()
    action.refresh_from_db()
    assert (action.state, action.changed, action.skipped) == ("done", 1, {"running": 1})
    assert Recipient.objects.get(pk=leased.pk).state == "queued"


def test_only_what_was_asked_for(alice_org: Organization, bob_org: Organization) -> None:
    """By next hop, cause and organization; what was accepted after the look at it is left alone."""
    grey = waiting(alice_org, "later")
    NamedRoute.objects.create(name="Own", kind="mx")
    RouteChoice.objects.create(organization=bob_org, route=NamedRoute.objects.get())
    by_mx = waiting(bob_org, "later", address="x@Example.ORG")
    waiting(alice_org, "due")
    now = timezone.now()

    def meant(**parts: Any) -> set[int]:
        return set(actions.sample(WaitingFilter(**parts), is_customers=False, as_of=now))

    assert meant(cause="451 4.7.1") == {grey.pk, by_mx.pk}
    assert meant(hop="mx:example.org") == meant(organization_id=bob_org.pk) == {by_mx.pk}
    assert meant(hop="route:0:smarthost", cause="451 4.7.1", state="queued") == {grey.pk}
    assert meant(cause="'; DROP TABLE relay_recipient; --") == meant(state="held") == set()
    assert str(actions.count(WaitingFilter(), is_customers=False, as_of=now)) == "3"
    assert str(actions.count(WaitingFilter(), is_customers=False, as_of=now - timedelta(hours=1))) == "0"


def test_a_customers_search(alice_org: Organization, bob_org: Organization) -> None:
    """It means the customer's own mail, and of a message only those recipients that fit."""
    message = make_message(alice_org, recipient_count=2)
    ann, ben = (make_recipient(message, f"{name}@example.net") for name in ("ann", "ben"))
    make_recipient(make_message(alice_org), "ann@example.net", state="delivered")
    waiting(bob_org, "due", address="ann@example.net")
    asked = WaitingFilter(organization_id=alice_org.pk, search="to:ann")
    now = timezone.now()
    assert actions.sample(asked, is_customers=True, as_of=now) == [ann.pk]
    everything = WaitingFilter(organization_id=alice_org.pk)
    assert set(actions.sample(everything, is_customers=True, as_of=now)) == {ann.pk, ben.pk}
    with pytest.raises(FilterInvalid, match="not known"):
        actions.count(WaitingFilter(organization_id=alice_org.pk, search="bcc:x"), is_customers=True, as_of=now)
    action = actions.request_action("hold", asked, actor=Actor("alice@alice.example", 1), organization=alice_org)
    assert actions.run(action, seconds=2).changed == 1
    ann.refresh_from_db()
    assert (ann.state, ann.hold.by_operator) == ("held", False)
    assert Recipient.objects.filter(state="held").count() == 1
    recorded = ChangeEvent.objects.get(organization_id=alice_org.pk, action="mail.hold_done")
    assert recorded.values == {"changed": 1, "left": {}}


def test_counting_has_bounds(alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 10,000 it says so, and what takes too long is not waited for."""
    many(alice_org, 6)
    monkeypatch.setattr(actions, "COUNTED_MAX", 5)
    counted = actions.count(WaitingFilter(), is_customers=False, as_of=timezone.now())
    assert (counted.number, counted.is_least, str(counted)) == (5, True, "5+")
    monkeypatch.setattr(actions, "COUNT_MS", 20)
    assert actions._within_time("SELECT pg_sleep(5)", None) is None
    assert actions._within_time("SELECT 1", None) == [(1,)]


def test_stopping(alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done stays done, the rest stays as it was, and the log says who stopped it."""
    monkeypatch.setattr(actions, "BATCH", 2)
    many(alice_org, 5)
    action = actions.request_action("cancel", WaitingFilter(organization_id=alice_org.pk), actor=CAROL)
    actions._step()
    actions._step()
    stopped = actions.stop_action(action, actor=Actor("other@gatepost.example"))
    assert (stopped.state, actions.run_due()) == ("stopped", 0)
    assert Recipient.objects.filter(state="cancelled").count() == 2
    for chain in (0, alice_org.pk):
        event = ChangeEvent.objects.get(organization_id=chain, action="mail.cancel_stopped")
        assert (event.actor, event.values["changed"]) == ("other@gatepost.example", 2)


def test_parked_mail_follows_a_changed_route(alice_org: Organization, bob_org: Organization) -> None:
    """What waited on a route that held it is due again, where the route does not hold it any more."""
    hold = NamedRoute.objects.create(name="Hold", kind="hold")
    RouteChoice.objects.create(organization=bob_org, route=hold)
    free, kept = waiting(alice_org, "parked"), waiting(bob_org, "parked")
    actions.wake_parked(SYSTEM)
    assert actions.run_due() == 1
    assert Recipient.objects.get(pk=free.pk).due_at <= timezone.now()
    assert Recipient.objects.get(pk=kept.pk).due_at.year == 9999
