"""relay.views.shell: navigation by role, the meter, the theme."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Organization, Plan, Role, User
from relay.limits import ORGANIZATION
from relay.models import LimitWindow
from tests.conftest import make_user
from tests.relay.ops.builders import use_hour


def test_navigation_holds_only_what_the_role_may_see(
    alice_org: Organization, client_for: Callable[..., Client]
) -> None:
    """Somebody for billing sees the plan, and neither messages nor API keys."""
    payer = make_user("payer@alice.example")
    Membership.objects.create(user=payer, organization=alice_org, role=Role.BILLING)
    page = client_for(payer).get("/").content.decode()
    assert 'href="/plan/"' in page
    assert 'href="/messages/"' not in page
    assert reverse("accounts:api_keys") not in page


def test_present_page_is_marked(alice_client: Client) -> None:
    """The navigation says which page this is, also below it."""
    assert '<a href="/smtp-users/" aria-current="page">' in alice_client.get("/smtp-users/new/").content.decode()


def test_meter_shows_the_hour_on_every_page(alice_client: Client, alice_org: Organization) -> None:
    """The header counts what PostgreSQL's window counts."""
    minute = 29_000_000_000  # far ahead: the window never goes back, so these count as of the running minute
    LimitWindow.objects.create(
        scope=ORGANIZATION,
        owner_id=alice_org.pk,
        minute=minute,
        buckets=[0] * (minute % 61) + [7] + [0] * (60 - minute % 61),
    )
    page = alice_client.get("/domains/").content.decode()
    assert '<progress max="1000" value="7"' in page


def test_theme_is_remembered_and_sent_in_the_page(alice_client: Client) -> None:
    """The chosen theme is in the first byte of the next page: no script, no flash."""
    response = alice_client.post(reverse("relay:theme"), {"theme": "dark", "next": "/plan/"})
    assert response.url == "/plan/"
    assert '<html lang="en" data-bs-theme="dark">' in alice_client.get("/plan/").content.decode()


def test_theme_does_not_redirect_elsewhere(alice_client: Client) -> None:
    """`next` of another site is not followed, and an unknown theme not kept."""
    response = alice_client.post(reverse("relay:theme"), {"theme": "pink", "next": "https://evil.example/"})
    assert response.url == "/"
    assert not response.cookies


def test_operator_finds_the_floor_in_the_menu(
    carol: User, alice_org: Organization, client_for: Callable[..., Client]
) -> None:
    """An operator who is also a member gets the way to the floor, a customer does not."""
    Membership.objects.create(user=carol, organization=alice_org, role=Role.OWNER)
    assert reverse("relay:ops_floor") in client_for(carol).get("/").content.decode()


def test_customer_is_not_told_of_the_floor(alice_client: Client) -> None:
    """The operator's half does not exist in a customer's pages."""
    assert "/ops/" not in alice_client.get("/").content.decode()


def test_pages_hold_no_inline_script_or_style(alice_client: Client) -> None:
    """What the content security policy forbids is not in the shell, and the policy has no exception."""
    response = alice_client.get("/")
    page = response.content.decode()
    assert " style=" not in page
    assert "<script>" not in page
    assert " onclick=" not in page
    assert "unsafe" not in response["Content-Security-Policy"]


def test_unknown_address_is_a_page_with_a_way_back(alice_client: Client) -> None:
    """404 is in the panel's own words."""
    response = alice_client.get("/nothing-here/")
    assert response.status_code == 404
    assert "There is nothing here for you." in response.content.decode()


def test_form_without_its_token_says_that_it_expired(alice: User, alice_org: Organization) -> None:
    """The page for a stale form is the panel's own and says that nothing was changed."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    response = client.post(reverse("relay:theme"), {"theme": "dark"})
    assert response.status_code == 403
    assert "Nothing was changed." in response.content.decode()


@pytest.mark.parametrize(("used", "state"), [(0, "ok"), (79, "ok"), (80, "near"), (100, "full")])
def test_meter_changes_colour_before_the_limit(
    alice_client: Client, alice_org: Organization, used: int, state: str
) -> None:
    """From 80 % on, and when there is no room; the words beside it tell the same."""
    Plan.objects.filter(subscription__organization=alice_org).update(recipients_per_hour=100)
    if used:
        use_hour(alice_org, used)
    page = alice_client.get("/plan/").content.decode()
    assert f'<progress max="100" value="{used}" data-fill="{state}"' in page


def test_choices_of_a_field_look_like_single_ones(alice_client: Client) -> None:
    """Radio buttons and check boxes in a fieldset carry Tabler's class, as a single check box does."""
    page = alice_client.get(reverse("accounts:api_keys")).content.decode()
    boxes = [tag for tag in page.split("<input ") if 'type="checkbox"' in tag]
    assert boxes
    assert all('class="form-check-input"' in tag for tag in boxes)
