"""App passwords by the API."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.changes import SYSTEM
from relay import app_passwords
from relay.credentials import create_app_password, disable_smtp_user
from relay.models import AppPassword
from relay.networks import add_network

pytestmark = pytest.mark.django_db


def test_the_secret_is_in_one_answer_only(call, shop) -> None:
    """Made: 201 with a secret that verifies, not to be stored; read again: the hint."""
    response = call("POST", f"/smtp-users/{shop.pk}/app-passwords", {"name": "web"})
    made = response.json()
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    row = AppPassword.objects.get(pk=made["id"])
    assert app_passwords.match(made["secret"], [bytes(row.digest)])
    listed = call("GET", f"/smtp-users/{shop.pk}/app-passwords")
    assert made["secret"] not in listed.content.decode()
    (only,) = listed.json()["items"]
    assert only == {name: value for name, value in made.items() if name != "secret"}
    assert (only["state"], only["kind"], only["smtp_user_id"]) == ("live", "app", shop.pk)


def test_states(call, shop) -> None:
    """live, expired and revoked are told apart."""
    soon = timezone.now() + timedelta(hours=1)
    create_app_password(shop, name="live", actor=SYSTEM)
    expired = create_app_password(shop, name="expired", actor=SYSTEM, expires_at=soon).app_password
    AppPassword.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    revoked = create_app_password(shop, name="revoked", actor=SYSTEM).app_password
    assert call("POST", f"/app-passwords/{revoked.pk}/revoke").json()["state"] == "revoked"
    items = call("GET", f"/smtp-users/{shop.pk}/app-passwords").json()["items"]
    assert {each["name"]: each["state"] for each in items} == {
        "live": "live",
        "expired": "expired",
        "revoked": "revoked",
    }


def test_revoking_twice_is_once(call, shop) -> None:
    """The time of the first stays."""
    row = create_app_password(shop, name="web", actor=SYSTEM).app_password
    first = call("POST", f"/app-passwords/{row.pk}/revoke").json()
    assert call("POST", f"/app-passwords/{row.pk}/revoke").json() == first


def test_refusals_of_the_core(call, shop) -> None:
    """A device without allowlist and a disabled SMTP user conflict; an end in the past is not valid."""
    path = f"/smtp-users/{shop.pk}/app-passwords"
    assert call("POST", path, {"name": "printer", "kind": "device"}).status_code == 409
    assert call("POST", path, {"name": "web", "expires_at": "2020-01-01T00:00:00Z"}).status_code == 422
    assert call("POST", path, {"name": "web", "expires_at": "2999-01-01T00:00:00"}).status_code == 422  # no zone
    assert call("POST", path, {"name": " "}).status_code == 422
    disable_smtp_user(shop, actor=SYSTEM)
    assert call("POST", path, {"name": "web"}).status_code == 409
    assert not AppPassword.objects.exists()


def test_a_device_password_with_an_allowlist(call, shop, alice_org) -> None:
    """16 characters in fours."""
    add_network(alice_org, cidr="192.0.2.0/24", smtp_user=shop, actor=SYSTEM)
    made = call("POST", f"/smtp-users/{shop.pk}/app-passwords", {"name": "printer", "kind": "device"}).json()
    assert len(made["secret"].replace("-", "")) == 16


def test_another_organizations_is_not_found(bob_call, shop) -> None:
    """bob cannot revoke alice's."""
    row = create_app_password(shop, name="web", actor=SYSTEM).app_password
    assert bob_call("POST", f"/app-passwords/{row.pk}/revoke").status_code == 404
    row.refresh_from_db()
    assert row.revoked_at is None
