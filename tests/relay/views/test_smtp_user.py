"""relay.views.smtp_user: the credential page and the changes made on it."""

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import ChangeEvent, Reason
from relay.credentials import disable_smtp_user
from relay.domains import add_domain, add_sender
from relay.models import Message, SenderAddress, SmtpUser


def test_page_holds_everything_of_the_credential(
    alice_client: Client,
    shop: SmtpUser,
    alice_org: Organization,
    attempted: Callable[..., object],
    queued_message: Callable[..., Message],
) -> None:
    """Passwords, networks, senders with their domain's state, its sign-ins and its messages are on one page."""
    add_domain(alice_org, name="alice.example", actor=SYSTEM)
    add_sender(shop, pattern="@alice.example", actor=SYSTEM)
    attempted(reason=Reason.WRONG_PASSWORD, smtp_user=shop)
    queued_message(alice_org, smtp_user=shop, subject="Order 1")
    page = alice_client.get(f"/smtp-users/{shop.pk}/").content.decode()
    for text in ("No app password yet", "@alice.example", "Not verified", "The app password is wrong", "Order 1"):
        assert text in page


def test_snippets_read_the_secret_from_the_environment(alice_client: Client, shop: SmtpUser) -> None:
    """Each names host and username; each takes the password from GATEPOST_PASSWORD."""
    snippets = alice_client.get(f"/smtp-users/{shop.pk}/").context["snippets"]
    assert {snippet.key for snippet in snippets} == {
        "django", "node", "phpmailer", "symfony", "curl", "swaks", "msmtp", "postfix",
    }  # fmt: skip
    for snippet in snippets:
        assert "mail.gatepost.example" in snippet.text
        assert "GATEPOST_PASSWORD" in snippet.text
        assert snippet.key == "django" or "shop.alice-works" in snippet.text


@pytest.mark.parametrize("path", ["", "settings/", "disable/", "app-passwords/new/"])
def test_another_organization_gets_404(bob_client: Client, shop: SmtpUser, path: str) -> None:
    """bob learns nothing of alice's SMTP user, not even that it is there."""
    assert bob_client.get(f"/smtp-users/{shop.pk}/{path}").status_code == 404


@pytest.mark.parametrize("path", ["enable/", "senders/add/", "networks/add/"])
def test_another_organization_changes_nothing(bob_client: Client, shop: SmtpUser, path: str) -> None:
    """Neither by sending forms."""
    assert bob_client.post(f"/smtp-users/{shop.pk}/{path}").status_code == 404


def test_settings_are_saved_and_recorded(alice_client: Client, shop: SmtpUser) -> None:
    """The change log names who did it."""
    sent = {"description": "Shop", "excess": "hold", "recipients_per_hour": "200", "recipients_per_hour_per_ip": ""}
    alice_client.post(f"/smtp-users/{shop.pk}/settings/", sent)
    shop.refresh_from_db()
    assert (shop.excess, shop.recipients_per_hour, shop.recipients_per_hour_per_ip) == ("hold", 200, None)
    assert ChangeEvent.objects.get(action="smtp_user.changed").actor == "alice@alice.example"


def test_limit_of_nothing_is_refused(alice_client: Client, shop: SmtpUser) -> None:
    """Zero is no limit that anybody means: disabling is."""
    response = alice_client.post(f"/smtp-users/{shop.pk}/settings/", {"excess": "hold", "recipients_per_hour": "0"})
    assert "recipients_per_hour" in response.context["form"].errors


def test_disable_asks_first_and_enable_returns(alice_client: Client, shop: SmtpUser) -> None:
    """Opening the address changes nothing; sending the form does; and it can be taken back."""
    assert "Disable shop.alice-works?" in alice_client.get(f"/smtp-users/{shop.pk}/disable/").content.decode()
    shop.refresh_from_db()
    assert shop.disabled_at is None
    alice_client.post(f"/smtp-users/{shop.pk}/disable/")
    shop.refresh_from_db()
    assert shop.disabled_at is not None
    alice_client.post(f"/smtp-users/{shop.pk}/enable/")
    shop.refresh_from_db()
    assert shop.disabled_at is None


def test_enable_is_no_link(alice_client: Client, shop: SmtpUser) -> None:
    """What changes something is never done by GET."""
    disable_smtp_user(shop, actor=SYSTEM)
    assert alice_client.get(f"/smtp-users/{shop.pk}/enable/").status_code == 405


def test_sender_of_an_unknown_domain_is_refused_on_the_page(alice_client: Client, shop: SmtpUser) -> None:
    """The form opens again with the error and what was typed."""
    response = alice_client.post(f"/smtp-users/{shop.pk}/senders/add/", {"pattern": "me@elsewhere.example"})
    assert response.status_code == 422
    assert "Add the domain elsewhere.example to the organization first." in response.content.decode()


def test_sender_is_added_and_removed(alice_client: Client, shop: SmtpUser, alice_org: Organization) -> None:
    """Both by the buttons of the page."""
    add_domain(alice_org, name="alice.example", actor=SYSTEM)
    alice_client.post(f"/smtp-users/{shop.pk}/senders/add/", {"pattern": "@ALICE.example"})
    sender = SenderAddress.objects.get(smtp_user=shop)
    assert sender.pattern == "@alice.example"
    alice_client.post(f"/smtp-users/{shop.pk}/senders/{sender.pk}/remove/")
    assert not SenderAddress.objects.exists()


def test_sender_of_another_smtp_user_is_not_removed(
    bob_client: Client, bob_org: Organization, shop: SmtpUser, alice_org: Organization
) -> None:
    """The sender must be this SMTP user's, and the SMTP user this organization's."""
    add_domain(alice_org, name="alice.example", actor=SYSTEM)
    sender = add_sender(shop, pattern="@alice.example", actor=SYSTEM)
    assert bob_client.post(f"/smtp-users/{shop.pk}/senders/{sender.pk}/remove/").status_code == 404
    assert SenderAddress.objects.filter(pk=sender.pk).exists()


def test_viewer_has_the_page_without_its_buttons(vera_client: Client, shop: SmtpUser) -> None:
    """A viewer sees, and every change is 403."""
    page = vera_client.get(f"/smtp-users/{shop.pk}/").content.decode()
    assert "app-passwords/new/" not in page
    assert "Add a sender" not in page
    assert vera_client.post(f"/smtp-users/{shop.pk}/disable/").status_code == 403
