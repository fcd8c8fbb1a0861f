"""Customers: search, the list, and the page of one."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, Plan, Subscription, User
from accounts.organizations import system_organization
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.domains import add_domain
from tests.relay.ops.builders import make_event, make_message, make_smtp_user, use_hour

URL = "/ops/customers/"


def names(client: Client, **query: str) -> list[str]:
    response = client.get(reverse("relay:ops_customers"), query)
    return [row.name for row, _hour in response.context["rows"]]


def test_address() -> None:
    """The list is at /ops/customers/."""
    assert reverse("relay:ops_customers") == URL


def test_all_customers_in_order(alice_org: Organization, bob_org: Organization, operator: Client) -> None:
    """Without a search all customers are listed by name, and Gatepost's own organization is not one."""
    assert names(operator) == ["Alice Works", "Bob Ltd"]


@pytest.mark.parametrize(
    "text",
    ["alice w", "ALICE-WORKS", "alice@alice.example", "shop.example", "news@shop.example", "printer.alice"],
)
def test_search_finds_the_one(
    text: str, alice: User, alice_org: Organization, bob_org: Organization, operator: Client
) -> None:
    """A part of the name or slug, a member's address, a domain, or an SMTP username finds its customer alone."""
    add_domain(alice_org, name="shop.example", actor=SYSTEM)
    make_smtp_user(alice_org, "printer")
    assert names(operator, q=text) == ["Alice Works"]


def test_search_by_reference(alice_org: Organization, bob_org: Organization, operator: Client) -> None:
    """The reference of a message or of a login finds whose it is, in a pasted reply too."""
    message = make_message(alice_org)
    event = make_event(organization_id=bob_org.pk)
    assert names(operator, q=message.reference) == ["Alice Works"]
    assert names(operator, q=f"535 5.7.8 Authentication failed [ref {event.reference}]") == ["Bob Ltd"]


def test_search_without_result(alice_org: Organization, operator: Client) -> None:
    """A search that finds nothing says so and offers all customers."""
    response = operator.get(URL, {"q": "nobody knows\x00"})
    assert response.context["rows"] == []
    assert b"No customer matches" in response.content


def test_filters_by_state_and_plan(alice_org: Organization, bob_org: Organization, operator: Client) -> None:
    """State and plan narrow the list."""
    Organization.objects.filter(pk=bob_org.pk).update(state="suspended")
    Subscription.objects.filter(organization=alice_org).update(plan=Plan.objects.get(code="premium"))
    assert names(operator, state="suspended") == ["Bob Ltd"]
    assert names(operator, plan="premium") == ["Alice Works"]


def test_usage_against_the_limit(alice_org: Organization, bob_org: Organization, operator: Client) -> None:
    """Each row shows this hour against the plan's number."""
    use_hour(alice_org, 250)
    rows = operator.get(URL).context["rows"]
    assert [(hour.used, hour.limit) for _row, hour in rows] == [(250, 1000), (0, 1000)]


def test_pages_by_key(operator: Client) -> None:
    """Fifty-two customers with one name are two pages, and each is listed once."""
    Organization.objects.bulk_create([Organization(name="Same Ltd", slug=f"same-{number}") for number in range(52)])
    first = operator.get(URL)
    second = operator.get(first.context["older"])
    listed = [row.slug for page in (first, second) for row, _hour in page.context["rows"]]
    assert len(first.context["rows"]) == 50
    assert len(listed) == len(set(listed)) == 52
    assert second.context["older"] == ""


def test_page_of_one(alice_org: Organization, bob_org: Organization, operator: Client, alice: User, bob: User) -> None:
    """The page shows the customer's members, domains, SMTP users, messages, logins and changes, and nobody else's."""
    add_domain(alice_org, name="shop.example", actor=SYSTEM)
    user = make_smtp_user(alice_org)
    make_smtp_user(bob_org, "secret")
    make_message(alice_org, smtp_user=user, reverse_path="bounce@shop.example")
    make_event(organization_id=alice_org.pk, username_given="app.alice-works", reason="wrong_password")
    page = operator.get(reverse("relay:ops_customer", args=[alice_org.pk])).content.decode()
    for shown in ("alice@alice.example", "shop.example", "app.alice-works", "bounce@shop.example", "domain.added"):
        assert shown in page
    assert "secret.bob" not in page
    assert "bob@bob.example" not in page
    assert "The secret subject" not in page


def test_chain_of_changes_is_checked(alice_org: Organization, operator: Client) -> None:
    """An untouched change log is called whole; an edited one is called broken, with the place."""
    add_domain(alice_org, name="shop.example", actor=SYSTEM)
    address = reverse("relay:ops_customer", args=[alice_org.pk])
    assert b"is whole" in operator.get(address).content
    ChangeEvent.objects.filter(organization_id=alice_org.pk).update(actor="somebody else")
    page = operator.get(address).content
    assert b"is whole" not in page
    assert b"were edited" in page


def test_own_organization_is_no_customer(operator: Client) -> None:
    """Gatepost's own organization has no page that could suspend it."""
    assert operator.get(reverse("relay:ops_customer", args=[system_organization().pk])).status_code == 404


def test_viewer_of_a_customer_is_no_operator(
    vera: User, alice_org: Organization, client_for: Callable[..., Client]
) -> None:
    """A customer's own member gets 404 on the operator's page about that customer."""
    assert client_for(vera).get(reverse("relay:ops_customer", args=[alice_org.pk])).status_code == 404
