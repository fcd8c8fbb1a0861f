"""The auth log by the API."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.record import attempt, record_auth_event

pytestmark = pytest.mark.django_db


def tried(organization, reason: str = "ok", **fields):
    result = "accepted" if reason == "ok" else "refused"
    values = {"ip": "192.0.2.7", "port": 587, "worker": "w", "username_given": "shop", "mechanism": "PLAIN", **fields}
    return record_auth_event(attempt(result=result, reason=reason, organization_id=organization.pk, **values))


def test_an_attempt_with_its_true_reason(call, alice_org, shop) -> None:
    """What the client was not told: the reason, as a code and in words."""
    event = tried(alice_org, "revoked", smtp_user_id=shop.pk, tls_version="TLSv1.3")
    (only,) = call("GET", "/auth-events").json()["items"]
    assert (only["id"], only["reference"]) == (str(event.id), event.reference)
    assert (only["result"], only["reason"]) == ("refused", "revoked")
    assert only["reason_text"] == "The app password was revoked"
    assert (only["ip"], only["tls_version"], only["count"]) == ("192.0.2.7", "TLSv1.3", 1)


def test_filters(call, alice_org, shop) -> None:
    """Each narrows the list to the one attempt that it means."""
    now = timezone.now()
    old = tried(alice_org, at=now - timedelta(hours=3), smtp_user_id=shop.pk, mechanism="LOGIN")
    new = tried(alice_org, "wrong_password", ip="2001:db8::1", username_given="guess")

    def found(**query: object) -> set[str]:
        return {each["id"] for each in call("GET", "/auth-events", **query).json()["items"]}

    assert found() == {str(old.id), str(new.id)}
    assert found(result="accepted") == {str(old.id)}
    assert found(reason="wrong_password") == {str(new.id)}
    assert found(smtp_user=shop.pk) == {str(old.id)}
    assert found(username="guess") == {str(new.id)}
    assert found(ip="2001:db8::1") == {str(new.id)}
    assert found(network="192.0.2.0/24") == {str(old.id)}
    assert found(mechanism="login") == {str(old.id)}
    assert found(reference=new.reference) == {str(new.id)}
    assert found(before=(now - timedelta(hours=1)).isoformat()) == {str(old.id)}
    assert found(after=(now - timedelta(hours=1)).isoformat()) == {str(new.id)}


@pytest.mark.parametrize(
    "query",
    [{"result": "maybe"}, {"reason": "x"}, {"ip": "x"}, {"network": "192.0.2.0/99"}, {"cursor": "x"}, {"limit": 201}],
)
def test_values_that_are_none(call, query: dict[str, object]) -> None:
    """422, not an empty list."""
    assert call("GET", "/auth-events", **query).status_code == 422


def test_pages(call, alice_org) -> None:
    """Every attempt once, the newest first."""
    now = timezone.now()
    made = [tried(alice_org, at=now - timedelta(minutes=number // 2)) for number in range(5)]
    seen, cursor = [], ""
    while cursor is not None:
        page = call("GET", "/auth-events", limit=2, **({"cursor": cursor} if cursor else {})).json()
        seen += page["items"]
        cursor = page["next_cursor"]
    assert {each["id"] for each in seen} == {str(event.id) for event in made}
    assert len(seen) == 5
    assert [each["at"] for each in seen] == sorted((each["at"] for each in seen), reverse=True)


def test_another_organizations_is_not_seen(bob_call, alice_org) -> None:
    """bob sees none of alice's, by reference neither."""
    event = tried(alice_org)
    assert bob_call("GET", "/auth-events").json()["items"] == []
    assert bob_call("GET", "/auth-events", reference=event.reference).json()["items"] == []
