"""SMTP users by the API."""

import pytest

from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.credentials import create_smtp_user
from relay.models import SmtpUser

pytestmark = pytest.mark.django_db


def test_create(call, alice_org) -> None:
    """201 with the username; the change log names the key."""
    response = call("POST", "/smtp-users", {"name": "shop", "excess": "hold", "recipients_per_hour": 100})
    assert response.status_code == 201
    body = response.json()
    assert body["username"] == "shop.alice-works"
    assert (body["excess"], body["recipients_per_hour"], body["disabled_at"]) == ("hold", 100, None)
    assert SmtpUser.objects.get(pk=body["id"]).organization == alice_org
    assert ChangeEvent.objects.get(action="smtp_user.created").actor.startswith("api:gpk_")


@pytest.mark.parametrize("excess", [None, "", "maybe"])
def test_what_happens_to_the_excess_must_be_said(call, excess: str | None) -> None:
    """No default: 422 without it."""
    body = {"name": "shop"} if excess is None else {"name": "shop", "excess": excess}
    assert call("POST", "/smtp-users", body).status_code == 422
    assert not SmtpUser.objects.exists()


def test_a_taken_name_is_409(call, shop) -> None:
    """The detail says whose."""
    response = call("POST", "/smtp-users", {"name": "shop", "excess": "hold"})
    assert response.status_code == 409
    assert "shop.alice-works" in response.json()["detail"]


def test_a_bad_name_is_422(call) -> None:
    """In the words of the core."""
    response = call("POST", "/smtp-users", {"name": "Sh op!", "excess": "hold"})
    assert response.status_code == 422
    assert "lower-case" in response.json()["detail"]


def test_list_in_pages(call, alice_org, bob_org) -> None:
    """Every one once, by name, none of another organization."""
    for name in ("delta", "alpha", "echo", "bravo", "charlie"):
        create_smtp_user(alice_org, name=name, excess="hold", actor=SYSTEM)
    create_smtp_user(bob_org, name="bob", excess="hold", actor=SYSTEM)
    names, cursor = [], ""
    for _page in range(3):
        page = call("GET", "/smtp-users", limit=2, **({"cursor": cursor} if cursor else {})).json()
        names += [each["username"].partition(".")[0] for each in page["items"]]
        cursor = page["next_cursor"]
    assert names == ["alpha", "bravo", "charlie", "delta", "echo"]
    assert cursor is None


@pytest.mark.parametrize("cursor", ["x", "bm9wZQ", "WzFd", "W251bGxd", "é"])
def test_a_cursor_of_another_making_is_422(call, cursor: str) -> None:
    """Nonsense, other JSON and other types alike."""
    assert call("GET", "/smtp-users", cursor=cursor).status_code == 422


def test_change_only_what_is_sent(call, shop) -> None:
    """A member that is left out stays, null takes a limit away."""
    call("PATCH", f"/smtp-users/{shop.pk}", {"recipients_per_hour": 5, "description": "Shop"})
    body = call("PATCH", f"/smtp-users/{shop.pk}", {"excess": "hold"}).json()
    assert (body["recipients_per_hour"], body["description"], body["excess"]) == (5, "Shop", "hold")
    body = call("PATCH", f"/smtp-users/{shop.pk}", {"recipients_per_hour": None, "excess": None}).json()
    assert (body["recipients_per_hour"], body["excess"]) == (None, "hold")


@pytest.mark.parametrize("field", ["username", "may_send_null", "organization_id", "disabled_at"])
def test_other_members_cannot_be_changed(call, shop, field: str) -> None:
    """422, and nothing is changed."""
    assert call("PATCH", f"/smtp-users/{shop.pk}", {field: None}).status_code == 422


def test_disable_and_enable(call, shop) -> None:
    """Each twice is once."""
    for _twice in range(2):
        assert call("POST", f"/smtp-users/{shop.pk}/disable").json()["disabled_at"]
    for _twice in range(2):
        assert call("POST", f"/smtp-users/{shop.pk}/enable").json()["disabled_at"] is None
    assert ChangeEvent.objects.filter(action="smtp_user.disabled").count() == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/smtp-users/{id}"),
        ("PATCH", "/smtp-users/{id}"),
        ("POST", "/smtp-users/{id}/disable"),
        ("POST", "/smtp-users/{id}/enable"),
        ("GET", "/smtp-users/{id}/app-passwords"),
        ("POST", "/smtp-users/{id}/app-passwords"),
        ("GET", "/smtp-users/{id}/senders"),
        ("POST", "/smtp-users/{id}/senders"),
    ],
)
def test_another_organizations_is_not_found(bob_call, shop, method: str, path: str) -> None:
    """bob gets 404 for alice's, and nothing changes."""
    body = {"pattern": "a@b.example"} if "senders" in path else {"name": "x"} if "passwords" in path else {}
    assert bob_call(method, path.format(id=shop.pk), body).status_code == 404
    shop.refresh_from_db()
    assert shop.disabled_at is None


def test_cram_md5_is_switched(call, shop, settings) -> None:
    """On and off by one field, with the other changes or not at all; null and nothing leave it."""
    path = f"/smtp-users/{shop.pk}"
    settings.GATEPOST_CRAM_MD5 = True
    assert call("GET", path).json()["cram_md5_enabled_at"] is None
    assert call("PATCH", path, {"cram_md5": True, "description": "Camera"}).json()["cram_md5_enabled_at"]
    assert call("PATCH", path, {"cram_md5": None}).json()["cram_md5_enabled_at"]
    assert call("PATCH", path, {"description": "Old camera"}).json()["cram_md5_enabled_at"]
    refused = call("PATCH", path, {"cram_md5": False, "recipients_per_hour": 1, "description": "x" * 121})
    assert refused.status_code == 422
    assert call("GET", path).json()["cram_md5_enabled_at"]
    assert call("PATCH", path, {"cram_md5": False}).json()["cram_md5_enabled_at"] is None


def test_cram_md5_where_it_is_not_allowed(call, shop) -> None:
    """422 in words, and nothing else of the request is done."""
    response = call("PATCH", f"/smtp-users/{shop.pk}", {"cram_md5": True, "description": "Camera"})
    assert response.status_code == 422
    assert "not offered here" in response.json()["detail"]
    shop.refresh_from_db()
    assert (shop.cram_md5_enabled_at, shop.description) == (None, "")


@pytest.mark.parametrize("value", ["yes", 1, "true", []])
def test_cram_md5_is_true_or_false(call, shop, settings, value) -> None:
    """Nothing else switches it on."""
    settings.GATEPOST_CRAM_MD5 = True
    assert call("PATCH", f"/smtp-users/{shop.pk}", {"cram_md5": value}).status_code == 422
    shop.refresh_from_db()
    assert shop.cram_md5_enabled_at is None
