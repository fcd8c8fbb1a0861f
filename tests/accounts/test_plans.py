"""The change of a plan."""

import pytest

from accounts import plans
from accounts.models import Organization, Plan
from audit.changes import SYSTEM
from audit.models import ChangeEvent


def plan(code: str) -> Plan:
    return Plan.objects.get(code=code)


def test_changes_and_records(alice_org: Organization) -> None:
    """The next accept reads the new number from this row."""
    plans.change_plan(alice_org, plan=plan("premium"), actor=SYSTEM)
    assert Organization.objects.get(pk=alice_org.pk).subscription.plan.recipients_per_hour == 3_000
    recorded = ChangeEvent.objects.get(action="plan.changed")
    assert recorded.values == {"from": "trial", "to": "premium", "recipients_per_hour": 3000}


def test_to_the_same_plan_is_no_change(alice_org: Organization) -> None:
    """A double click records nothing."""
    plans.change_plan(alice_org, plan=plan("trial"), actor=SYSTEM)
    assert not ChangeEvent.objects.filter(action="plan.changed").exists()


def test_too_small_a_plan_is_refused_with_the_figures(alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """What relay counts is bound by the plan's column of that name."""
    monkeypatch.setattr(plans, "usage_counters", {"smtp_users": lambda organization_id: 4})
    Plan.objects.filter(code="standard").update(smtp_users_max=3)
    with pytest.raises(plans.PlanTooSmall, match="room for 3, and 4 are in use"):
        plans.change_plan(alice_org, plan=plan("standard"), actor=SYSTEM)
    Plan.objects.filter(code="standard").update(smtp_users_max=4)
    plans.change_plan(alice_org, plan=plan("standard"), actor=SYSTEM)


@pytest.mark.django_db
def test_the_hidden_plan_is_not_on_sale() -> None:
    """Four, in order of price."""
    assert [p.code for p in plans.plans_on_sale()] == ["trial", "standard", "premium", "professional"]
