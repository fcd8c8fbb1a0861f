"""audit/retention.py: what is forgotten, and when."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit import retention
from audit.changes import verify_chain
from audit.models import AuthDay, AuthEvent, AuthHour
from audit.partitions import make_partitions, partition_names
from audit.queries import AuthFilters, auth_events, filtered_events
from audit.retention import delete_expired
from audit.rollup import roll_up_auth_hours
from tests.audit.conftest import NOON, MakeEvent
from tests.audit.test_changes import ORGANIZATION, change

pytestmark = pytest.mark.django_db


def day(number: int) -> dict[str, object]:
    return {"at": NOON - timedelta(days=number)}


def left() -> set[tuple[int | None, int]]:
    """Organization and age in days of the events that are left."""
    return {(event.organization_id, (NOON - event.at).days) for event in AuthEvent.objects.all()}


def test_each_organization_keeps_its_own_days(make_event: MakeEvent) -> None:
    """30 days by default and for attempts on nobody's names, 90 and 7 where the plan says so."""
    for organization_id in (1, 2, 3, None):
        for age in (0, 7, 8, 30, 31, 90, 91):
            make_event(organization_id=organization_id, **day(age))
    delete_expired(days_of={1: 90, 2: 7}, default=30, now=NOON)
    assert left() == {
        *((1, age) for age in (0, 7, 8, 30, 31, 90)),
        *((2, age) for age in (0, 7)),
        *((owner, age) for owner in (3, None) for age in (0, 7, 8, 30)),
    }


def test_sums_go_with_their_events(make_event: MakeEvent) -> None:
    """An address is forgotten in the sums as well, and a rollup afterwards does not falsify what is kept."""
    for age in (0, 8, 31):
        make_event(organization_id=1, **day(age))
        make_event(organization_id=2, **day(age))
    roll_up_auth_hours()
    forgotten = delete_expired(days_of={2: 7}, default=30, now=NOON)
    kept = set(AuthHour.objects.values_list("organization_id", "hour"))
    assert kept == {(1, NOON), (1, NOON - timedelta(days=8)), (2, NOON)}
    assert (forgotten.hours, forgotten.events) == (3, 1)
    roll_up_auth_hours()
    assert set(AuthHour.objects.values_list("organization_id", "hour")) == kept


def test_days_that_nobody_keeps_are_dropped_as_partitions(make_event: MakeEvent) -> None:
    """The longest retention decides which partitions go."""
    for age in (0, 40, 41):
        make_event(**day(age))
    make_partitions(0, now=NOON)
    forgotten = delete_expired(days_of={7: 40}, default=10, now=NOON)
    assert forgotten.partitions == ("auth_event_20260128",)
    assert "auth_event_20260129" in partition_names()
    assert left() == {(1, 0)}


def test_deletion_goes_on_batch_after_batch(make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a batch holds are all deleted."""
    monkeypatch.setattr(retention, "BATCH", 3)
    for number in range(10):
        make_event(at=NOON - timedelta(days=20, minutes=number))
    make_event(organization_id=2, **day(20))
    assert delete_expired(days_of={2: 60}, default=10, now=NOON).events == 10
    assert left() == {(2, 20)}


def test_a_second_run_forgets_nothing_more(make_event: MakeEvent) -> None:
    """Running it again is harmless."""
    make_event(**day(20))
    make_event(**day(2))
    delete_expired(days_of={}, default=10, now=NOON)
    again = delete_expired(days_of={}, default=10, now=NOON)
    assert (again.partitions, again.events, again.hours) == ((), 0, 0)
    assert left() == {(1, 2)}


def test_changes_are_kept() -> None:
    """The log of changes outlives every retention."""
    change(now=NOON - timedelta(days=2000))
    delete_expired(days_of={ORGANIZATION: 1}, default=1, now=NOON)
    report = verify_chain(ORGANIZATION)
    assert report.ok
    assert report.events == 1


def test_sums_by_day_go_too(make_event: MakeEvent) -> None:
    """As those by hour."""
    for age in (0, 8, 31):
        make_event(organization_id=1, **day(age))
        make_event(organization_id=None, **day(age))
    roll_up_auth_hours()
    delete_expired(days_of={1: 7}, default=30, now=NOON)
    kept = {(row.organization_id, (NOON.date() - row.day).days) for row in AuthDay.objects.all()}
    assert kept == {(1, 0), (None, 0), (None, 8)}


def test_an_organization_without_a_plan_keeps_the_default(make_event: MakeEvent) -> None:
    """It is known by what it has had, and forgotten like all others."""
    for age in (29, 31):
        make_event(organization_id=77, **day(age))
    delete_expired(days_of={1: 7}, default=30, now=NOON)
    assert left() == {(77, 29)}


def test_what_is_past_its_retention_is_hidden_before_it_is_deleted(
    make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the organization's own list, whatever it filters; operators see it until it is gone."""
    now = timezone.now()
    old, new = make_event(at=now - timedelta(days=9)), make_event(at=now - timedelta(days=6))
    monkeypatch.setattr(retention, "kept_days", [lambda organization_id: 7 if organization_id == 1 else None])
    for filters in (
        AuthFilters(),
        AuthFilters(reference=old.reference),
        AuthFilters(since=now - timedelta(days=20)),
        AuthFilters(ip="192.0.2.7"),
    ):
        assert old.id not in {event.id for event in auth_events(1, filters=filters)}
        assert old.id not in set(filtered_events(1, filters=filters).values_list("id", flat=True))
        assert old.id in {event.id for event in auth_events(None, filters=filters)}
    assert {event.id for event in auth_events(1)} == {new.id}
