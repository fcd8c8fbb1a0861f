"""relay.tasks and relay.retention: what beat sends, and what is deleted by age."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import Organization, Plan
from audit.models import AuthHour, Reason, Result
from audit.partitions import partition_names
from audit.record import attempt, record_auth_event
from config.celery import app
from relay import tasks
from relay.models import Message, MessageData, Worker
from relay.retention import delete_expired_content, retention_days

pytestmark = pytest.mark.django_db


def days_ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


def test_content_goes_after_the_plans_days(alice_org: Organization, queued_message: Callable[..., Message]) -> None:
    """Delivered 31 days ago on a plan of 30: the content goes, the message stays; a day younger keeps it."""
    old = queued_message(alice_org, state="delivered", received_at=days_ago(30.1))
    young = queued_message(alice_org, state="delivered", received_at=days_ago(29.9))
    assert delete_expired_content() == 1
    assert delete_expired_content() == 0
    assert list(MessageData.objects.values_list("message_id", flat=True)) == [young.id]
    assert Message.objects.filter(id=old.id).exists()


@pytest.mark.parametrize("state", ["queued", "held"])
def test_unsent_mail_is_never_deleted(
    alice_org: Organization, queued_message: Callable[..., Message], state: str
) -> None:
    """However old, what still waits keeps its content."""
    queued_message(alice_org, state=state, received_at=days_ago(400))
    assert delete_expired_content() == 0


def test_each_plan_has_its_own_days(
    alice_org: Organization, bob_org: Organization, queued_message: Callable[..., Message]
) -> None:
    """Bob's plan keeps 90 days, Alice's 7."""
    Plan.objects.filter(code="premium").update(retention_days=90)
    Plan.objects.filter(code="trial").update(retention_days=7)
    bob_org.subscription.plan = Plan.objects.get(code="premium")
    bob_org.subscription.save()
    kept = queued_message(bob_org, state="delivered", received_at=days_ago(60))
    queued_message(alice_org, state="delivered", received_at=days_ago(8))
    assert retention_days()[alice_org.pk] == 7
    assert delete_expired_content() == 1
    assert MessageData.objects.get().message_id == kept.id


def test_more_than_one_batch(
    alice_org: Organization, queued_message: Callable[..., Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that has expired goes in one run, in short transactions."""
    monkeypatch.setattr("relay.retention.BATCH", 2)
    for _ in range(5):
        queued_message(alice_org, state="delivered", received_at=days_ago(40))
    assert delete_expired_content() == 5


def test_delete_expired_does_all_of_it(alice_org: Organization, queued_message: Callable[..., Message]) -> None:
    """Old content and dead workers' heartbeats go; the living stay; twice does no harm."""
    queued_message(alice_org, state="failed", received_at=days_ago(100))
    Worker.objects.create(name="dead", kind="delivery", started_at=days_ago(9), seen_at=days_ago(2))
    Worker.objects.create(name="alive", kind="smtpd", started_at=days_ago(9), seen_at=timezone.now())
    for _ in range(2):
        tasks.delete_expired()
        assert not MessageData.objects.exists()
        assert list(Worker.objects.values_list("name", flat=True)) == ["alive"]


def test_make_partitions() -> None:
    """The days ahead exist; twice makes none twice."""
    tasks.make_partitions()
    made = partition_names()
    tasks.make_partitions()
    assert partition_names() == made
    assert any(f"{timezone.now() + timedelta(days=7):%Y%m%d}" in name.replace("_", "") for name in made)


def test_roll_up_auth_events(alice_org: Organization) -> None:
    """An event is in its hour's sum, once, however often the task runs."""
    record_auth_event(
        attempt(
            result=Result.REFUSED,
            reason=Reason.WRONG_PASSWORD,
            ip="192.0.2.1",
            port=587,
            worker="t",
            organization_id=alice_org.pk,
        )
    )
    for _ in range(2):
        tasks.roll_up_auth_events()
        assert AuthHour.objects.get(organization_id=alice_org.pk).count == 1


def test_beat_sends_what_exists() -> None:
    """Each entry of the schedule names a task that the workers know."""
    app.loader.import_default_modules()
    for entry in app.conf.beat_schedule.values():
        assert entry["task"] in app.tasks
