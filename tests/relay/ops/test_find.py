"""Find: one box to the right page; and the page of a reference."""

from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, User
from audit.changes import SYSTEM
from relay.domains import add_domain
from relay.smtp import replies
from tests.relay.conftest import NOT_YOURS, make_refusal
from tests.relay.ops.builders import make_event, make_message, make_recipient, make_smtp_user

URL = "/ops/find/"


def test_reference_of_a_login(alice_org: Organization, operator: Client) -> None:
    """A pasted reply leads to the login's page, with the cause in words, the fix and the true reason."""
    event = make_event(reason="expired", organization_id=alice_org.pk, username_given="app.alice-works")
    response = operator.get(URL, {"q": f"535 5.7.8 no [ref {event.reference}]"}, follow=True)
    assert response.redirect_chain == [(reverse("relay:ops_reference_page", args=[event.reference]), 302)]
    page = response.content.decode()
    assert "after its expiry date" in page
    assert "<code>expired</code>" in page
    assert "Alice Works" in page


def test_reference_of_a_message(alice_org: Organization, operator: Client) -> None:
    """The page of a message's reference leads to the message."""
    message = make_message(alice_org)
    make_recipient(message)
    page = operator.get(reverse("relay:ops_reference_page", args=[message.reference.lower()])).content.decode()
    assert reverse("relay:ops_message", args=[message.pk]) in page
    assert "Queued" in page


def test_reference_of_a_refusal(alice_org: Organization, operator: Client) -> None:
    """A pasted reply leads to its record, whosever it is: what was said and to whom, by which process, and the fix."""
    smtp_user = make_smtp_user(alice_org)
    refusal = make_refusal(smtp_user, about="x@other.example", reverse_path="news@alice.example")
    response = operator.get(URL, {"q": NOT_YOURS.line(refusal.reference).decode()}, follow=True)
    assert response.redirect_chain == [(reverse("relay:ops_reference_page", args=[refusal.reference]), 302)]
    page = response.content.decode()
    told = (smtp_user.username, "192.0.2.10", NOT_YOURS.text, "x@other.example", "news@alice.example", "smtpd@test:1")
    assert [each for each in (*told, "Alice Works", "Add the address") if each not in page] == []


def test_reply_without_a_record_is_explained(operator: Client) -> None:
    """By its code and words, whether its reference is unknown or it has none."""
    page = operator.get(URL, {"q": replies.STARTTLS_FIRST.line("K7Q2MX9TA4").decode()}).content.decode()
    assert "asks for STARTTLS first" in page
    assert "no message carries the reference K7Q2MX9TA4" in page
    page = operator.get(URL, {"q": "550 5.1.1 User unknown"}).content.decode()
    assert "An address does not exist" in page
    assert "It has no reference" in page


def test_unknown_reference(operator: Client) -> None:
    """A reference that nothing carries is not found, and the box says why that may be."""
    assert operator.get(reverse("relay:ops_reference_page", args=["K7Q2MX9TA4"])).status_code == 404
    assert b"no login, no refusal and no message carries it" in operator.get(URL, {"q": "K7Q2MX9TA4"}).content


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.9", "/ops/auth/ip/?ip=203.0.113.9"),
        ("[2001:DB8::1]", "/ops/auth/ip/?ip=2001%3Adb8%3A%3A1"),
        ("203.0.113.7/24", "/ops/auth/?network=203.0.113.0%2F24&period=7d"),
        ("APP.alice-works", "/ops/auth/username/?name=app.alice-works"),
        ("root", "/ops/auth/username/?name=root"),
        ("to@example.net", "/ops/messages/?address=to%40example.net"),
        ("alice@alice.example", "CUSTOMER"),
        ("shop.example", "CUSTOMER"),
        ("someone@shop.example", "CUSTOMER"),
        ("alice-works", "CUSTOMER"),
        ("<id-1@alice.example>", "MESSAGE"),
        ("MESSAGE", "MESSAGE"),
    ],
)
def test_box_goes_to_the_page(text: str, address: str, alice_org: Organization, operator: Client) -> None:
    """An IP, range, username, tried name, recipient, member, domain, slug, Message-ID: each leads to its page."""
    make_smtp_user(alice_org)
    add_domain(alice_org, name="shop.example", actor=SYSTEM)
    make_event(username_given="root")
    message = make_message(alice_org, header_message_id="<id-1@alice.example>")
    make_recipient(message)
    pages = {
        "CUSTOMER": reverse("relay:ops_customer", args=[alice_org.pk]),
        "MESSAGE": reverse("relay:ops_message", args=[message.pk]),
    }
    response = operator.get(URL, {"q": str(message.pk) if text == "MESSAGE" else text})
    assert response.status_code == 302
    assert response.headers["Location"] == pages.get(address, address)


def test_several_meanings_are_listed(alice: User, alice_org: Organization, operator: Client) -> None:
    """An address that is a member and received mail is not guessed at: both pages are offered."""
    make_recipient(make_message(alice_org), alice.email)
    page = operator.get(URL, {"q": alice.email}).content.decode()
    assert reverse("relay:ops_customer", args=[alice_org.pk]) in page
    assert f"address={quote(alice.email)}" in page


@pytest.mark.parametrize("text", ["nothing like this", "%", "\x00", "a" * 600, "<>", "@", "10.0.0.0/99", "💥"])
def test_nonsense_finds_nothing(text: str, alice_org: Organization, operator: Client) -> None:
    """What means nothing answers a page, never an error."""
    assert operator.get(URL, {"q": text}).status_code == 200


def test_box_is_on_every_page(operator: Client) -> None:
    """The pages carry the box beside their heading."""
    for name in ("ops_floor", "ops_customers", "ops_auth_review", "ops_messages"):
        assert f'action="{URL}"' in operator.get(reverse(f"relay:{name}")).content.decode()
