"""What an operator changes: state, plan and domains of a customer; each is recorded with the operator's name."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.credentials import PlanFull
from relay.domains import add_domain, mark_verified
from relay.models import CredentialChange, SendingDomain
from tests.relay.ops.builders import make_smtp_user


def last_change(organization: Organization) -> ChangeEvent:
    return ChangeEvent.objects.filter(organization_id=organization.pk).latest("sequence")


def test_suspension(alice_org: Organization, carol: User, operator: Client) -> None:
    """Suspending writes the state, the reason and the change, and tells the SMTP door to end the sessions."""
    response = operator.post(reverse("relay:ops_suspend", args=[alice_org.pk]), {"reason": "Sends spam"})
    assert response.headers["Location"] == reverse("relay:ops_customer", args=[alice_org.pk])
    alice_org.refresh_from_db()
    assert (alice_org.state, alice_org.state_reason) == ("suspended", "Sends spam")
    change = last_change(alice_org)
    assert (change.action, change.actor, change.actor_id) == ("organization.suspended", carol.email, carol.pk)
    assert CredentialChange.objects.filter(organization_id=alice_org.pk, ends_sessions=True).exists()


def test_suspension_needs_a_reason(alice_org: Organization, operator: Client) -> None:
    """Without a reason nothing is suspended, and the form says what is missing."""
    response = operator.post(reverse("relay:ops_suspend", args=[alice_org.pk]), {"reason": "  "})
    assert b"This field is required" in response.content
    alice_org.refresh_from_db()
    assert alice_org.state == "active"


def test_opening_the_page_changes_nothing(alice_org: Organization, operator: Client) -> None:
    """The page asks; only its button suspends."""
    page = operator.get(reverse("relay:ops_suspend", args=[alice_org.pk])).content.decode()
    assert "every login is refused" in page
    alice_org.refresh_from_db()
    assert alice_org.state == "active"


def test_suspending_twice(alice_org: Organization, operator: Client) -> None:
    """A second suspension is refused in words and recorded once."""
    address = reverse("relay:ops_suspend", args=[alice_org.pk])
    operator.post(address, {"reason": "Sends spam"})
    response = operator.post(address, {"reason": "Again"})
    assert b"in this state already" in response.content
    changes = ChangeEvent.objects.filter(organization_id=alice_org.pk, action="organization.suspended")
    assert changes.count() == 1


def test_unsuspending(alice_org: Organization, carol: User, operator: Client) -> None:
    """Activating takes the suspension and its reason away, recorded."""
    operator.post(reverse("relay:ops_suspend", args=[alice_org.pk]), {"reason": "Sends spam"})
    operator.post(reverse("relay:ops_activate", args=[alice_org.pk]))
    alice_org.refresh_from_db()
    assert (alice_org.state, alice_org.state_reason) == ("active", "")
    assert (last_change(alice_org).action, last_change(alice_org).actor) == ("organization.activated", carol.email)


def test_plan_change(alice_org: Organization, carol: User, operator: Client) -> None:
    """Another plan is the customer's from then on, recorded with both."""
    address = reverse("relay:ops_plan", args=[alice_org.pk])
    page = operator.get(address)
    choices = {str(label): value.value for value, label in page.context["form"].fields["plan"].choices}
    premium = next(value for label, value in choices.items() if label.startswith("Premium"))
    assert "Premium: 3,000 emails an hour, 185 USD a month" in choices
    operator.post(address, {"plan": premium})
    alice_org.subscription.refresh_from_db()
    assert alice_org.subscription.plan.code == "premium"
    change = last_change(alice_org)
    assert (change.action, change.actor) == ("plan.changed", carol.email)
    assert change.values["from"] == "trial"


def test_plan_with_less_room(alice_org: Organization, operator: Client) -> None:
    """An operator may give less at once; what is too much goes on working, and none can be added."""
    plan = alice_org.subscription.plan
    small = type(plan).objects.create(
        code="tiny", name="Tiny", price_cents=1, recipients_per_hour=1, smtp_users_max=1, position=9
    )
    make_smtp_user(alice_org, "one")
    make_smtp_user(alice_org, "two")
    operator.post(reverse("relay:ops_plan", args=[alice_org.pk]), {"plan": small.pk, "when": "now"})
    organization = Organization.objects.get(pk=alice_org.pk)
    assert organization.subscription.plan == small
    assert organization.smtp_users.filter(disabled_at=None).count() == 2
    with pytest.raises(PlanFull):
        make_smtp_user(organization, "three")


def test_domain_is_marked_verified(alice_org: Organization, carol: User, operator: Client) -> None:
    """The mark carries the operator, in the row and in the customer's change log."""
    domain = add_domain(alice_org, name="shop.example", actor=SYSTEM)
    operator.post(reverse("relay:ops_domain_verify", args=[alice_org.pk, domain.pk]))
    domain.refresh_from_db()
    assert domain.verified_at is not None
    assert domain.verified_by == carol
    assert (last_change(alice_org).action, last_change(alice_org).actor) == ("domain.verified", carol.email)


def test_domain_that_another_holds(alice_org: Organization, bob_org: Organization, operator: Client) -> None:
    """A domain that another customer holds verified is refused in words, and stays unverified."""
    mark_verified(add_domain(bob_org, name="shop.example", actor=SYSTEM), actor=SYSTEM, verified_by=None)
    domain = add_domain(alice_org, name="shop.example", actor=SYSTEM)
    response = operator.post(reverse("relay:ops_domain_verify", args=[alice_org.pk, domain.pk]))
    assert response.status_code == 200
    assert b"Another organization holds shop.example as verified." in response.content
    domain.refresh_from_db()
    assert domain.verified_at is None


def test_verification_is_withdrawn(alice_org: Organization, carol: User, operator: Client) -> None:
    """Withdrawing takes the mark away, recorded."""
    domain = add_domain(alice_org, name="shop.example", actor=SYSTEM)
    mark_verified(domain, actor=SYSTEM, verified_by=None)
    operator.post(reverse("relay:ops_domain_withdraw", args=[alice_org.pk, domain.pk]))
    assert not SendingDomain.objects.filter(verified_at__isnull=False).exists()
    change = last_change(alice_org)
    assert (change.action, change.actor) == ("domain.verification_withdrawn", carol.email)


def test_domain_of_another_customer(alice_org: Organization, bob_org: Organization, operator: Client) -> None:
    """A domain is found only under the customer that has it."""
    domain = add_domain(bob_org, name="bob.example", actor=SYSTEM)
    assert operator.post(reverse("relay:ops_domain_verify", args=[alice_org.pk, domain.pk])).status_code == 404
