"""/connection-failures: what failed before a username was known, for the addresses of the key's organization."""

from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.record import attempt, record_auth_event
from relay.models import DoorFailure

pytestmark = pytest.mark.django_db


def test_their_own_addresses_alone(call: Any, bob_call: Any, alice_org: Organization) -> None:
    """With cause and fix in words; another's address and nonsense are 422."""
    ip, now = "203.0.113.7", timezone.now()
    record_auth_event(attempt(result="accepted", reason="ok", ip=ip, port=1, worker="w", organization_id=alice_org.pk))
    for place in (ip, "127.0.0.1"):
        DoorFailure.objects.create(
            reference=place[:10],
            place=place,
            cause="certificate",
            port=465,
            count=7,
            first_at=now,
            last_at=now,
            worker="w",
        )
    found = call("GET", "/connection-failures", ip=ip).json()
    assert "items" in found, found
    (item,) = found["items"]
    assert (item["count"], item["port"], item["place"]) == (7, 465, ip)
    assert "did not trust the certificate" in item["cause"]
    assert item["fix"]
    own = call("GET", "/connection-failures").json()
    assert [each["place"] for each in own.get("items", [])] == ["127.0.0.1"], own
    assert bob_call("GET", "/connection-failures", ip=ip).status_code == 422
    assert call("GET", "/connection-failures", ip="nonsense").status_code == 422
