"""Plans: versions of what is sold, and the change from one to another."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts import plans
from accounts.billing.models import PendingCharge
from accounts.models import Organization, Plan, Subscription
from audit.changes import SYSTEM
from audit.models import ChangeEvent

START = datetime(2026, 4, 1, tzinfo=UTC)
MIDDLE = datetime(2026, 4, 16, tzinfo=UTC)
END = datetime(2026, 5, 1, tzinfo=UTC)


def plan(code: str) -> Plan:
    return plans.present_plan(code)


@pytest.fixture
def april(alice_org: Organization) -> Organization:
    """alice's organization in April, on Standard."""
    Subscription.objects.filter(organization=alice_org).update(
        plan=plan("standard"), anchor_at=START, period_start=START, period_end=END
    )
    return alice_org


def bought(organization: Organization) -> Subscription:
    return Subscription.objects.select_related("plan", "next_plan").get(organization=organization)


def test_changes_and_records(alice_org: Organization) -> None:
    """The next accept reads the new number from this row."""
    change = plans.change_plan(alice_org, plan=plan("premium"), actor=SYSTEM)
    assert change.at_once
    assert bought(alice_org).plan.recipients_per_hour == 3_000
    values = ChangeEvent.objects.get(action="plan.changed").values
    assert (values["from"], values["to"], values["recipients_per_hour"]) == ("trial", "premium", 3000)


def test_to_the_same_plan_is_no_change(alice_org: Organization) -> None:
    """A double click records nothing."""
    plans.change_plan(alice_org, plan=plan("trial"), actor=SYSTEM)
    assert not ChangeEvent.objects.filter(action="plan.changed").exists()


def test_more_holds_at_once_and_costs_the_rest_of_the_month(april: Organization) -> None:
    """Half of April: half of Premium is charged, half of Standard credited."""
    change = plans.change_plan(april, plan=plan("premium"), actor=SYSTEM, now=MIDDLE)
    assert (change.at_once, change.due_cents) == (True, 18_500 // 2 - 14_500 // 2)
    assert bought(april).plan.code == "premium"
    kept = PendingCharge.objects.filter(organization=april).order_by("amount_cents")
    assert [row.amount_cents for row in kept] == [-7_250, 9_250]


def test_less_waits_for_the_periods_end(april: Organization) -> None:
    """What was paid is used up; nothing is charged; the preview says the same."""
    seen = plans.preview(april, plan=plan("trial"), now=MIDDLE)
    change = plans.change_plan(april, plan=plan("trial"), actor=SYSTEM, now=MIDDLE)
    assert seen == change
    assert (change.at_once, change.takes_effect_at, change.due_cents) == (False, END, 0)
    assert (bought(april).plan.code, bought(april).next_plan) == ("standard", plan("trial"))
    assert ChangeEvent.objects.filter(action="plan.change_planned").count() == 1


def test_a_planned_change_is_taken_back_by_choosing_the_present_plan(april: Organization) -> None:
    """And by a change to more, which is stronger."""
    plans.change_plan(april, plan=plan("trial"), actor=SYSTEM, now=MIDDLE)
    plans.change_plan(april, plan=plan("standard"), actor=SYSTEM, now=MIDDLE)
    assert bought(april).next_plan is None
    assert ChangeEvent.objects.filter(action="plan.change_taken_back").exists()
    plans.change_plan(april, plan=plan("trial"), actor=SYSTEM, now=MIDDLE)
    plans.change_plan(april, plan=plan("professional"), actor=SYSTEM, now=MIDDLE)
    assert (bought(april).plan.code, bought(april).next_plan) == ("professional", None)


def test_an_operator_may_change_to_less_at_once(april: Organization) -> None:
    """The rest of the dearer month is credited."""
    change = plans.change_plan(april, plan=plan("trial"), actor=SYSTEM, when="now", now=MIDDLE)
    assert (bought(april).plan.code, change.due_cents) == ("trial", 2_500 - 7_250)


def test_what_does_not_fit_is_named_and_nothing_is_taken(april: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """What relay counts is bound by the plan's column of that name; the change goes through."""
    monkeypatch.setattr(plans, "usage_counters", {"smtp_users": lambda organization_id: 4})
    Plan.objects.filter(code="trial").update(smtp_users_max=3)
    change = plans.change_plan(april, plan=plan("trial"), actor=SYSTEM, now=MIDDLE)
    assert change.excess == [plans.Excess("smtp_users", 4, 3)]
    assert bought(april).next_plan == plan("trial")


def test_a_full_plan_refuses_one_more(april: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the figure, and what to do."""
    monkeypatch.setitem(plans.usage_counters, "domains", lambda organization_id: 3)
    Plan.objects.filter(code="standard").update(domains_max=3)
    with pytest.raises(plans.PlanFull, match="room for 3 sending domains"):
        plans.refuse_if_full(april, "domains")
    Plan.objects.filter(code="standard").update(domains_max=None)
    plans.refuse_if_full(april, "domains")


def test_an_edit_does_not_change_what_was_bought(april: Organization) -> None:
    """Who bought the old version keeps it; the next customer buys the new one."""
    old = plan("standard")
    new = plans.edit_plan(old, values={"price_cents": 16_000, "recipients_per_hour": 1_200}, actor=SYSTEM)
    assert (new.version, new.code, new.pk == old.pk) == (2, "standard", False)
    assert (bought(april).plan.price_cents, bought(april).plan.recipients_per_hour) == (14_500, 1_500)
    assert plan("standard") == new
    assert [each.code for each in plans.plans_on_sale()] == ["trial", "standard", "premium", "professional"]
    event = ChangeEvent.objects.get(action="plan.edited")
    assert event.values["price_cents"] == {"from": 14_500, "to": 16_000}
    with pytest.raises(plans.PlanRefused, match="no longer sold"):
        plans.edit_plan(old, values={"price_cents": 1}, actor=SYSTEM)


@pytest.mark.django_db
@pytest.mark.parametrize("values", [{"price_cents": 20_000}, {"is_visible": False}, {"position": 9}])
def test_what_nobody_bought_or_concerns_nobody_is_edited_in_place(values: dict[str, Any]) -> None:
    """No version that nobody could tell from the one before."""
    before = plan("premium")
    after = plans.edit_plan(before, values=values, actor=SYSTEM)
    assert (after.pk, after.version) == (before.pk, 1)
    assert all(getattr(plan("premium"), name) == value for name, value in values.items())
    assert plans.edit_plan(after, values=values, actor=SYSTEM) == after
    assert ChangeEvent.objects.filter(action="plan.edited").count() == 1


@pytest.mark.django_db
def test_a_new_tier_needs_a_new_code() -> None:
    """Also one that no version of another plan ever had."""
    values = {"code": "agency", "name": "Agency", "price_cents": 1, "recipients_per_hour": 10}
    assert plans.add_plan(values=values, actor=SYSTEM).version == 1
    with pytest.raises(plans.PlanRefused, match="agency"):
        plans.add_plan(values=values, actor=SYSTEM)


def test_another_currency_is_refused(april: Organization) -> None:
    """Shares of two currencies cannot be set off against each other."""
    Plan.objects.filter(code="premium").update(currency="EUR")
    with pytest.raises(plans.PlanRefused, match="another currency"):
        plans.change_plan(april, plan=plan("premium"), actor=SYSTEM, now=MIDDLE)


@pytest.mark.django_db
def test_the_hidden_plan_is_not_on_sale() -> None:
    """Four, in order of price."""
    assert [p.code for p in plans.plans_on_sale()] == ["trial", "standard", "premium", "professional"]


def test_what_is_asked_after_the_end_takes_effect_at_once(april: Organization) -> None:
    """A renewal that is late must not charge the month that is over."""
    change = plans.preview(april, plan=plan("premium"), now=END + timedelta(hours=1))
    assert (change.at_once, change.due_cents) == (True, 0)
