"""The organization's settings, its states, and switching between several."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.urls import reverse

from accounts import organizations
from accounts.models import Membership, Organization, Role, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from tests.conftest import make_organization, make_user

URL = "/account/organization/"
RULES = {
    "name": "Alice Works",
    "mfa_required": "on",
    "password_classes": "3",
    "password_max_age_days": "180",
    "password_history_length": "5",
}


def test_the_owner_sets_the_rules(alice: User, alice_org: Organization, client_for: Any) -> None:
    """What changed is recorded, and nothing else."""
    client_for(alice).post(URL, RULES)
    alice_org.refresh_from_db()
    assert (alice_org.mfa_required, alice_org.password_max_age_days) == (True, 180)
    recorded = ChangeEvent.objects.get(organization_id=alice_org.pk, action="organization.updated")
    assert recorded.values is not None
    assert set(recorded.values) == set(RULES) - {"name"}


def test_only_the_owner(alice_org: Organization, vera: User, client_for: Any) -> None:
    """An admin manages people, not the rules."""
    admin = make_user("ada@alice.example")
    Membership.objects.create(user=admin, organization=alice_org, role=Role.ADMIN)
    for user in (admin, vera):
        assert client_for(user).post(URL, RULES).status_code == 403
    alice_org.refresh_from_db()
    assert not alice_org.mfa_required


def test_loosening_needs_recent_identity(alice: User, alice_org: Organization, client_for: Any) -> None:
    """An unattended browser changes no rule."""
    response = client_for(alice, recent=False).post(URL, RULES)
    assert response.headers["Location"].startswith(reverse("accounts:confirm_identity"))


@pytest.mark.parametrize(
    "wrong",
    [{"password_max_age_days": "0"}, {"password_history_length": "99"}, {"password_classes": "9"}, {"name": ""}],
)
def test_nonsense_is_a_form_error(alice: User, alice_org: Organization, client_for: Any, wrong: dict[str, str]) -> None:
    """Nothing is saved."""
    assert client_for(alice).post(URL, {**RULES, **wrong}).status_code == 200
    alice_org.refresh_from_db()
    assert not alice_org.mfa_required


def test_switching_shows_the_other_organization(alice: User, alice_org: Organization, client_for: Any) -> None:
    """Until the next switch."""
    second = make_organization("Second Shop", "second", alice)
    client = client_for(alice)
    assert client.get(reverse("accounts:team")).wsgi_request.organization == alice_org
    client.post(reverse("accounts:switch_organization"), {"organization": second.pk})
    assert client.get(reverse("accounts:team")).wsgi_request.organization == second


@pytest.mark.parametrize("wanted", ["", "x", "-1", "99999999999999999999", "٣"])
def test_switching_to_nonsense_is_404(alice: User, alice_org: Any, client_for: Any, wanted: str) -> None:
    """Not a 500."""
    assert client_for(alice).post(reverse("accounts:switch_organization"), {"organization": wanted}).status_code == 404


def test_switching_to_anothers_is_404(
    alice: User, alice_org: Organization, bob_org: Organization, client_for: Any
) -> None:
    """As if it were not there; a session that names it shows one's own."""
    client = client_for(alice)
    response = client.post(reverse("accounts:switch_organization"), {"organization": bob_org.pk})
    assert response.status_code == 404
    session = client.session
    session["organization_id"] = bob_org.pk
    session.save()
    assert client.get(reverse("accounts:team")).wsgi_request.organization == alice_org


def test_suspending_tells_the_other_floors_inside_the_transaction(
    alice_org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook sees the new state, and if it fails nothing has changed."""
    seen = []
    monkeypatch.setattr(organizations, "on_state_change", [lambda organization: seen.append(organization.state)])
    organizations.suspend(alice_org, reason="Unpaid", actor=SYSTEM)
    assert seen == ["suspended"]
    assert (alice_org.state, alice_org.state_reason) == ("suspended", "Unpaid")

    def fail(organization: Organization) -> None:
        raise RuntimeError

    monkeypatch.setattr(organizations, "on_state_change", [fail])
    with pytest.raises(RuntimeError):
        organizations.activate(alice_org, actor=SYSTEM)
    alice_org.refresh_from_db()
    assert alice_org.state == "suspended"
    assert not ChangeEvent.objects.filter(action="organization.activated").exists()


def test_a_suspension_needs_a_reason_and_happens_once(alice_org: Organization) -> None:
    """The customer reads the reason; a second click records nothing."""
    with pytest.raises(ValidationError, match="why"):
        organizations.suspend(alice_org, reason="  ", actor=SYSTEM)
    organizations.suspend(alice_org, reason="Abuse", actor=SYSTEM)
    with pytest.raises(ValidationError, match="already"):
        organizations.suspend(alice_org, reason="Abuse again", actor=SYSTEM)
    assert ChangeEvent.objects.filter(action="organization.suspended").count() == 1


@pytest.mark.django_db
def test_gatepost_itself_is_never_suspended() -> None:
    """Account mail must leave."""
    with pytest.raises(ValidationError):
        organizations.suspend(organizations.system_organization(), reason="Oops", actor=SYSTEM)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("Alice & Söhne GmbH", "alice-sohne-gm"), ("日本", "customer"), ("---", "customer"), ("A_b", "a-b")],
)
def test_slugs_fit_into_usernames(alice: User, name: str, stem: str) -> None:
    """Lower-case letters, digits and hyphens, short enough to leave room for the user's part."""
    made = organizations.create_organization(name=name, owner=alice, actor=SYSTEM)
    made.full_clean()
    assert made.slug == stem


def test_a_given_slug_is_taken_as_it_is(alice: User, alice_org: Organization) -> None:
    """If it is taken the caller learns so, and nothing is left behind."""
    with pytest.raises(IntegrityError):
        organizations.create_organization(name="Again", slug="alice-works", owner=alice, actor=SYSTEM)
