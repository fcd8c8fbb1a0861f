"""relay.views.domains: added, shown with their records and history, checked, their keys replaced, removed."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.models import Organization, User
from audit.changes import SYSTEM
from relay import dkim_keys, resolver
from relay.dns_records import wanted
from relay.domains import add_domain
from relay.models import DkimKey, SendingDomain
from tests.dns_server import DnsServer


@pytest.fixture
def dns_server(settings: Any) -> Iterator[DnsServer]:
    with DnsServer() as server:
        settings.GATEPOST_RESOLVERS = (server.address,)
        yield server


@pytest.fixture
def domain(alice_org: Organization) -> SendingDomain:
    made = add_domain(alice_org, name="alice.example", actor=SYSTEM)
    dkim_keys.ensure_keys(made)
    return made


def test_domain_is_added_unverified(alice_client: Client, alice_org: Organization) -> None:
    """It is stored in lower case, and its page shows the records to publish."""
    page = alice_client.post("/domains/", {"name": "Alice.Example."}, follow=True).content.decode()
    assert alice_org.domains.get().name == "alice.example"
    assert "Not verified" in page
    made = alice_org.domains.get()
    assert f"gatepost-domain={made.challenge}" in page
    for key in made.dkim_keys.all():
        assert f"{key.selector}._domainkey.alice.example" in page
        assert key.public in page


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


def test_check_reads_the_dns(alice_client: Client, domain: SendingDomain, dns_server: DnsServer) -> None:
    """What the DNS has is on the page with words, whatever stands there; the right proof verifies."""
    ownership = wanted.ownership(wanted.plan_of(domain))
    dns_server.put_text("alice.example", "v=spf1 <script>alert(1)</script> -all")
    dns_server.put_text(f"_dmarc.{domain.name}", "v=DMARC1; p=none")
    dns_server.put_text(ownership.name, ownership.value)
    page = alice_client.post(f"/domains/{domain.pk}/check/", follow=True).content.decode()
    assert "alice.example is verified." in page
    assert "<script>alert(1)" not in page
    assert "“&lt;script&gt;alert(1)&lt;/script&gt;” is not SPF" in page
    assert "p=none only watches" in page
    again = alice_client.post(f"/domains/{domain.pk}/check/", follow=True).content.decode()
    assert "It was checked a moment ago." in again
    part = alice_client.get(f"/domains/{domain.pk}/", HTTP_HX_REQUEST="true").content.decode()
    assert part.lstrip().startswith("<section") and "<html" not in part


def test_held_by_another(
    alice_client: Client, bob_org: Organization, domain: SendingDomain, dns_server: DnsServer
) -> None:
    """The page says so, and never who it is."""
    held = add_domain(bob_org, name="alice.example", actor=SYSTEM)
    SendingDomain.objects.filter(pk=held.pk).update(verified_at=held.created_at, proof="dns")
    page = alice_client.get(f"/domains/{domain.pk}/").content.decode()
    assert "Another organization holds this domain." in page
    assert bob_org.name not in page


def test_private_keys_are_on_no_page(alice_client: Client, domain: SendingDomain) -> None:
    """Neither sealed nor open."""
    page = alice_client.get(f"/domains/{domain.pk}/").content.decode()
    for key in domain.dkim_keys.all():
        assert bytes(key.sealed).decode() not in page
    assert "PRIVATE" not in page


def test_replace_keys(
    alice_client: Client, domain: SendingDomain, alice: User, client_for: Callable[..., Client]
) -> None:
    """It asks first, needs a recent second factor, shows both records, and can be taken back."""
    DkimKey.objects.filter(domain=domain).update(active_at=domain.created_at)
    path = f"/domains/{domain.pk}/rotate/"
    assert client_for(alice, recent=False).post(path).status_code == 302
    alice_client.get(path)
    assert domain.dkim_keys.count() == 2
    page = alice_client.post(path, follow=True).content.decode()
    assert len(set(re.findall(r"(gp\w+-[re])\._domainkey\.alice\.example", page))) == 4
    assert "New keys wait for their records already." in alice_client.post(path, follow=True).content.decode()
    assert "New keys wait for their records." in page
    page = alice_client.post(f"/domains/{domain.pk}/abandon/", follow=True).content.decode()
    assert "The new keys are gone." in page
    assert domain.dkim_keys.count() == 2


def test_a_dead_dns_is_said(alice_client: Client, domain: SendingDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no resolver answers, nothing changes and the page says that there was no answer."""
    monkeypatch.setattr(resolver, "TRY_SECONDS", (0.05, 0.05))
    page = alice_client.post(f"/domains/{domain.pk}/check/", follow=True).content.decode()
    assert "The DNS did not answer." in page
    assert not SendingDomain.objects.get().verified_at
