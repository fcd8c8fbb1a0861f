"""/bans: one's own, as the auth log proves them; lifted by a key that may change SMTP users."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.record import attempt, record_auth_event
from relay.models import Ban
from tests.relay.api.conftest import Call, caller


@pytest.fixture
def ban(alice_org: Organization) -> Ban:
    record_auth_event(
        attempt(result="accepted", reason="ok", ip="203.0.113.9", port=465, worker="t", organization_id=alice_org.pk)
    )
    return Ban.objects.create(
        cidr="203.0.113.9/32", ends_at=timezone.now() + timedelta(hours=1), evidence={"failures": 60}, worker="test"
    )


def test_list_and_lift(call: Call, bob_call: Call, ban: Ban) -> None:
    """Hers is listed and lifted; for bob there is none."""
    [found] = call("GET", "/bans").json()["items"]
    assert (found["range"], found["addresses"], found["failures"]) == ("203.0.113.9/32", ["203.0.113.9"], 60)
    assert bob_call("GET", "/bans").json() == {"items": []}
    assert bob_call("POST", f"/bans/{ban.pk}/lift").status_code == 404
    assert call("POST", f"/bans/{ban.pk}/lift").status_code == 204
    assert call("GET", "/bans").json() == {"items": []}
    assert call("POST", f"/bans/{ban.pk}/lift").status_code == 404


def test_the_same_range_once_a_day(call: Call, ban: Ban) -> None:
    """The second ban of it within a day is 429 with the wait, and stays in force."""
    assert call("POST", f"/bans/{ban.pk}/lift").status_code == 204
    again = Ban.objects.create(cidr=ban.cidr, ends_at=timezone.now() + timedelta(hours=1), worker="test")
    refused = call("POST", f"/bans/{again.pk}/lift")
    assert refused.status_code == 429 and "already" in refused.json()["detail"]
    assert 86_000 < int(refused["Retry-After"]) <= 86_400
    assert [each["id"] for each in call("GET", "/bans").json()["items"]] == [again.pk]


def test_lifting_needs_more_than_reading(key_with: object, ban: Ban) -> None:
    """A key that may only read the auth log sees bans and lifts none."""
    read = caller(key_with("auth_events:read"))  # type: ignore[operator]
    assert len(read("GET", "/bans").json()["items"]) == 1
    assert read("POST", f"/bans/{ban.pk}/lift").status_code == 403
