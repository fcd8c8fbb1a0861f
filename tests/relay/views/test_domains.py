"""relay.views.domains: added, shown with their state, removed."""

from django.test import Client

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.domains import add_domain
from relay.models import SendingDomain


def test_domain_is_added_unverified(alice_client: Client, alice_org: Organization) -> None:
    """It is stored in lower case and says who verifies it."""
    page = alice_client.post("/domains/", {"name": "Alice.Example."}, follow=True).content.decode()
    assert alice_org.domains.get().name == "alice.example"
    assert "Not verified" in page


def test_nonsense_is_an_error_at_the_field(alice_client: Client) -> None:
    """No row, and words."""
    response = alice_client.post("/domains/", {"name": "no domain"})
    assert response.status_code == 422
    assert "is not a domain name" in response.content.decode()


def test_remove_asks_first(alice_client: Client, alice_org: Organization) -> None:
    """Opening the address removes nothing."""
    domain = add_domain(alice_org, name="alice.example", actor=SYSTEM)
    alice_client.get(f"/domains/{domain.pk}/remove/")
    assert SendingDomain.objects.exists()
    alice_client.post(f"/domains/{domain.pk}/remove/")
    assert not SendingDomain.objects.exists()


def test_another_organization_cannot_remove(bob_client: Client, alice_org: Organization) -> None:
    """404, and bob's list does not show it."""
    domain = add_domain(alice_org, name="alice.example", actor=SYSTEM)
    assert bob_client.post(f"/domains/{domain.pk}/remove/").status_code == 404
    assert "alice.example" not in bob_client.get("/domains/").content.decode()


def test_viewer_sees_and_may_not_add(vera_client: Client) -> None:
    """A viewer has no form, and sending one is 403."""
    assert "Add a domain" not in vera_client.get("/domains/").content.decode()
    assert vera_client.post("/domains/", {"name": "alice.example"}).status_code == 403
