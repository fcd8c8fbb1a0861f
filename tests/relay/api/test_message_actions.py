"""Waiting mail by the API: one message, many, and what the limit holds."""

import pytest

from accounts.models import Organization
from relay.models import Recipient
from relay.waiting import actions
from relay.waiting.actions import OPEN_MAX
from tests.relay.api.conftest import Call
from tests.relay.waiting.rows import waiting

pytestmark = pytest.mark.django_db


def test_one_message(call: Call, bob_call: Call, alice_org: Organization) -> None:
    """Each call says how many it changed and why others were left; another organization's message is not there."""
    recipient = waiting(alice_org, "later")
    place = f"/messages/{recipient.message_id}"
    assert bob_call("POST", f"{place}/cancel").status_code == 404
    assert call("POST", f"{place}/hold").json() == {"changed": 1, "left": {}}
    assert call("POST", f"{place}/retry").json() == {"changed": 0, "left": {"held": 1}}
    assert call("POST", f"{place}/release").json() == {"changed": 1, "left": {}}
    assert call("POST", f"{place}/retry").json() == {"changed": 0, "left": {"due": 1}}
    assert call("POST", f"{place}/cancel").json() == {"changed": 1, "left": {}}
    assert call("POST", f"{place}/cancel").json() == {"changed": 0, "left": {}}
    assert call("GET", place).json()["state"] == "cancelled"
    assert [row["state"] for row in call("GET", "/messages", status="cancelled").json()["items"]] == ["cancelled"]


def test_many(call: Call, bob_call: Call, alice_org: Organization, bob_org: Organization) -> None:
    """Previewed, started, done beside the call, listed; nobody else's mail or actions are seen."""
    waiting(alice_org, "due", address="ann@example.net")
    waiting(bob_org, "due", address="ann@example.net")
    asked = {"do": "cancel", "search": "to:ann"}
    assert call("POST", "/message-actions/preview", asked).json() == {"recipients": 1, "is_least": False}
    started = call("POST", "/message-actions", asked)
    assert started.status_code == 202 and started.json()["state"] == "waiting"
    place = f"/message-actions/{started.json()['id']}"
    actions.run_due()
    found = call("GET", place).json()
    assert (found["do"], found["search"], found["state"], found["total"], found["changed"], found["left"]) == (
        "cancel", "to:ann", "done", 1, 1, {},
    )  # fmt: skip
    assert call("POST", f"{place}/stop").json()["state"] == "done"
    assert [row["id"] for row in call("GET", "/message-actions").json()["items"]] == [found["id"]]
    assert bob_call("GET", place).status_code == bob_call("POST", f"{place}/stop").status_code == 404
    assert Recipient.objects.get(message__organization=bob_org).state == "queued"


@pytest.mark.parametrize(
    "body",
    [{}, {"do": "wake"}, {"do": "hold", "search": "bcc:x"}, {"do": "hold", "search": "\0"}, {"do": "hold", "x": 1}],
)
def test_what_is_no_action(call: Call, body: dict[str, object]) -> None:
    """A 422 with the reason, and nothing is started."""
    assert call("POST", "/message-actions", body).status_code == 422
    assert call("GET", "/message-actions").json() == {"items": [], "next_cursor": None}
    assert call("GET", "/message-actions", cursor="x").status_code == 422


def test_so_many_are_under_way_at_most(call: Call, bob_call: Call) -> None:
    """Each has a row for every recipient, and they take turns: one customer's must not pile up before the others'."""
    started = [call("POST", "/message-actions", {"do": "hold"}) for _each in range(OPEN_MAX)]
    assert {each.status_code for each in started} == {202}
    refused = call("POST", "/message-actions", {"do": "hold"})
    assert refused.status_code == 422 and "stop one" in refused.json()["detail"]
    assert bob_call("POST", "/message-actions", {"do": "hold"}).status_code == 202
    call("POST", f"/message-actions/{started[0].json()['id']}/stop")
    assert call("POST", "/message-actions", {"do": "hold"}).status_code == 202


def test_held_by_the_limit(call: Call, bob_call: Call, alice_org: Organization) -> None:
    """Listed with the time of the release."""
    held = waiting(alice_org, "limit")
    found = call("GET", "/held-messages").json()
    assert (found["messages"], found["recipients"]) == (1, 1)
    assert found["items"][0]["message_id"] == str(held.message_id) and found["items"][0]["release_at"]
    assert bob_call("GET", "/held-messages").json() == {"messages": 0, "recipients": 0, "items": []}
