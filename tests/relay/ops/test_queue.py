"""The operator's Queue page, and its actions in bulk."""

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import Organization, User
from relay.models import QueueAction, Recipient
from relay.waiting import actions
from relay.waiting import summary as queue_summary
from tests.relay.waiting.rows import waiting

pytestmark = pytest.mark.django_db
QUEUE = "/ops/queue/"


def test_what_waits(client_for: Any, carol: User, alice_org: Organization, bob_org: Organization) -> None:
    """By next hop, cause and customer, each a link that narrows; hostile names are text."""
    Organization.objects.filter(pk=bob_org.pk).update(name="<script>Bob")
    waiting(alice_org, "later")
    waiting(bob_org, "limit")
    client = client_for(carol)
    page = client.get(QUEUE).content.decode()
    for text in ("2 recipients wait", "Smarthost, built in", "(451 4.7.1)", "Alice Works", "&lt;script&gt;Bob"):
        assert text in page
    assert "<script>Bob" not in page
    narrowed = client.get(QUEUE, {"cause": "451 4.7.1", "customer": alice_org.pk, "hop": "route:0:smarthost"})
    assert narrowed.context["counted"].number == 1 and len(narrowed.context["rows"]) == 1
    assert client.get(QUEUE, {"state": "held"}).context["counted"].number == 1
    for hostile in ("'", "\0", "mx:" + "x" * 9999, "route:9:x", "route:", "words:", "999"):
        asked = {"cause": hostile, "hop": hostile, "customer": hostile, "state": hostile}
        assert client.get(QUEUE, asked).status_code == 200


def test_nothing_waits(client_for: Any, carol: User) -> None:
    """The empty page says so and offers nothing to do."""
    page = client_for(carol).get(QUEUE).content.decode()
    assert "Nothing waits" in page and "/ops/queue/do/" not in page


def test_a_long_queue(client_for: Any, carol: User, alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not counted for the page: first it says more than so many, then the figures with their age."""
    monkeypatch.setattr(queue_summary, "SHORT", 0)
    monkeypatch.setattr(queue_summary, "_LONG", "SELECT 1")
    waiting(alice_org, "due")
    client = client_for(carol)
    assert "they are being counted" in client.get(QUEUE).content.decode()
    queue_summary.refresh(now=timezone.now() - timedelta(minutes=2))
    page = " ".join(client.get(QUEUE).content.decode().split())
    assert "1 recipients wait, 1 of them due, as counted" in page and "2 minutes ago" in page


def test_done_in_bulk(client_for: Any, carol: User, alice_org: Organization) -> None:
    """The look says how many and which; what is accepted after it is left; progress and reasons are shown."""
    first, held = waiting(alice_org, "due", address="first@example.net"), waiting(alice_org, "limit")
    client = client_for(carol)
    look = client.get(f"{QUEUE}do/retry/?customer={alice_org.pk}")
    assert look.context["counted"].number == 2 and "first@example.net" in look.content.decode()
    waiting(alice_org, "due", ago=timedelta(0))
    place = client.post(
        f"{QUEUE}do/cancel/?state=queued", {"as_of": look.context["as_of"], "note": "A <b>loop</b>"}
    ).headers["Location"]
    assert "Waits for a worker" in client.get(place).content.decode()
    actions.run_due()
    page = client.get(place).content.decode()
    assert "1 of 1 recipients" in page and "A &lt;b&gt;loop" in page and "hx-get" not in page
    assert Recipient.objects.get(state="cancelled").pk == first.pk
    released = client.post(f"{QUEUE}do/release/", {"as_of": "9999-99-99"}).headers["Location"]
    actions.run_due()
    fragment = client.get(released, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in fragment and "held by the hourly limit" in fragment and "not held" in fragment
    assert Recipient.objects.get(pk=held.pk).state == "held"


def test_only_for_operators_who_are_there(client_for: Any, carol: User, alice_org: Organization) -> None:
    """Without a recent second factor nothing is asked or done; nobody asks for what is not a button; stop stops."""
    waiting(alice_org, "due")
    late = client_for(carol, recent=False)
    assert late.post(f"{QUEUE}do/cancel/").headers["Location"].startswith(reverse("accounts:confirm_identity"))
    assert not QueueAction.objects.exists()
    client = client_for(carol)
    for verb in ("wake", "drop", "CANCEL"):
        assert client.post(f"{QUEUE}do/{verb}/").status_code == 404
    place = client.post(f"{QUEUE}do/cancel/").headers["Location"]
    client.post(f"{place}stop/")
    actions.run_due()
    assert "Stopped" in client.get(place).content.decode()
    assert Recipient.objects.get().state == "queued"
    own = QueueAction.objects.create(verb="hold", actor="alice", organization=alice_org)
    assert client.get(f"{QUEUE}actions/{own.pk}/").status_code == 404
