"""Refusals by the API."""

from datetime import timedelta

import pytest
from django.utils import timezone

from relay.smtp import replies
from tests.relay.api.conftest import caller
from tests.relay.conftest import NOT_YOURS, make_refusal

pytestmark = pytest.mark.django_db


def test_a_refusal_with_cause_and_fix(call, shop) -> None:
    """What the client was told, and in words why and what to do."""
    refusal = make_refusal(shop)
    (only,) = call("GET", "/refusals").json()["items"]
    assert (only["reference"], only["smtp_user_id"], only["ip"]) == (refusal.reference, shop.pk, "192.0.2.10")
    assert (only["code"], only["enhanced_code"], only["text"]) == (550, "5.7.1", NOT_YOURS.text)
    assert "may not send as this address" in only["cause"]
    assert only["fix"].startswith("Add the address")
    assert "worker" not in only


def test_filters(call, shop) -> None:
    """Each narrows the list to the one that it means."""
    now = timezone.now()
    old = make_refusal(shop, ago=timedelta(hours=3)).reference
    new = make_refusal(shop, replies.NO_DISK, smtp_user_id=shop.pk + 1).reference

    def found(**query: object) -> set[str]:
        return {each["reference"] for each in call("GET", "/refusals", **query).json()["items"]}

    assert found() == {old, new}
    assert found(reference=old.lower()) == {old}
    assert found(smtp_user=shop.pk) == {old}
    assert found(code=452) == {new}
    assert found(before=(now - timedelta(hours=1)).isoformat()) == {old}
    assert found(after=(now - timedelta(hours=1)).isoformat()) == {new}


@pytest.mark.parametrize(
    "query", [{"code": 250}, {"smtp_user": 2**63}, {"cursor": "x"}, {"cursor": "WyJ4Il0"}, {"limit": 201}]
)
def test_values_that_are_none(call, query: dict[str, object]) -> None:
    """422, not an empty list."""
    assert call("GET", "/refusals", **query).status_code == 422


def test_pages(call, shop) -> None:
    """Every one once, the newest first, also those of one moment."""
    now = timezone.now()
    made = [make_refusal(shop, at=now - timedelta(minutes=number // 2)).reference for number in range(5)]
    seen, cursor = [], ""
    while cursor is not None:
        page = call("GET", "/refusals", limit=2, **({"cursor": cursor} if cursor else {})).json()
        seen += page["items"]
        cursor = page["next_cursor"]
    assert sorted(each["reference"] for each in seen) == sorted(made)
    assert [each["at"] for each in seen] == sorted((each["at"] for each in seen), reverse=True)


def test_another_organizations_is_not_seen(bob_call, shop) -> None:
    """bob sees none of alice's, by reference neither."""
    refusal = make_refusal(shop)
    assert bob_call("GET", "/refusals").json()["items"] == []
    assert bob_call("GET", "/refusals", reference=refusal.reference).json()["items"] == []


def test_needs_the_scope_of_the_auth_log(key_with, shop) -> None:
    """A key for messages does not read refusals."""
    assert caller(key_with("messages:read"))("GET", "/refusals").status_code == 403
    assert caller(key_with("auth_events:read"))("GET", "/refusals").status_code == 200
