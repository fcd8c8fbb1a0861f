"""/api/v1/alerts: list, one, and "this was me"."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import ApiKey
from audit.anomalies.models import Kind, State
from audit.models import ChangeEvent
from tests.relay.alerts.conftest import MakeAlert, alert, password  # noqa: F401  # fixtures
from tests.relay.api.conftest import Call, caller

Scope = ApiKey.Scope


def test_an_alert_in_full(call: Call, alert: MakeAlert) -> None:  # noqa: F811
    """Words, evidence and ids; what only pages and the watch read is left out."""
    row = alert()
    got = call("GET", f"/alerts/{row.pk}").json()
    assert got["kind"] == "network" and got["state"] == "open" and got["severity"] == "warning"
    assert got["evidence"]["ip"] == "203.0.113.9" and not {"doubts", "filters"} & set(got["evidence"])
    assert got["smtp_user_ids"] == row.smtp_user_ids and "203.0.113.9" in got["summary"] and got["advice"]


def test_the_list_has_filters_and_pages(call: Call, alert: MakeAlert) -> None:  # noqa: F811
    """The last seen first, through cursors without a gap or a repetition; by state and by kind."""
    now = timezone.now()
    for number in range(5):
        alert(Kind.CANARY, key=f"canary:{number}", last_at=now - timedelta(minutes=number))
    seen: list[int] = []
    cursor = ""
    while True:
        page = call("GET", "/alerts", limit=2, cursor=cursor).json()
        seen += [each["id"] for each in page["items"]]
        if not (cursor := page["next_cursor"] or ""):
            break
    assert len(seen) == 5 == len(set(seen))
    assert call("GET", "/alerts", kind="tls").json()["items"] == []
    assert len(call("GET", "/alerts", state="open").json()["items"]) == 5
    assert call("GET", "/alerts", state="nonsense").status_code == 422


@pytest.mark.parametrize("cursor", ["x", "W10", "WyIyMDI2LTAxLTAxIiwxXQ", "WzEsMl0", "WyJ4IiwxXQ"])
def test_a_made_up_cursor(call: Call, cursor: str) -> None:
    """Not base64, no values, a time without a zone, wrong types and no time: 422."""
    assert call("GET", "/alerts", cursor=cursor).status_code == 422


def test_this_was_me(call: Call, alert: MakeAlert) -> None:  # noqa: F811
    """It closes the alert under the key's name; a second time is a conflict."""
    row = alert()
    assert call("POST", f"/alerts/{row.pk}/dismiss").json()["state"] == "dismissed"
    row.refresh_from_db()
    assert row.state == State.DISMISSED and row.closed_by.startswith("api:")
    assert ChangeEvent.objects.filter(action="anomaly.dismissed").count() == 1
    assert call("POST", f"/alerts/{row.pk}/dismiss").status_code == 409


def test_scopes(key_with: Callable[..., str], alert: MakeAlert) -> None:  # noqa: F811
    """Reading needs alerts:read, answering alerts:write."""
    row = alert()
    reader = caller(key_with(Scope.ALERTS_READ))
    assert reader("GET", f"/alerts/{row.pk}").status_code == 200
    assert reader("POST", f"/alerts/{row.pk}/dismiss").status_code == 403
    assert caller(key_with(Scope.MESSAGES_READ))("GET", "/alerts").status_code == 403


def test_foreign_and_impossible_ids(call: Call, bob_org: Any, alert: MakeAlert) -> None:  # noqa: F811
    """Another customer's, the installation's and absurd ids are all not found."""
    theirs = alert(organization_id=bob_org.pk)
    installations = alert(organization_id=None)
    for number in (theirs.pk, installations.pk, 0, 10**30):
        assert call("GET", f"/alerts/{number}").status_code == 404
        assert call("POST", f"/alerts/{number}/dismiss").status_code == 404
