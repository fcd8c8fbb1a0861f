"""Messages as an operator sees them: envelope, recipients, attempts; never subject or content."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Organization
from relay.models import MessageData, Recipient
from tests.relay.ops.builders import make_attempt, make_message, make_recipient, make_smtp_user

URL = "/ops/messages/"


def addresses(client: Client, **query: str) -> set[str]:
    return {row.address.partition("@")[0] for row in client.get(URL, query).context["rows"]}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, {"late", "later", "held", "gone", "bob"}),
        ({"state": "queued"}, {"late", "later", "bob"}),
        ({"state": "held"}, {"held"}),
        ({"due": "1"}, {"late", "bob"}),
        ({"next_hop": "mx.example.net"}, {"late", "gone"}),
        ({"next_hop": "mx.example.net", "state": "queued"}, {"late"}),
        ({"outcome": "deferred"}, {"late"}),
        ({"username": "app.alice-works"}, {"late", "later", "held", "gone"}),
        ({"address": "gone@example.net"}, {"gone"}),
        ({"customer": "BOB"}, {"bob"}),
        ({"period": "1h"}, {"bob"}),
        ({"period": "24h"}, {"late", "later", "held", "gone", "bob"}),
        ({"state": "delivered", "settled": "1", "period": "1h"}, {"gone"}),
        ({"state": "nonsense"}, {"late", "later", "held", "gone", "bob"}),
    ],
)
def test_filters(
    query: dict[str, str], wanted: set[str], alice_org: Organization, bob_org: Organization, operator: Client
) -> None:
    """State, what is due, next hop, outcome, SMTP user, recipient, customer and period narrow the list."""
    now = timezone.now()
    message = make_message(alice_org, ago=timedelta(hours=5), smtp_user=make_smtp_user(alice_org))
    late = make_recipient(message, "late@example.net", due_at=now - timedelta(minutes=1))
    make_recipient(message, "later@example.net", due_at=now + timedelta(hours=1))
    make_recipient(message, "held@example.net", state=Recipient.State.HELD)
    gone = make_recipient(message, "gone@example.net", state=Recipient.State.DELIVERED, settled_at=now)
    make_recipient(make_message(bob_org), "bob@example.net", due_at=now - timedelta(minutes=1))
    make_attempt(late, "deferred")
    make_attempt(gone, "delivered")
    if query.get("customer") == "BOB":
        query = {"customer": str(bob_org.pk)}
    assert addresses(operator, **query) == wanted


def test_pages_by_key(alice_org: Organization, operator: Client) -> None:
    """Sixty recipients are two pages, the last accepted first, and each is listed once."""
    message = make_message(alice_org)
    Recipient.objects.bulk_create(
        [Recipient(message=message, address=f"n{number}@example.net") for number in range(60)]
    )
    first = operator.get(URL)
    second = operator.get(first.context["older"])
    listed = [row.address for page in (first, second) for row in page.context["rows"]]
    assert listed[0] == "n59@example.net"
    assert len(first.context["rows"]) == 50
    assert len(set(listed)) == len(listed) == 60


def test_empty_queue_says_so(operator: Client) -> None:
    """An empty list is explained, not blank."""
    assert b"The queue has nothing of the kind" in operator.get(URL, {"state": "queued"}).content


def test_message_without_its_content(alice_org: Organization, operator: Client) -> None:
    """Envelope, trace, recipients and attempts are shown; subject and content are not."""
    message = make_message(alice_org, client_ip="203.0.113.9", client_name="app.example", header_message_id="<1@x>")
    MessageData.objects.create(message=message, content=b"Subject: The secret subject\r\n\r\nThe secret body\r\n")
    recipient = make_recipient(message, "to@example.net", state=Recipient.State.FAILED, reply="550 5.1.1 unknown")
    make_attempt(recipient, "failed", code=550, enhanced_code="5.1.1", text="No such user here")
    page = operator.get(reverse("relay:ops_message", args=[message.pk])).content.decode()
    for shown in (
        "news@alice.example",
        "to@example.net",
        "203.0.113.9",
        "app.example",
        "No such user here",
        "mx.example.net",
    ):
        assert shown in page
    assert "secret" not in page


def test_state_of_the_whole(alice_org: Organization, operator: Client) -> None:
    """A message with one delivered and one failed recipient is partly delivered."""
    message = make_message(alice_org, recipient_count=2)
    make_recipient(message, state=Recipient.State.DELIVERED)
    make_recipient(message, state=Recipient.State.FAILED)
    assert (
        operator.get(reverse("relay:ops_message", args=[message.pk])).context["page"].message_state
        == "partly delivered"
    )
