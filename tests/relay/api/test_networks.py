"""Allowlists by the API."""

import pytest

from audit.changes import SYSTEM
from relay.credentials import create_app_password, create_smtp_user
from relay.models import Network
from relay.networks import add_network

pytestmark = pytest.mark.django_db


def test_add_list_remove(call, shop) -> None:
    """To the organization's list and to an SMTP user's, and away again."""
    first = call("POST", "/networks", {"cidr": "192.0.2.0/24", "label": "Office"})
    assert first.status_code == 201
    assert first.json()["smtp_user_id"] is None
    second = call("POST", "/networks", {"cidr": "2001:db8::/48", "smtp_user_id": shop.pk}).json()
    assert {each["cidr"] for each in call("GET", "/networks").json()["items"]} == {"192.0.2.0/24", "2001:db8::/48"}
    assert [each["id"] for each in call("GET", "/networks", smtp_user=shop.pk).json()["items"]] == [second["id"]]
    removed = call("DELETE", f"/networks/{second['id']}")
    assert (removed.status_code, removed.content) == (204, b"")
    assert Network.objects.count() == 1


def test_an_app_passwords_list(call, shop) -> None:
    """The SMTP user follows from the app password; another one beside it is a mistake."""
    row = create_app_password(shop, name="web", actor=SYSTEM).app_password
    made = call("POST", "/networks", {"cidr": "192.0.2.7", "app_password_id": row.pk}).json()
    assert (made["smtp_user_id"], made["app_password_id"]) == (shop.pk, row.pk)
    other = create_smtp_user(shop.organization, name="other", excess="hold", actor=SYSTEM)
    body = {"cidr": "192.0.2.8", "app_password_id": row.pk, "smtp_user_id": other.pk}
    assert call("POST", "/networks", body).status_code == 422


@pytest.mark.parametrize(
    ("cidr", "status"),
    [("192.0.2.1/24", 422), ("nonsense", 422), ("0.0.0.0/0", 422), ("192.0.2.0/24", 409), ("192.0.2.5", 409)],
)
def test_ranges_that_are_refused(call, alice_org, cidr: str, status: int) -> None:
    """Host bits, nonsense and everything are not valid; what the list has already conflicts."""
    add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM)
    response = call("POST", "/networks", {"cidr": cidr})
    assert response.status_code == status
    assert response.json()["detail"]
    assert Network.objects.count() == 1


def test_pages(call, alice_org) -> None:
    """Every range once."""
    for third in range(5):
        add_network(alice_org, cidr=f"192.0.{third}.0/24", actor=SYSTEM)
    seen, cursor = [], ""
    while cursor is not None:
        page = call("GET", "/networks", limit=2, **({"cursor": cursor} if cursor else {})).json()
        seen += [each["cidr"] for each in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [f"192.0.{third}.0/24" for third in range(5)]


def test_another_organizations_is_not_found(bob_call, shop, alice_org) -> None:
    """bob sees, extends and removes nothing of alice's."""
    row = add_network(alice_org, cidr="192.0.2.0/24", smtp_user=shop, actor=SYSTEM)
    password = create_app_password(shop, name="web", actor=SYSTEM).app_password
    assert bob_call("GET", "/networks").json()["items"] == []
    assert bob_call("GET", "/networks", smtp_user=shop.pk).status_code == 404
    assert bob_call("POST", "/networks", {"cidr": "198.51.100.0/24", "smtp_user_id": shop.pk}).status_code == 404
    assert bob_call("POST", "/networks", {"cidr": "198.51.100.0/24", "app_password_id": password.pk}).status_code == 404
    assert bob_call("DELETE", f"/networks/{row.pk}").status_code == 404
    assert Network.objects.get() == row
