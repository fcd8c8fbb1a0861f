"""The cast stands as every other test expects it."""

from typing import Any

import pytest
from django.urls import reverse

from accounts.models import Organization, Plan


@pytest.mark.django_db
def test_the_four_plans_of_the_guide_are_seeded() -> None:
    """Name, price and limit are the source guide's."""
    sold = Plan.objects.filter(is_visible=True).order_by("position")
    assert [(p.code, p.price_cents, p.currency, p.recipients_per_hour) for p in sold] == [
        ("trial", 5_000, "USD", 1_000),
        ("standard", 14_500, "USD", 1_500),
        ("premium", 18_500, "USD", 3_000),
        ("professional", 22_500, "USD", 5_000),
    ]


@pytest.mark.django_db
def test_gatepost_owns_its_own_mail() -> None:
    """The system organization is active, on a plan that is not sold."""
    system = Organization.objects.get(is_system=True)
    assert (system.slug, system.state, system.subscription.plan.is_visible) == ("gatepost", "active", False)


@pytest.mark.django_db(transaction=True)
def test_seeds_come_back_after_a_transactional_test() -> None:
    """First half of a pair: either order must find the plans."""
    assert Plan.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_seeds_come_back_after_another_transactional_test() -> None:
    """Second half of the pair."""
    assert Plan.objects.count() == 5


def test_client_for_is_past_the_second_factor(carol: Any, client_for: Any) -> None:
    """The operator's client may see the operator's own security page."""
    assert client_for(carol).get(reverse("accounts:security")).status_code == 200


def test_client_for_may_stop_before_the_second_factor(carol: Any, client_for: Any) -> None:
    """Unverified, the operator is sent to the second factor."""
    response = client_for(carol, verified=False).get(reverse("accounts:security"))
    assert response.headers["Location"].startswith(reverse("accounts:second_factor"))
