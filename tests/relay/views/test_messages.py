"""relay.views.messages: the list, its search and pages, and one message's page."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from relay import queries
from relay.models import DeliveryAttempt, Message, Recipient, SmtpUser

Make = Callable[..., Message]


def _subjects(client: Client, line: str) -> set[str]:
    return {row.message.subject for row in client.get("/messages/", {"q": line}).context["page"].rows}


@pytest.fixture
def mails(alice_org: Organization, shop: SmtpUser, queued_message: Make) -> None:
    old = timezone.now() - timedelta(days=2)
    queued_message(alice_org, subject="Invoice", recipients=("ann@x.example", "ben@y.example"), state="delivered")
    queued_message(alice_org, subject="Order", smtp_user=shop, header_from="shop@alice.example", state="failed")
    queued_message(alice_org, subject="Old", reference="K7Q2MX9TA4", received_at=old, state="held")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", {"Invoice", "Order", "Old"}),
        ("to:ANN@x.example", {"Invoice"}),
        ("to:@y.example", {"Invoice"}),
        ("from:shop@", {"Order"}),
        ("status:failed", {"Order"}),
        ("status:delivered to:ann@x.example", {"Invoice"}),
        ("status:failed to:ann@x.example", set()),
        ("after:24h", {"Invoice", "Order"}),
        ("before:1d", {"Old"}),
        ("user:shop", {"Order"}),
        ("user:shop.alice-works", {"Order"}),
        ("ref:k7q2mx9ta4", {"Old"}),
        ("K7Q2MX9TA4", {"Old"}),
        ("invoi", {"Invoice"}),
        ("ben@y", {"Invoice"}),
    ],
)
def test_search_finds_what_it_says(alice_client: Client, mails: None, line: str, found: set[str]) -> None:
    """Each search word narrows as its help says."""
    assert _subjects(alice_client, line) == found


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("colour:red", "“colour:” is not known"),
        ("status:lost", "“status:lost” is not known"),
        ("after:soon", "is not a time"),
    ],
)
def test_unknown_search_word_is_named(alice_client: Client, line: str, words: str) -> None:
    """A search that cannot be understood says which word is why, and keeps what was typed."""
    response = alice_client.get("/messages/", {"q": line})
    assert response.status_code == 422
    page = response.content.decode()
    assert words in page
    assert f'value="{line}"' in page


def test_filters_keep_the_rest_of_the_search(alice_client: Client) -> None:
    """A status link replaces the status alone."""
    filters = alice_client.get("/messages/", {"q": "to:ann status:failed"}).context["filters"]
    assert ("to:ann status:held") in [line for line, _label, _now in filters]
    assert [str(label) for _line, label, now in filters if now] == ["Failed"]


def test_pages_go_through_every_message_once(
    alice_client: Client, alice_org: Organization, queued_message: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of the same instant are neither skipped nor shown twice between pages."""
    at = timezone.now()
    for number in range(5):
        queued_message(alice_org, subject=str(number), received_at=at)
    seen, cursor = [], ""
    for _page in range(3):
        page = queries.message_page(alice_org.pk, queries.MessageSearch(), cursor=cursor, limit=2)
        seen += [row.message.subject for row in page.rows]
        cursor = page.older
    assert sorted(seen) == ["0", "1", "2", "3", "4"]
    assert cursor == ""


def test_broken_cursor_starts_at_the_newest(alice_client: Client, mails: None) -> None:
    """An address that was cut off is no error."""
    assert len(alice_client.get("/messages/", {"before": "12_xyz"}).context["page"].rows) == 3


def test_list_is_of_the_organization_alone(bob_client: Client, mails: None) -> None:
    """bob's list is empty and says what to do."""
    page = bob_client.get("/messages/").content.decode()
    assert "Invoice" not in page
    assert "No message yet" in page


def test_message_page_tells_each_recipients_way(
    alice_client: Client, alice_org: Organization, queued_message: Make
) -> None:
    """Attempts stand in their order with next hop, TLS and the reply in words."""
    message = queued_message(alice_org, route="smarthost", client_ip="192.0.2.9")
    recipient = Recipient.objects.get(message=message)
    DeliveryAttempt.objects.create(
        recipient=recipient, number=1, started_at=timezone.now(), outcome="deferred", route="smarthost",
        next_hop="mx.example.net", tls_version="TLSv1.3", code=451, enhanced_code="4.7.1", text="Greylisted",
    )  # fmt: skip
    page = alice_client.get(f"/messages/{message.pk}/").content.decode()
    for text in (
        "you@example.net",
        "mx.example.net",
        "TLSv1.3",
        "451 4.7.1 Greylisted",
        "192.0.2.9",
        message.reference,
    ):
        assert text in page
    assert "Captured" not in page


def test_sandbox_mail_says_that_nothing_left(
    alice_client: Client, alice_org: Organization, queued_message: Make
) -> None:
    """Captured mail is told apart at a glance."""
    message = queued_message(alice_org, state="delivered")
    assert "Captured. Nothing left Gatepost." in alice_client.get(f"/messages/{message.pk}/").content.decode()


def test_mail_without_content_still_has_its_page(
    alice_client: Client, alice_org: Organization, queued_message: Make
) -> None:
    """After retention the envelope stays."""
    message = queued_message(alice_org)
    message.data.delete()
    assert "The content is gone" in alice_client.get(f"/messages/{message.pk}/").content.decode()


def test_another_organizations_message_is_404(
    bob_client: Client, alice_org: Organization, queued_message: Make
) -> None:
    """As is one that never was."""
    assert bob_client.get(f"/messages/{queued_message(alice_org).pk}/").status_code == 404
