"""relay.views.why: what was pasted is explained, by the own records or by its code; the last refusals are listed."""

import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from audit.models import AuthEvent, Reason
from audit.record import new_reference
from relay.models import Message, Refusal, SmtpUser
from relay.smtp import replies
from relay.views import why
from tests.relay.conftest import NOT_YOURS, make_refusal

LIMIT = replies.OVER_LIMIT.filled(limit=1000, whose=replies.whose(1), seconds=314)

Refused = Callable[..., Refusal]


@pytest.fixture
def refused(shop: SmtpUser) -> Refused:
    """Of alice's SMTP user shop."""
    return partial(make_refusal, shop)


def _page(client: Client, pasted: str) -> str:
    response = client.get("/why/", {"q": pasted})
    assert response.status_code == 200
    return response.content.decode()


def test_nothing_pasted_says_what_a_reference_looks_like(alice_client: Client) -> None:
    """The empty page explains itself, and needs no script: a form by GET."""
    page = alice_client.get("/why/").content.decode()
    assert "[ref K7Q2MX9TA4]" in page
    assert 'method="get"' in page
    assert "Nothing was refused" in page


def test_refusal_by_its_whole_reply(alice_client: Client, shop: SmtpUser, refused: Refused) -> None:
    """Cause, fix, the record, and the way to the senders of the very SMTP user."""
    refusal = refused()
    page = _page(alice_client, NOT_YOURS.line(refusal.reference).decode())
    assert "may not send as this address" in page
    assert "Add the address" in page
    assert f'href="/smtp-users/{shop.pk}/#senders"' in page
    assert "client.example" in page


def test_refusal_by_its_reference_alone(alice_client: Client, refused: Refused) -> None:
    """The reply comes from the record."""
    refusal = refused(LIMIT)
    page = _page(alice_client, refusal.reference.lower())
    assert "451 4.7.1 The limit of 1000 emails an hour of your plan is reached" in page
    assert "The hourly limit was reached" in page
    assert 'href="/plan/">To the plan' in page


def test_sign_in_by_its_reference(alice_client: Client, attempted: Callable[..., AuthEvent]) -> None:
    """The true reason, which the reply did not tell."""
    event = attempted(reason=Reason.EXPIRED)
    page = _page(alice_client, replies.AUTH_FAILED.line(event.reference).decode())
    assert "after its expiry date" in page
    assert f"/auth-log/{event.reference}/" in page


def test_accepted_message_by_its_reference(
    alice_client: Client, alice_org: Organization, queued_message: Callable[..., Message]
) -> None:
    """It was not refused: the page leads to what became of it."""
    message = queued_message(alice_org, state="failed")
    page = _page(alice_client, f"250 2.0.0 OK: queued as {message.reference}")
    assert f"/messages/{message.pk}/" in page
    assert "It was not refused" in page


def test_anothers_reference_is_as_unknown_as_a_made_up_one(
    bob_client: Client,
    alice_org: Organization,
    refused: Refused,
    attempted: Callable[..., AuthEvent],
    queued_message: Callable[..., Message],
) -> None:
    """bob gets the same page to the letter for alice's three and for one that was never given; his list is empty."""
    hers = [refused().reference, attempted(reason=Reason.REVOKED).reference, queued_message(alice_org).reference]
    pages = set()
    for reference in (*hers, new_reference()):
        page = _page(bob_client, NOT_YOURS.line(reference).decode())
        assert "Nothing of your organization has the reference" in page
        pages.add(_without(page, reference))
    assert len(pages) == 1
    assert "Nothing was refused" in bob_client.get("/why/").content.decode()


def _without(page: str, reference: str) -> str:
    """Without what differs from request to request: the reference itself, and the forms' tokens."""
    return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page).replace(reference, "")


def test_reply_without_a_record_is_explained_by_itself(alice_client: Client) -> None:
    """From before a sign-in, or without its reference: the code and the words are enough."""
    page = _page(alice_client, replies.STARTTLS_FIRST.line("K7Q2MX9TA4").decode())
    assert "Nothing of your organization has the reference" in page
    assert "asks for STARTTLS first" in page
    page = _page(alice_client, str(replies.TOO_BIG.filled(most=1).line().decode()))
    assert "Send a link instead of the file" in page
    assert "Nothing of your organization" not in page


def test_another_servers_words_are_said_to_be_its_own(alice_client: Client) -> None:
    """The code says in general what to do; the conversation is under Messages."""
    page = _page(alice_client, "550 5.1.1 The email account does not exist <b>here</b>")
    assert "not Gatepost&#x27;s own words" in page or "not Gatepost's own words" in page
    assert "<b>here</b>" not in page


@pytest.mark.parametrize("nonsense", ["hello", "\x00", "a" * 5000, "💥", "K7Q2MX9TAU", "%00' OR 1=1 --"])
def test_nonsense_gets_a_page(alice_client: Client, nonsense: str) -> None:
    """Which says what a reply looks like, or asks again."""
    page = _page(alice_client, nonsense)
    assert "neither a reply nor a reference" in page or "Nothing was refused" in page


def test_list_is_paged_and_bound_to_a_time(
    alice_client: Client, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newest first, each once over the pages, also at one and the same time; the links of the overview narrow it."""
    monkeypatch.setattr(why, "PAGE_ROWS", 2)
    now = timezone.now()
    made = [refused(at=now - timedelta(hours=number // 2)).reference for number in range(5)]
    old = refused(ago=timedelta(days=3)).reference
    seen, url = [], "/why/?since=24h"
    while url:
        response = alice_client.get(url)
        seen += [row.refusal.reference for row in response.context["rows"]]
        url = f"/why/{response.context['older']}" if response.context["older"] else ""
    assert sorted(seen) == sorted(made)
    monkeypatch.setattr(why, "PAGE_ROWS", 50)
    week = alice_client.get("/why/", {"since": "7d", "before": "nonsense"}).context["rows"]
    assert [row.refusal.reference for row in week][-1] == old


def test_viewer_may_ask(vera_client: Client, refused: Refused) -> None:
    """Whoever sees the auth log."""
    assert "may not send as this address" in _page(vera_client, refused().reference)


def test_pages_lead_here(alice_client: Client) -> None:
    """From the navigation, after the auth log, and from the places where people look first."""
    for url in ("/auth-log/", "/messages/"):
        page = alice_client.get(url).content.decode()
        assert page.count('href="/why/"') == 2
    labels = [str(item.label) for item in alice_client.get("/").context["shell"].navigation]
    assert labels[labels.index("Auth log") + 1] == "Why was I refused?"


def test_another_servers_answer_has_the_words_of_the_message_pages(alice_client: Client) -> None:
    """What names a blocklist is told as a matter of the operator's, not as an address that does not exist."""
    pasted = "550 5.7.1 Service unavailable; client host [192.0.2.1] blocked using zen.spamhaus.org"
    page = alice_client.get("/why/", {"q": pasted}).content.decode()
    assert "a blocklist names it" in page and "These are not Gatepost" in page
