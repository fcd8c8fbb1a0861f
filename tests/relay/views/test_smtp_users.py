"""relay.views.smtp_users: the list and the form that makes one."""

from collections.abc import Callable

from django.test import Client

from accounts.models import Organization
from relay.models import Message, SmtpUser


def test_empty_list_says_what_to_do(alice_client: Client) -> None:
    """Nothing yet: the page offers the first step."""
    page = alice_client.get("/smtp-users/").content.decode()
    assert "No SMTP user yet" in page
    assert "Make the first one" in page


def test_list_shows_own_smtp_users_with_their_mail(
    alice_client: Client, shop: SmtpUser, bob_client: Client, queued_message: Callable[..., Message]
) -> None:
    """Emails are counted by recipient, and bob sees none of it."""
    queued_message(shop.organization, smtp_user=shop, recipients=("a@x.example", "b@x.example", "c@x.example"))
    (row,) = alice_client.get("/smtp-users/").context["rows"]
    assert (row.smtp_user, row.emails, row.live_passwords) == (shop, 3, 0)
    assert "shop.alice-works" not in bob_client.get("/smtp-users/").content.decode()


def test_create_asks_what_sends_and_assumes_nothing(alice_client: Client) -> None:
    """Without an answer nothing is made, and no answer is chosen beforehand."""
    assert "checked" not in alice_client.get("/smtp-users/new/").content.decode()
    response = alice_client.post("/smtp-users/new/", {"name": "shop"})
    assert "Choose one" in response.content.decode()
    assert not SmtpUser.objects.exists()


def test_create_makes_name_dot_slug(alice_client: Client, alice_org: Organization) -> None:
    """The name is lowered and stands before the organization's short name; its page follows."""
    response = alice_client.post("/smtp-users/new/", {"name": "Shop", "excess": "hold"})
    made = SmtpUser.objects.get()
    assert (made.username, made.excess, made.organization) == ("shop.alice-works", "hold", alice_org)
    assert response.url == f"/smtp-users/{made.pk}/"


def test_taken_name_is_an_error_at_the_field(alice_client: Client, shop: SmtpUser) -> None:
    """What the core refuses is said where it was typed, with nothing lost."""
    response = alice_client.post("/smtp-users/new/", {"name": "shop", "excess": "hold", "description": "second"})
    assert "There is, or was, an SMTP user" in response.context["form"].errors["name"][0]
    assert 'value="second"' in response.content.decode()


def test_full_plan_is_an_error_of_the_form(alice_client: Client, shop: SmtpUser) -> None:
    """A plan without room says how much it has."""
    plan = shop.organization.subscription.plan
    plan.smtp_users_max = 1
    plan.save()
    response = alice_client.post("/smtp-users/new/", {"name": "second", "excess": "hold"})
    assert "room for 1" in response.content.decode()


def test_viewer_sees_and_may_not_make(vera_client: Client, shop: SmtpUser) -> None:
    """A viewer has no buttons, and the form refuses."""
    assert "/smtp-users/new/" not in vera_client.get("/smtp-users/").content.decode()
    assert vera_client.post("/smtp-users/new/", {"name": "x", "excess": "hold"}).status_code == 403
