"""Domains and senders by the API."""

import pytest

from audit.changes import SYSTEM
from relay.domains import add_domain, add_sender
from relay.models import SenderAddress, SendingDomain

pytestmark = pytest.mark.django_db


def test_a_domain_and_its_sender(call, shop) -> None:
    """A domain is added unverified; its addresses may then be given to an SMTP user and taken away."""
    domain = call("POST", "/domains", {"name": "Alice.Example."})
    assert domain.status_code == 201
    assert (domain.json()["name"], domain.json()["verified_at"]) == ("alice.example", None)
    assert [each["name"] for each in call("GET", "/domains").json()["items"]] == ["alice.example"]
    sender = call("POST", f"/smtp-users/{shop.pk}/senders", {"pattern": "@alice.example"})
    assert sender.status_code == 201
    assert [each["pattern"] for each in call("GET", f"/smtp-users/{shop.pk}/senders").json()["items"]] == [
        "@alice.example"
    ]
    assert call("DELETE", f"/senders/{sender.json()['id']}").status_code == 204
    assert not SenderAddress.objects.exists()


def test_refusals(call, shop, alice_org) -> None:
    """Nonsense and foreign domains are not valid, a second time conflicts."""
    add_domain(alice_org, name="alice.example", actor=SYSTEM)
    path = f"/smtp-users/{shop.pk}/senders"
    assert call("POST", "/domains", {"name": "nodots"}).status_code == 422
    assert call("POST", "/domains", {"name": "alice.example"}).status_code == 409
    assert call("POST", path, {"pattern": "me@other.example"}).status_code == 422
    assert call("POST", path, {"pattern": "@alice.example"}).status_code == 201
    assert call("POST", path, {"pattern": "@alice.example"}).status_code == 409


def test_another_organizations_is_not_found(bob_call, shop, alice_org) -> None:
    """bob sees and removes nothing of alice's."""
    add_domain(alice_org, name="alice.example", actor=SYSTEM)
    sender = add_sender(shop, pattern="me@alice.example", actor=SYSTEM)
    assert bob_call("GET", "/domains").json()["items"] == []
    assert bob_call("DELETE", f"/senders/{sender.pk}").status_code == 404
    assert SendingDomain.objects.count() == SenderAddress.objects.count() == 1
