"""relay.timeline and relay.message_recipients: each recipient's way, in pages, and when a page looks again."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Organization
from relay.message_recipients import PAGE_ROWS, QUICK_SECONDS, SLOW_SECONDS, recipients_of
from relay.models import DeliveryAttempt, LateBounce, Message, MessageEvent, Recipient, Report, Suppression
from relay.models.messages import NEVER
from relay.suppressions import suppression_key
from relay.timeline import Entry, timelines
from tests.relay.conftest import make_message

NOW = timezone.now()


def entries_of(message: Message) -> list[Entry]:
    (recipient,) = message.recipients.all()
    return timelines(message, [recipient])[recipient.pk]


def titles(message: Message) -> list[str]:
    return [entry.title for entry in entries_of(message)]


def tried(recipient: Any, number: int, *, ago: timedelta, **columns: Any) -> DeliveryAttempt:
    at = NOW - ago
    values = {"outcome": "deferred", "route": "mx", "finished_at": at + timedelta(seconds=2), **columns}
    return DeliveryAttempt.objects.create(recipient=recipient, number=number, started_at=at, **values)


def test_way_of_held_mail_that_was_put_off_and_delivered(alice_org: Organization) -> None:
    """Accepted, released by the limit, put off with words, delivered: in the order of time, whoever told it."""
    message = make_message(alice_org, received_at=NOW - timedelta(hours=3), state="delivered", client_ip="192.0.2.9")
    recipient = message.recipients.get()
    tried(recipient, 2, ago=timedelta(minutes=5), outcome="delivered", code=250, next_hop="mx.example.net:25",
          next_hop_ip="192.0.2.25", tls_version="TLSv1.3")  # fmt: skip
    tried(recipient, 1, ago=timedelta(minutes=9), code=450, enhanced_code="4.2.0", text="Greylisted",
          next_hop="mx.example.net:25", next_hop_ip="192.0.2.25")  # fmt: skip
    MessageEvent.objects.create(message=message, at=NOW - timedelta(minutes=10), kind="released")
    accepted, released, put_off, delivered = entries_of(message)
    assert (accepted.title, released.title, put_off.title) == ("Accepted", "Released", "Deferred")
    assert "192.0.2.9" in accepted.details[0] and message.reference in accepted.details[0]
    assert "room again after 2 hours" in released.details[0]
    assert put_off.words and "greylisting" in str(put_off.words.cause)
    assert put_off.reply == "450 4.2.0 Greylisted"
    assert put_off.details == ("to mx.example.net:25 [192.0.2.25]", "without TLS", "took 2 s")
    assert delivered.details[1] == "with TLSv1.3"
    assert delivered.words is None


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        ({}, "Waits for its first delivery attempt."),
        ({"due_at": NEVER}, "Waits until an operator releases it."),
        ({"state": "held"}, "Held: beyond the limit. It is released when there is room."),
        ({"attempts": 3, "due_at": NOW + timedelta(hours=1)}, "Next attempt:"),
    ],
)
def test_what_is_to_come_stands_last(alice_org: Organization, columns: dict[str, Any], title: str) -> None:
    """Why mail waits, and until when."""
    message = make_message(alice_org)
    Recipient.objects.filter(message=message).update(**columns)
    last = entries_of(message)[-1]
    assert (last.at, last.title) == (None, title)
    if columns.get("attempts"):
        assert last.upcoming == columns["due_at"]
        assert f"{message.received_at + timedelta(days=5):%Y-%m-%d %H:%M}" in last.details[0]


def test_suspended_organizations_mail_says_so(alice_org: Organization) -> None:
    """Neither the limit nor an attempt is what it waits for."""
    alice_org.state = Organization.State.SUSPENDED
    alice_org.save()
    for state in ("queued", "held"):
        assert "the organization is suspended" in titles(make_message(alice_org, state=state))[-1]


def test_what_ended_before_an_event_is_not_told_of_it(alice_org: Organization) -> None:
    """Whoever cancels a message cancels those recipients that still wait; one recipient's event is its own alone."""
    message = make_message(alice_org, recipients=("done@x.example", "waits@x.example"))
    done, waits = message.recipients.order_by("pk")
    Recipient.objects.filter(pk=done.pk).update(state="delivered", settled_at=NOW - timedelta(hours=1))
    MessageEvent.objects.create(message=message, kind="cancelled", actor="alice@alice.example", note="typo", at=NOW)
    MessageEvent.objects.create(message=message, recipient=waits, kind="retried", actor="carol@gatepost.example")
    found = timelines(message, list(message.recipients.order_by("pk")))
    assert [entry.title for entry in found[done.pk]] == ["Accepted"]
    assert ("alice@alice.example", "typo") in [entry.details for entry in found[waits.pk]]
    assert "Next attempt at once" in [entry.title for entry in found[waits.pk]]


def test_what_came_back_and_who_was_told(alice_org: Organization) -> None:
    """A late bounce with its words, the suppression that it led to, and the report to the sender, sent or due."""
    message = make_message(
        alice_org, recipients=("Ann@X.example", "ben@x.example"), received_at=NOW - timedelta(hours=2)
    )
    ann, ben = message.recipients.order_by("pk")
    LateBounce.objects.create(recipient=ann, at=NOW - timedelta(hours=1), action="failed", bounce_class="recipient",
                              code=550, enhanced_code="5.1.1", text="No such user", reporter="mx.x")  # fmt: skip
    values = {"message_id": message.pk, "organization_id": alice_org.pk, "sender": "app@alice.example", "due_at": NOW}
    Report.objects.create(recipient=ann, kind="failed", written_at=NOW, is_folded=True, **values)
    Report.objects.create(recipient=ben, kind="delayed", **values)
    Suppression.objects.create(organization=alice_org, address=suppression_key("Ann@X.example"), source="bounce",
                               reason="550 5.1.1 No such user", reference=message.reference,
                               created_at=NOW - timedelta(minutes=59))  # fmt: skip
    found = timelines(message, [ann, ben])
    accepted, bounce, suppressed, report = (entry for entry in found[ann.pk] if entry.at)
    assert (accepted.title, bounce.title) == ("Accepted", "Came back")
    assert bounce.details == ("reported by mx.x", "Cause: recipient")
    assert bounce.words and "no such mailbox" in str(bounce.words.cause)
    assert "suppressed" in suppressed.title and suppressed.details == ("550 5.1.1 No such user",)
    assert report.title == "Report to the sender: failed" and "summary" in report.details[1]
    assert [(each.title, each.upcoming) for each in found[ben.pk] if each.upcoming] == [
        ("The sender will be told: delayed", NOW)
    ]


def test_a_page_of_recipients_costs_few_queries(alice_org: Organization) -> None:
    """As many for 25 recipients with attempts as for one."""
    message = make_message(alice_org, recipients=[f"n{number}@x.example" for number in range(PAGE_ROWS + 5)])
    for recipient in message.recipients.all():
        tried(recipient, 1, ago=timedelta(minutes=1))
    message = Message.objects.select_related("organization").get(pk=message.pk)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page = recipients_of(message, {})
    assert len(page.rows) == PAGE_ROWS
    assert len(queries) <= 10


def test_pages_and_filters_find_each_recipient_once(alice_client: Client, alice_org: Organization) -> None:
    """State and address narrow; the links of the page lead through all of them; nonsense narrows nothing."""
    message = make_message(alice_org, recipients=[f"n{number:02}@x.example" for number in range(60)])
    Recipient.objects.filter(message=message, address__startswith="n0").update(state="failed")
    seen, query = [], ""
    while True:
        page = alice_client.get(f"/messages/{message.pk}/{query}").context["page"]
        seen += [recipient.address for recipient, _entries in page.rows]
        if not (query := page.further):
            break
    assert seen == [f"n{number:02}@x.example" for number in range(60)]
    failed = alice_client.get(f"/messages/{message.pk}/?state=failed").context["page"]
    assert (len(failed.rows), failed.total) == (10, 60)
    assert {(link.label, link.count) for link in failed.states} == {("All", 60), ("Failed", 10), ("Queued", 50)}
    assert len(alice_client.get(f"/messages/{message.pk}/?to=N07").context["page"].rows) == 1
    assert "No recipient fits" in alice_client.get(f"/messages/{message.pk}/?to=nobody%00").content.decode()
    for nonsense in ("?state=lost", "?after=99999999999999999999", "?after=-1", "?after=%D9%A1"):
        assert len(alice_client.get(f"/messages/{message.pk}/{nonsense}").context["page"].rows) == PAGE_ROWS


@pytest.mark.parametrize("client_name", ["alice_client", "carol_client"])
def test_live_part_looks_again_until_all_is_over(
    client_name: str, alice_org: Organization, request: pytest.FixtureRequest, carol: Any, client_for: Any
) -> None:
    """Quickly while an attempt runs or is near, slowly while mail waits, and never when all is delivered."""
    client = client_for(carol) if client_name == "carol_client" else request.getfixturevalue(client_name)
    prefix = "/ops/messages" if client_name == "carol_client" else "/messages"
    message = make_message(alice_org)
    mine = Recipient.objects.filter(message=message)

    def part() -> str:
        answer = client.get(f"{prefix}/{message.pk}/", headers={"HX-Request": "true"}).content.decode()
        assert "<html" not in answer
        return str(answer)

    assert f'hx-trigger="every {QUICK_SECONDS}s"' in part()
    mine.update(due_at=timezone.now() + timedelta(hours=1))
    assert f'hx-trigger="every {SLOW_SECONDS}s"' in part()
    mine.update(lease=uuid.uuid4())
    assert f'hx-trigger="every {QUICK_SECONDS}s"' in part()
    mine.update(lease=None, state="delivered")
    assert "hx-get" not in part()
    assert 'id="message-state" hx-swap-oob="true"' in part()


def test_hostile_reply_is_text(alice_client: Client, alice_org: Organization) -> None:
    """What a next hop says is shown as it is, and is never markup."""
    message = make_message(alice_org, state="failed")
    tried(message.recipients.get(), 1, ago=timedelta(), code=550, text="<script>alert(1)</script>", outcome="failed",
          next_hop='"><img src=x>')  # fmt: skip
    page = alice_client.get(f"/messages/{message.pk}/").content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page and "<img src=x" not in page


def test_conversation_is_shown_on_demand(
    alice_client: Client, bob_client: Client, alice_org: Organization, bob_org: Organization
) -> None:
    """The timeline links to it, its page and its part show it as text; of another message or customer it is unknown."""
    message = make_message(alice_org, state="failed")
    attempt = tried(message.recipients.get(), 1, ago=timedelta(), code=550, outcome="failed",
                    conversation="S: 220 <b>hello</b>\nC: EHLO mail.gatepost.example")  # fmt: skip
    silent = tried(message.recipients.get(), 2, ago=timedelta())
    url = f"/messages/{message.pk}/attempts/{attempt.pk}/"
    page = alice_client.get(f"/messages/{message.pk}/").content.decode()
    assert page.count("/attempts/") == 2 * page.count(f'hx-get="{url}"') == 2
    assert "EHLO" not in page
    assert "220 &lt;b&gt;hello" in alice_client.get(url).content.decode()
    part = alice_client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert "C: EHLO" in part and "<html" not in part
    for path in (f"/messages/{message.pk}/attempts/{silent.pk}/",
                 f"/messages/{make_message(alice_org).pk}/attempts/{attempt.pk}/"):  # fmt: skip
        assert alice_client.get(path).status_code == 404
    assert bob_client.get(url).status_code == 404
