"""Rotation, canaries, uses and the policy by the API."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.changes import SYSTEM
from relay.credentials import create_app_password
from relay.models import AppPassword, SmtpUser
from relay.password_policy import Policy, set_policy
from tests.relay.api.conftest import Call

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def old(shop: SmtpUser) -> AppPassword:
    return create_app_password(shop, name="web-1", actor=SYSTEM).app_password


def soon(days: int = 7) -> str:
    return (timezone.now() + days * DAY).isoformat()


def states(call: Call, shop: SmtpUser) -> dict[str, str]:
    items = call("GET", f"/smtp-users/{shop.pk}/app-passwords").json()["items"]
    return {item["name"]: item["state"] for item in items}


def test_rotate(call: Call, shop: SmtpUser, old: AppPassword) -> None:
    """The answer has the new secret; the list says which one is ending, and from which the new one takes over."""
    answer = call("POST", f"/app-passwords/{old.pk}/rotate", {"name": "web-2", "old_ends_at": soon()})
    assert answer.status_code == 201
    assert answer.json()["secret"].startswith("gp_") and answer.json()["replaces_id"] == old.pk
    assert states(call, shop) == {"web-1": "ending", "web-2": "live"}


@pytest.mark.parametrize("body", [{}, {"old_ends_at": "yesterday"}, {"old_ends_at": "2020-01-01T00:00:00Z"}])
def test_rotate_without_an_end_that_makes_sense_is_422(call: Call, old: AppPassword, body: dict[str, str]) -> None:
    """The overlap is chosen, never assumed."""
    assert call("POST", f"/app-passwords/{old.pk}/rotate", body).status_code == 422


def test_a_second_rotation_is_a_conflict(call: Call, old: AppPassword) -> None:
    """With the name of what takes over already."""
    call("POST", f"/app-passwords/{old.pk}/rotate", {"name": "web-2", "old_ends_at": soon()})
    answer = call("POST", f"/app-passwords/{old.pk}/rotate", {"old_ends_at": soon()})
    assert answer.status_code == 409 and "web-2" in answer.json()["detail"]


def test_another_organizations_is_404(bob_call: Call, old: AppPassword) -> None:
    """To be rotated or looked at."""
    assert bob_call("POST", f"/app-passwords/{old.pk}/rotate", {"old_ends_at": soon()}).status_code == 404
    assert bob_call("GET", f"/app-passwords/{old.pk}/uses").status_code == 404


def test_canary(call: Call, shop: SmtpUser) -> None:
    """Made like any other, and shown as what it is."""
    answer = call("POST", f"/smtp-users/{shop.pk}/app-passwords", {"name": "wiki", "kind": "canary"})
    assert (answer.status_code, answer.json()["state"], answer.json()["expires_at"]) == (201, "canary", None)


def test_asleep(call: Call, shop: SmtpUser, old: AppPassword) -> None:
    """A state of its own, not "revoked"; a key cannot wake it."""
    AppPassword.objects.update(slept_at=timezone.now())
    assert states(call, shop) == {"web-1": "asleep"}
    assert call("POST", f"/app-passwords/{old.pk}/wake").status_code == 404
    assert call("POST", f"/app-passwords/{old.pk}/rotate", {"old_ends_at": soon()}).status_code == 409


def test_why_it_was_revoked(call: Call, old: AppPassword) -> None:
    """By a member or the API, its replacement, or a leak."""
    assert call("POST", f"/app-passwords/{old.pk}/revoke").json()["revoked_because"] == "member"


def test_policy(call: Call, bob_call: Call, shop: SmtpUser) -> None:
    """What owners set is read by the API, and binds it."""
    set_policy(shop.organization, policy=Policy(max_days=30), actor=SYSTEM)
    assert call("GET", "/app-password-policy").json() == {
        "max_days": 30, "unused_notice_days": 90, "sleep_days": None,
    }  # fmt: skip
    assert bob_call("GET", "/app-password-policy").json()["max_days"] is None
    path = f"/smtp-users/{shop.pk}/app-passwords"
    assert call("POST", path, {"name": "a"}).json()["expires_at"] is not None
    refused = call("POST", path, {"name": "b", "expires_at": soon(31)})
    assert refused.status_code == 422 and "at most" in refused.json()["detail"]


def test_the_policy_is_changed_in_parts(call: Call, shop: SmtpUser, old: AppPassword) -> None:
    """What is left out stays; null takes a rule away; how many got an end is told."""
    answer = call("PATCH", "/app-password-policy", {"max_days": 60})
    assert answer.json() == {"max_days": 60, "unused_notice_days": 90, "sleep_days": None, "ends_set": 1}
    old.refresh_from_db()
    assert old.expires_at is not None
    assert call("PATCH", "/app-password-policy", {"max_days": None}).json()["max_days"] is None


@pytest.mark.parametrize(
    "body", [{"max_days": 0}, {"max_days": 10**9}, {"sleep_days": 30}, {"max_days": "soon"}, {"more": 1}]
)
def test_a_policy_that_makes_no_sense_is_422(call: Call, body: dict[str, object]) -> None:
    """And changes nothing. (Sleep after 30 days would come before the notice after 90.)"""
    assert call("PATCH", "/app-password-policy", body).status_code == 422
    assert call("GET", "/app-password-policy").json()["max_days"] is None
