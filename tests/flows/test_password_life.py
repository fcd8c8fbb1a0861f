"""An app password's life in the whole of Gatepost: replaced without a gap, found and ended, and a canary that sings."""

import json
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedded.program import wait_for
from tests.flows.conftest import Login, message_to
from tests.plugins.running import Running

SWEEP_SECONDS = 30.0  # beat sends the sweep every 5 s


def password_of(running: Running, login: Login, app_password_id: int) -> dict[str, Any]:
    items = running.get(f"smtp-users/{login.id}/app-passwords")["items"]
    return dict(next(item for item in items if item["id"] == app_password_id))


def test_a_rotation_without_a_gap(running: Running, smtp_user: Callable[..., Login], to: str) -> None:
    """Both send during the overlap, the API says who still uses the old one, and ending it ends it alone."""
    old = smtp_user()
    ends_at = (datetime.now(UTC) + timedelta(days=7)).isoformat()
    made = running.post(f"app-passwords/{old.app_password_id}/rotate", name="next", old_ends_at=ends_at)
    new = replace(old, app_password_id=made["id"], secret=made["secret"])
    old.send(to)
    message_to(running, to)
    new.send(f"new-{to}")
    assert password_of(running, old, old.app_password_id)["state"] == "ending"
    uses: list[dict[str, Any]] = []

    def is_seen() -> bool:
        uses[:] = running.get(f"app-passwords/{old.app_password_id}/uses")["items"]
        return bool(uses)

    assert wait_for(is_seen, seconds=10)
    assert uses[0]["ip"] == "127.0.0.1"
    running.post(f"app-passwords/{old.app_password_id}/revoke")
    assert old.refusal().smtp_code == 535
    new.send(f"again-{to}")


def test_a_strangers_report_ends_a_leaked_one(running: Running, smtp_user: Callable[..., Login]) -> None:
    """Without a key, to the whole service: refused within seconds, its session ended, its owner written to."""
    login = smtp_user()
    body = json.dumps({"token": login.secret, "url": f"https://git.example/{login.username}"}).encode()
    request = urllib.request.Request(
        f"{running.web_url}/api/v1/leaks", data=body, headers={"Content-Type": "application/json"}
    )
    with login.session() as client:
        client.login(login.username, login.secret)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert (answer.status, json.loads(answer.read())["results"]) == (202, None)
        said = client.getreply()
        assert said[0] == 421 and b"4.7.0" in said[1]
        client.close()
    assert password_of(running, login, login.app_password_id)["revoked_because"] == "leaked"
    subject = (
        "SELECT subject FROM relay_message WHERE subject LIKE 'Revoked, because it was found%%' AND subject LIKE %s"
    )
    assert wait_for(lambda: bool(running.sql(subject, f"%{login.username}%")), seconds=SWEEP_SECONDS)


def test_a_canary_sings(running: Running, smtp_user: Callable[..., Login]) -> None:
    """Refused like any wrong password; within seconds there is an alert with the address that tried it."""
    login = smtp_user()
    made = running.post(f"smtp-users/{login.id}/app-passwords", name="old wiki", kind="canary")
    tried = replace(login, app_password_id=made["id"], secret=made["secret"])
    assert tried.refusal().smtp_code == 535
    alert = "SELECT evidence->>'ip' FROM audit_anomaly WHERE kind = 'canary' AND %s = ANY(app_password_ids)"
    found: list[Any] = []

    def sings() -> bool:
        found[:] = running.sql(alert, made["id"])
        return bool(found)

    assert wait_for(sings, seconds=SWEEP_SECONDS)
    assert found == [("127.0.0.1",)]


def test_a_live_secret_in_a_subject_is_told(running: Running, smtp_user: Callable[..., Login], to: str) -> None:
    """The mail goes on as it is; the recorded subject has no secret, and its owner hears of it."""
    login = smtp_user()
    text = login.mail(to).replace(b"Subject: A test", f"Subject: {login.secret}".encode())
    login.send(to, text)
    assert "redacted" in message_to(running, to)["subject"]
    alert = "SELECT 1 FROM audit_anomaly WHERE kind = 'leaked' AND %s = ANY(app_password_ids)"
    assert wait_for(lambda: bool(running.sql(alert, login.app_password_id)), seconds=SWEEP_SECONDS)


@pytest.mark.parametrize("token", ["gp_" + "A" * 28, "hello"])
def test_what_is_no_secret_of_ours_changes_nothing(running: Running, token: str) -> None:
    """With the own key too it is "received", as another customer's secret would be."""
    assert running.post("leaks", token=token)["results"] == ["received"]
