"""relay.views.networks: allowed after a warning that names real sign-ins; removed after a question."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, User
from audit.changes import SYSTEM
from relay.models import Network, SmtpUser
from relay.networks import add_network


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("192.0.2.77/24", "Did you mean 192.0.2.0/24?"),
        ("nonsense", "is not an address or range"),
        ("0.0.0.0/0", "allows every address"),
        ("2001:db8::1/48", "Did you mean 2001:db8::/48?"),
    ],
)
def test_malformed_range_gets_a_clear_error(alice_client: Client, shop: SmtpUser, typed: str, words: str) -> None:
    """The error stands in the form, with what was typed, and nothing is stored."""
    response = alice_client.post(f"/smtp-users/{shop.pk}/networks/add/", {"cidr": typed})
    assert response.status_code == 422
    assert words in response.context["network_form"].errors["cidr"][0]
    assert not Network.objects.exists()


def test_range_is_added_for_one_smtp_user(alice_client: Client, shop: SmtpUser) -> None:
    """Host bits unset, label kept, the last day ends at its midnight."""
    sent = {"cidr": "192.0.2.7", "label": "Office", "ends_on": "2126-01-31"}
    alice_client.post(f"/smtp-users/{shop.pk}/networks/add/", sent)
    row = Network.objects.get()
    assert (row.cidr, row.label, row.smtp_user) == ("192.0.2.7/32", "Office", shop)
    assert row.ends_at is not None
    assert row.ends_at.isoformat() == "2126-02-01T00:00:00+00:00"


def test_day_that_is_over_is_refused(alice_client: Client, shop: SmtpUser) -> None:
    """An end in the past would allow nothing."""
    response = alice_client.post(f"/smtp-users/{shop.pk}/networks/add/", {"cidr": "192.0.2.7", "ends_on": "2001-01-31"})
    assert "That day is over." in response.content.decode()


def test_warning_names_sign_ins_that_would_be_refused(
    alice_client: Client, shop: SmtpUser, attempted: Callable[..., object]
) -> None:
    """A list that shuts out a client in use is not saved before somebody has read whom."""
    attempted(ip="198.51.100.20", smtp_user=shop)
    url = f"/smtp-users/{shop.pk}/networks/add/"
    response = alice_client.post(url, {"cidr": "192.0.2.0/24", "label": "Office"})
    assert "198.51.100.20" in response.content.decode()
    assert not Network.objects.exists()
    alice_client.post(url, {**dict(response.context["question"].values)})
    assert Network.objects.get().label == "Office"


def test_no_warning_when_everything_in_use_is_inside(
    alice_client: Client, shop: SmtpUser, attempted: Callable[..., object]
) -> None:
    """Nobody is asked without a reason."""
    attempted(ip="192.0.2.20", smtp_user=shop)
    response = alice_client.post(f"/smtp-users/{shop.pk}/networks/add/", {"cidr": "192.0.2.0/24"})
    assert response.status_code == 302


def test_overlap_is_refused_on_the_page(alice_client: Client, alice_org: Organization) -> None:
    """The organization's list tells which range is in the way."""
    add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM)
    response = alice_client.post("/networks/add/", {"cidr": "192.0.2.7"})
    assert response.status_code == 422
    assert "lies inside 192.0.2.0/24" in response.content.decode()


@pytest.mark.parametrize(
    ("cidr", "asked"),
    [("10.0.0.0/15", True), ("10.0.0.0/16", False), ("2001:db8::/31", True), ("2001:db8::/32", False)],
)
def test_a_wide_range_needs_recent_identity(
    cidr: str, asked: bool, alice: User, alice_org: Organization, client_for: Callable[..., Client]
) -> None:
    """An unattended browser opens no list to very many addresses, confirmed or not."""
    answer = client_for(alice, recent=False).post("/networks/add/", {"cidr": cidr, "confirmed": "yes"})
    assert answer.headers["Location"].startswith(reverse("accounts:confirm_identity")) is asked
    assert Network.objects.exists() is not asked
    client_for(alice).post("/networks/add/", {"cidr": cidr, "confirmed": "yes"})
    assert Network.objects.get().cidr == cidr


def test_removing_the_last_one_needs_recent_identity(
    alice: User, alice_org: Organization, client_for: Callable[..., Client]
) -> None:
    """One of two goes without; the last, which opens the list, asks who is there."""
    first = add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM)
    last = add_network(alice_org, cidr="198.51.100.0/24", actor=SYSTEM)
    client = client_for(alice, recent=False)
    client.post(f"/networks/{first.pk}/remove/")
    assert Network.objects.get() == last
    for ask in (client.get, client.post):
        answer = ask(f"/networks/{last.pk}/remove/")
        assert answer.headers["Location"].startswith(reverse("accounts:confirm_identity"))
    assert Network.objects.get() == last
    client_for(alice).post(f"/networks/{last.pk}/remove/")
    assert not Network.objects.exists()


def test_removing_the_last_one_says_that_all_may_come(alice_client: Client, alice_org: Organization) -> None:
    """An empty list allows any address: the question says it."""
    row = add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM)
    assert "any address may sign in then" in alice_client.get(f"/networks/{row.pk}/remove/").content.decode()
    alice_client.post(f"/networks/{row.pk}/remove/")
    assert not Network.objects.exists()


def test_removing_one_of_two_names_who_is_shut_out(
    alice_client: Client, alice_org: Organization, shop: SmtpUser, attempted: Callable[..., object]
) -> None:
    """The same warning stands before a removal."""
    row = add_network(alice_org, cidr="198.51.100.0/24", actor=SYSTEM)
    add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM)
    attempted(ip="198.51.100.20", smtp_user=shop)
    assert "198.51.100.20" in alice_client.get(f"/networks/{row.pk}/remove/").content.decode()


def test_another_organization_cannot_remove(bob_client: Client, alice_org: Organization) -> None:
    """404, and the range stays."""
    row = add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM)
    assert bob_client.post(f"/networks/{row.pk}/remove/").status_code == 404
    assert Network.objects.filter(pk=row.pk).exists()
