"""Messages by the API."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from audit.record import new_reference
from relay.ids import uuid7
from relay.models import DeliveryAttempt, Message, MessageData, Recipient

pytestmark = pytest.mark.django_db
CONTENT = b"Received: from x\r\nSubject: caf\xe9\r\n\r\n.dot\r\n..two\r\n\x00\xff\r\n"


def store(smtp_user, *states: str, at: datetime | None = None, **fields) -> Message:
    at = at or timezone.now()
    message = Message.objects.create(
        id=uuid7(now_ns=int(at.timestamp() * 1e9)),
        reference=fields.pop("reference", None) or new_reference(),
        organization=smtp_user.organization,
        smtp_user=smtp_user,
        size_octets=len(CONTENT),
        recipient_count=len(states),
        route="sandbox",
        received_at=at,
        **{"reverse_path": "shop@alice.example", "header_from": "shop@alice.example", **fields},
    )
    for number, state in enumerate(states):
        Recipient.objects.create(message=message, address=f"to{number}@example.org", state=state)
    return message


def test_a_delivered_sandbox_message(call, shop) -> None:
    """The words that other programs rely on."""
    store(shop, "delivered", subject="Hello")
    (only,) = call("GET", "/messages").json()["items"]
    assert (only["state"], only["route"]) == ("delivered", "sandbox")
    assert (only["subject"], only["smtp_user_id"], only["recipient_states"]) == ("Hello", shop.pk, {"delivered": 1})


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["delivered", "queued"], "queued"),
        (["delivered", "held"], "held"),
        (["delivered", "failed"], "partly delivered"),
        (["failed", "failed"], "failed"),
    ],
)
def test_one_word_for_many_recipients(call, shop, states: list[str], state: str) -> None:
    """What waits counts first, then what was delivered."""
    message = store(shop, *states)
    assert call("GET", "/messages").json()["items"][0]["state"] == state
    assert call("GET", f"/messages/{message.pk}").json()["state"] == state


def test_a_message_with_recipients_and_attempts(call, shop) -> None:
    """Each recipient has its state, the last word of the next hop, and its attempts in order."""
    message = store(shop, "queued", "delivered")
    queued, _delivered = message.recipients.order_by("pk")
    for number in (2, 1):
        DeliveryAttempt.objects.create(
            recipient=queued,
            number=number,
            started_at=timezone.now(),
            outcome="deferred",
            route="smarthost",
            next_hop="mx.example.org",
            code=450,
            enhanced_code="4.2.0",
            text="Later",
        )
    Recipient.objects.filter(pk=queued.pk).update(reply="450 4.2.0 Later")
    body = call("GET", f"/messages/{message.pk}").json()
    first, second = body["recipients"]
    assert (first["address"], first["state"], first["reply"]) == ("to0@example.org", "queued", "450 4.2.0 Later")
    assert [attempt["number"] for attempt in first["attempts"]] == [1, 2]
    assert (first["attempts"][0]["code"], first["attempts"][0]["outcome"]) == (450, "deferred")
    assert first["due_at"] is not None
    assert (second["state"], second["due_at"], second["attempts"]) == ("delivered", None, [])


def test_the_content_to_the_octet(call, shop) -> None:
    """message/rfc822 as stored: dots, 8-bit and NUL; it never runs as a page."""
    message = store(shop, "delivered")
    MessageData.objects.create(message=message, content=CONTENT)
    response = call("GET", f"/messages/{message.pk}/content")
    assert response.content == CONTENT
    assert response["Content-Type"] == "message/rfc822"
    assert response["Content-Disposition"] == f'attachment; filename="{message.reference}.eml"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response["Content-Security-Policy"]


def test_content_that_is_no_longer_kept(call, shop) -> None:
    """410, while the message itself is still there."""
    message = store(shop, "delivered")
    assert call("GET", f"/messages/{message.pk}/content").status_code == 410
    assert call("GET", f"/messages/{message.pk}").status_code == 200


def test_filters(call, shop, alice_org) -> None:
    """Each narrows the list to the one message that it means."""
    day = datetime(2026, 5, 4, 12, tzinfo=UTC)
    other = type(shop).objects.create(
        organization=alice_org, username="other.alice-works", excess="hold", scram_salt=b"s" * 16
    )
    old = store(shop, "failed", at=day, reference="K7Q2MX9TA4", reverse_path="bounce@alice.example")
    new = store(other, "delivered", "delivered", at=day + timedelta(days=1))

    def found(**query: object) -> set[str]:
        return {each["id"] for each in call("GET", "/messages", **query).json()["items"]}

    assert found() == {str(old.pk), str(new.pk)}
    assert found(to="to1@example.org") == {str(new.pk)}
    assert found(**{"from": "bounce@"}) == {str(old.pk)}
    assert found(status="failed") == {str(old.pk)}
    assert found(before=(day + timedelta(hours=1)).isoformat()) == {str(old.pk)}
    assert found(after=(day + timedelta(hours=1)).isoformat()) == {str(new.pk)}
    assert found(smtp_user=other.pk) == {str(new.pk)}
    assert found(reference="k7q2mx9ta4") == {str(old.pk)}
    assert found(to="to1@example.org", status="failed") == set()


def test_pages_while_mail_comes_in(call, shop) -> None:
    """Every message of the start is seen once, those of the same moment too; what comes meanwhile moves nothing."""
    day = datetime(2026, 5, 4, 12, tzinfo=UTC)
    stored = [store(shop, "delivered", at=day + timedelta(seconds=number // 3)) for number in range(7)]
    seen, cursor = [], ""
    while cursor is not None:
        page = call("GET", "/messages", limit=2, **({"cursor": cursor} if cursor else {})).json()
        seen += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
        store(shop, "queued", at=day + timedelta(hours=1))
    assert len(seen) == len(set(seen)) == 7
    assert set(seen) == {str(message.pk) for message in stored}


@pytest.mark.parametrize("cursor", ["x", "WzEsMl0", "WyJub3ciLCAieCJd", "WyIyMDI2LTA1LTA0VDEyOjAwOjAwIiwgIngiXQ"])
def test_a_cursor_of_another_making_is_422(call, cursor: str) -> None:
    """Nonsense, numbers, no time, no zone."""
    assert call("GET", "/messages", cursor=cursor).status_code == 422


def test_the_number_of_queries_does_not_grow(call, shop, django_assert_max_num_queries) -> None:
    """Fifty messages cost as many queries as one."""
    for _number in range(12):
        store(shop, "delivered", "queued")
    call("GET", "/messages")
    with django_assert_max_num_queries(4):
        assert len(call("GET", "/messages").json()["items"]) == 12


def test_another_organizations_is_not_found(bob_call, shop) -> None:
    """bob sees no message of alice's, by list, id, content or the id of her SMTP user."""
    message = store(shop, "delivered")
    MessageData.objects.create(message=message, content=CONTENT)
    assert bob_call("GET", "/messages").json()["items"] == []
    assert bob_call("GET", "/messages", smtp_user=shop.pk).json()["items"] == []
    assert bob_call("GET", "/messages", reference=message.reference).json()["items"] == []
    assert bob_call("GET", f"/messages/{message.pk}").status_code == 404
    assert bob_call("GET", f"/messages/{message.pk}/content").status_code == 404
