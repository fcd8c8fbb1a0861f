"""relay.waiting.summary: the queue in figures."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Organization
from relay.models import NamedRoute, QueueSummary, RouteChoice
from relay.waiting import summary as queue_summary
from relay.waiting.causes import words_of_cause
from tests.relay.waiting.rows import waiting

pytestmark = pytest.mark.django_db


def test_by_next_hop_cause_and_organization(alice_org: Organization, bob_org: Organization) -> None:
    """Each with how many, how many of them are due, and since when the oldest waits."""
    RouteChoice.objects.create(
        organization=bob_org, route=NamedRoute.objects.create(name="Direct", kind="mx", hosts=[])
    )
    old = waiting(alice_org, "due", ago=timedelta(hours=3))
    waiting(alice_org, "later")
    waiting(alice_org, "limit")
    waiting(alice_org, "customer")
    waiting(alice_org, "parked")
    waiting(alice_org, "delivered")
    waiting(bob_org, "later", address="x@EXAMPLE.org")
    found = queue_summary.summary()
    assert (found.number, found.due, found.since, found.is_live) == (6, 1, old.message.received_at, True)
    assert {group.key: group.number for group in found.causes} == {
        "new": 1, "451 4.7.1": 2, "limit": 1, "by hand": 1, "route": 1,
    }  # fmt: skip
    assert [(group.key, group.words, group.number) for group in found.hops] == [
        ("route:0:smarthost", "Smarthost, built in", 5),
        ("mx:example.org", "example.org", 1),
    ]
    assert [(group.words, group.number) for group in found.organizations] == [("Alice Works", 5), ("Bob Ltd", 1)]


def test_words_of_causes() -> None:
    """A code in plain words with the code, our own failures likewise, and what nobody knows as it is."""
    assert words_of_cause("limit").startswith("The hourly limit")
    assert words_of_cause("452 4.2.2").endswith("(452 4.2.2)") and "full" in words_of_cause("452 4.2.2")
    assert "Connection refused" in words_of_cause("words:Connection refused")
    assert words_of_cause("words:<b>odd</b>") != ""


def test_a_long_queue_is_counted_beside_the_page(alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page shows the figures that were kept, with their time; they are made anew at most so often."""
    monkeypatch.setattr(queue_summary, "SHORT", 1)
    monkeypatch.setattr(queue_summary, "_LONG", queue_summary._LONG.replace("20001", "2"))
    for _ in range(3):
        waiting(alice_org, "due")
    assert (queue_summary.summary().number, queue_summary.summary().is_live) == (1, False)
    now = timezone.now()
    assert queue_summary.refresh(now=now) and not queue_summary.refresh(now=now + timedelta(seconds=29))
    waiting(alice_org, "due")
    kept = queue_summary.summary()
    assert (kept.number, kept.at, kept.is_live) == (3, now, False)
    assert queue_summary.refresh(now=now + timedelta(seconds=31)) and queue_summary.summary().number == 4
    QueueSummary.objects.update(seconds=60)
    assert not queue_summary.refresh(now=now + timedelta(minutes=15))
