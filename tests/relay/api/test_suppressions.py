"""/suppressions: what a program keeps of an organization's suppressed addresses."""

import pytest

from audit.models import ChangeEvent
from relay.models import Suppression

pytestmark = pytest.mark.django_db


def test_added_found_removed(call, bob_call) -> None:
    """Canonical, once, by page; another organization sees nothing of it; the change log has the key."""
    made = call("POST", "/suppressions", {"address": " You@BÜCHER.example ", "note": "asked us"})
    assert made.status_code == 201, made.content
    row = made.json()
    assert (row["address"], row["source"], row["reason"]) == ("you@xn--bcher-kva.example", "added", "asked us")
    assert call("POST", "/suppressions", {"address": "you@xn--bcher-kva.example"}).status_code == 409
    assert call("GET", f"/suppressions/{row['id']}").json() == row
    assert bob_call("GET", f"/suppressions/{row['id']}").status_code == 404
    assert bob_call("DELETE", f"/suppressions/{row['id']}").status_code == 404
    assert bob_call("GET", "/suppressions").json()["items"] == []
    assert call("DELETE", f"/suppressions/{row['id']}").status_code == 204
    assert not Suppression.objects.exists()
    events = ChangeEvent.objects.filter(action__startswith="suppression.").order_by("sequence")
    assert [(each.action, each.subject) for each in events] == [
        ("suppression.added", row["address"]),
        ("suppression.removed", row["address"]),
    ]
    assert events[0].actor.startswith("api:")


def test_many_by_page(call) -> None:
    """Known and malformed ones are counted, not refused; cursors lead through all, and nonsense is 422."""
    addresses = [f"u{number}@example.net" for number in range(60)]
    given = [*addresses, "u1@EXAMPLE.net", "no address", 'x"; DROP@', "\u202eu@example.net"]
    answer = call("POST", "/suppressions/import", {"addresses": given[:63]})
    assert answer.json() == {"added": 60, "known": 1, "malformed": 2}
    assert call("POST", "/suppressions/import", {"addresses": given}).status_code == 422  # a direction mark
    first = call("GET", "/suppressions", limit=50).json()
    second = call("GET", "/suppressions", limit=50, cursor=first["next_cursor"]).json()
    assert {row["address"] for row in first["items"] + second["items"]} == set(addresses)
    assert second["next_cursor"] is None
    assert [row["address"] for row in call("GET", "/suppressions", q="U59@").json()["items"]] == ["u59@example.net"]
    assert call("GET", "/suppressions", source="bounce").json()["items"] == []
    for bad in ("x", "WyJhIl0", "Wy0xXQ", "W1tdXQ"):
        assert call("GET", "/suppressions", cursor=bad).status_code == 422


@pytest.mark.parametrize(
    "address", ["", "x", "@", "a@", "@b", "a b@c.example", "a@b c", "a@-x.example", "a@" + "b" * 400]
)
def test_no_address(call, address: str) -> None:
    """422 with words, and no row."""
    assert call("POST", "/suppressions", {"address": address}).status_code == 422
    assert not Suppression.objects.exists()
