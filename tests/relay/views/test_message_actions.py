"""What a customer does to its own waiting mail."""

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse

from accounts.models import Organization, Plan, User
from audit.models import ChangeEvent
from relay.models import MessageEvent, QueueAction, Recipient
from relay.views import message_actions
from relay.waiting import actions
from tests.relay.ops.builders import make_message, make_recipient, use_hour
from tests.relay.waiting.rows import waiting

pytestmark = pytest.mark.django_db


def test_one_message(client_for: Any, alice: User, alice_org: Organization) -> None:
    """Held, released, retried and cancelled from its page; each step is in its timeline and in the change log."""
    recipient = waiting(alice_org, "later")
    client, page = client_for(alice), reverse("relay:message", args=[recipient.message_id])

    def do(verb: str) -> str:
        assert client.get(f"{page}do/{verb}/").status_code == 200
        answer: str = client.post(f"{page}do/{verb}/", follow=True).content.decode()
        recipient.refresh_from_db()
        return answer

    assert f"{page}do/hold/" in client.get(page).content.decode()
    assert "1 recipient is held" in do("hold") and recipient.state == "held"
    shown = client.get(page).content.decode()
    assert "Held until you release it" in shown and f"{page}do/release/" in shown and f"{page}do/hold/" not in shown
    assert "left: held" in do("retry")
    do("release")
    Recipient.objects.update(due_at=recipient.due_at + timedelta(hours=1))
    assert "1 recipient is due now" in do("retry") and recipient.state == "queued"
    assert "1 recipient is cancelled" in do("cancel") and recipient.state == "cancelled"
    assert "Nothing of it waits" in do("cancel")
    done = client.get(page).content.decode()
    assert "Cancelled by alice@alice.example" in done or "Cancelled" in done
    assert f"{page}do/" not in done
    kinds = list(MessageEvent.objects.order_by("pk").values_list("kind", flat=True))
    assert kinds == ["held", "released", "retried", "cancelled"]
    log = ChangeEvent.objects.filter(organization_id=alice_org.pk).order_by("sequence")
    assert [event.action for event in log] == [f"message.{verb}" for verb in ("hold", "release", "retry", "cancel")]


def test_one_recipient(client_for: Any, alice: User, alice_org: Organization) -> None:
    """One of several can be cancelled alone; another message's is not reached."""
    message = make_message(alice_org, recipient_count=2)
    ann, _ben = (make_recipient(message, f"{name}@example.net") for name in ("ann", "ben"))
    other = waiting(alice_org, "due")
    client, page = client_for(alice), reverse("relay:message", args=[message.pk])
    assert f"do/cancel/?recipient={ann.pk}" in client.get(page).content.decode()
    for pk in (ann.pk, other.pk):
        client.post(f"{page}do/cancel/?recipient={pk}")
    assert list(Recipient.objects.filter(state="cancelled")) == [ann]
    assert client.get(f"{page}do/cancel/?recipient=x").status_code == 404
    assert client.get(f"{page}do/wake/").status_code == 404


def test_what_a_search_means(
    client_for: Any, alice: User, alice_org: Organization, bob_org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few are done before the page is answered, many beside it; never another customer's, never what came later."""
    mine = waiting(alice_org, "due", address="ann@example.net", subject="Spring")
    waiting(bob_org, "due", address="ann@example.net")
    waiting(alice_org, "operator", address="ann@example.net")
    client = client_for(alice)
    assert "/messages/do/cancel/?q=to%3Aann" in client.get("/messages/", {"q": "to:ann"}).content.decode()
    look = client.get("/messages/do/cancel/?q=to:ann")
    assert look.context["counted"].number == 2 and "Spring" in look.content.decode()
    waiting(alice_org, "due", address="ann@example.net", ago=timedelta(0))
    place = client.post("/messages/do/release/?q=to:ann", {"as_of": look.context["as_of"]}).headers["Location"]
    page = client.get(place).content.decode()
    assert "held by the operator" in page and "Done" in page
    monkeypatch.setattr(message_actions, "AT_ONCE", 0)
    place = client.post("/messages/do/cancel/?q=to:ann", {"as_of": look.context["as_of"]}).headers["Location"]
    assert "Waits for a worker" in client.get(place).content.decode()
    actions.run_due()
    assert set(Recipient.objects.filter(state="cancelled", message__organization=alice_org)) >= {mine}
    assert Recipient.objects.filter(state="queued").count() == 2
    bad = client.get("/messages/do/cancel/", {"q": "bcc:x"}, follow=True)
    assert "not known" in bad.content.decode()


def test_who_cancels_in_bulk_is_there(client_for: Any, alice: User, alice_org: Organization) -> None:
    """What cannot be undone asks for a recent identification; a hold does not."""
    waiting(alice_org, "due")
    late = client_for(alice, recent=False)
    assert late.post("/messages/do/cancel/").headers["Location"].startswith(reverse("accounts:confirm_identity"))
    assert not QueueAction.objects.exists()
    assert late.post("/messages/do/hold/").status_code == 302 and Recipient.objects.get().state == "held"


def test_held_by_the_limit(client_for: Any, alice: User, alice_org: Organization) -> None:
    """The list says when each is released; the empty one says what it is for."""
    client = client_for(alice)
    assert "Nothing is held by the limit" in client.get("/messages/held/").content.decode()
    Plan.objects.filter(code="trial").update(recipients_per_hour=1)
    use_hour(alice_org, 1)
    waiting(alice_org, "limit", subject="Waits its turn")
    page = client.get("/messages/held/").content.decode()
    assert "Waits its turn" in page and "1 message to 1 recipients" in page
    Organization.objects.update(state="suspended")
    assert "nothing is released until" in client.get("/messages/held/").content.decode()
