"""relay.retention: refusals and word of changed credentials, deleted by age."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import Organization, Plan
from audit.record import new_reference
from relay import tasks
from relay.models import CredentialChange, Refusal
from relay.retention import delete_expired_refusals, delete_old_credential_changes

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def refuse(organization_id: int, *, at: datetime) -> Refusal:
    return Refusal.objects.create(
        at=at,
        reference=new_reference(),
        organization_id=organization_id,
        smtp_user_id=1,
        ip="192.0.2.1",
        code=451,
        enhanced_code="4.7.1",
        text="The limit is reached",
        worker="smtpd@test:1",
    )


def change(*, at: datetime) -> CredentialChange:
    return CredentialChange.objects.create(at=at, organization_id=1)


def left() -> set[int]:
    return set(Refusal.objects.values_list("id", flat=True))


def test_refusals_go_after_their_own_plans_days(alice_org: Organization, bob_org: Organization) -> None:
    """Alice's plan keeps 7 days, Bob's 90, nobody's 30; each to the minute."""
    Plan.objects.filter(code="trial").update(retention_days=7)
    bob_org.subscription.plan = Plan.objects.get(code="premium")
    bob_org.subscription.save()
    Plan.objects.filter(code="premium").update(retention_days=90)
    kept = set()
    for organization_id, days in ((alice_org.pk, 7), (bob_org.pk, 90), (999_999, 30)):
        end = NOON - timedelta(days=days)
        refuse(organization_id, at=end - MINUTE)
        kept.add(refuse(organization_id, at=end + MINUTE).pk)
    assert delete_expired_refusals(now=NOON) == 3
    assert left() == kept


def test_credential_changes_are_kept_for_a_day() -> None:
    """What is older than 24 hours goes; the younger stays, for smtpd processes that look back."""
    change(at=NOON - timedelta(days=1) - MINUTE)
    young = change(at=NOON - timedelta(days=1) + MINUTE)
    assert delete_old_credential_changes(now=NOON) == 1
    assert CredentialChange.objects.get() == young


def test_all_of_it_goes_batch_after_batch(alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a batch holds are all deleted in one run, and a second run finds nothing."""
    monkeypatch.setattr("relay.retention.SMALL_ROWS_BATCH", 2)
    for _ in range(5):
        refuse(alice_org.pk, at=NOON - timedelta(days=100))
        change(at=NOON - timedelta(days=100))
    young = refuse(alice_org.pk, at=NOON)
    assert (delete_expired_refusals(now=NOON), delete_old_credential_changes(now=NOON)) == (5, 5)
    assert (delete_expired_refusals(now=NOON), delete_old_credential_changes(now=NOON)) == (0, 0)
    assert left() == {young.pk}


def test_the_hourly_task_does_both(alice_org: Organization) -> None:
    """relay.tasks.delete_expired takes them with it."""
    refuse(alice_org.pk, at=datetime(2020, 1, 1, tzinfo=UTC))
    change(at=datetime(2020, 1, 1, tzinfo=UTC))
    tasks.delete_expired()
    assert not Refusal.objects.exists()
    assert not CredentialChange.objects.exists()
