"""/api/v1/network-learnings and /networks/preview: the learning of an allowlist, as the panel does it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.changes import SYSTEM
from audit.models import ChangeEvent, Reason, Result
from audit.record import attempt, record_auth_event
from relay.credentials import create_app_password
from relay.models import AppPassword, Network, NetworkLearning, SmtpUser
from tests.relay.api.conftest import Call


@pytest.fixture
def password(shop: SmtpUser) -> AppPassword:
    return create_app_password(shop, name="web-1", actor=SYSTEM).app_password


@pytest.fixture
def in_use(shop: SmtpUser, password: AppPassword) -> None:
    for ip, count, days in (("192.0.2.4", 40, 1), ("192.0.2.5", 2, 1), ("203.0.113.9", 3, 20)):
        record_auth_event(
            attempt(
                at=timezone.now() - timedelta(days=days), result=Result.ACCEPTED, reason=Reason.OK, ip=ip, port=587,
                worker="test", organization_id=shop.organization_id, smtp_user_id=shop.pk, count=count,
                app_password_id=password.pk, mechanism="PLAIN", tls_version="TLSv1.3", client_name="web.example",
            )
        )  # fmt: skip


def test_from_start_to_enforcing(call: Call, shop: SmtpUser, password: AppPassword, in_use: None) -> None:
    """Started, looked at, edited, enforced; the change log names the key."""
    made = call("POST", "/network-learnings", {"app_password_id": password.pk, "days": 7, "history_days": 7}).json()
    assert (made["smtp_user_id"], made["app_password_id"], made["over"]) == (shop.pk, password.pk, False)
    assert [each["cidr"] for each in made["ranges"]] == ["192.0.2.4/31"]
    evidence = made["ranges"][0]["evidence"]
    assert (evidence["logins"], evidence["addresses"], evidence["share"]) == (42, 2, 1.0)
    preview = made["preview"]
    assert (preview["days"], preview["logins"], preview["refused_logins"]) == (30, 45, 3)
    (refused,) = preview["refused"]
    assert (refused["username"], refused["app_password"], refused["ip"]) == ("shop.alice-works", "web-1", "203.0.113.9")
    path = f"/network-learnings/{made['id']}"
    edited = call("PUT", f"{path}/ranges", {"ranges": [{"cidr": "192.0.2.0/28", "label": "Office"}]}).json()
    assert edited["edited"] and edited["ranges"][0]["evidence"] is None
    assert call("POST", f"{path}/enforce", {"seen": made["seen"]}).status_code == 409
    assert not Network.objects.exists()
    enforced = call("POST", f"{path}/enforce", {"seen": edited["seen"]})
    assert [(each["cidr"], each["label"], each["app_password_id"]) for each in enforced.json()] == [
        ("192.0.2.0/28", "Office", password.pk)
    ]
    assert ChangeEvent.objects.get(action="network_learning.enforced").actor.startswith("api:gpk_")
    assert call("GET", path).status_code == 404


def test_listed_stopped_and_given_up(call: Call, bob_call: Call, shop: SmtpUser) -> None:
    """One for each list; a second start is a conflict; another organization finds none of it."""
    made = call("POST", "/network-learnings", {"days": 7}).json()
    assert call("POST", "/network-learnings", {"days": 7}).status_code == 409
    assert [each["id"] for each in call("GET", "/network-learnings").json()] == [made["id"]]
    path = f"/network-learnings/{made['id']}"
    assert bob_call("GET", "/network-learnings").json() == []
    for method, tail, body in (
        ("GET", "", None), ("PUT", "/ranges", {"ranges": None}), ("POST", "/stop", None),
        ("POST", "/enforce", {"seen": made["seen"]}), ("DELETE", "", None),
    ):  # fmt: skip
        assert bob_call(method, path + tail, body).status_code == 404
    assert call("POST", f"{path}/stop").json()["over"]
    assert call("DELETE", path).status_code == 204
    assert not NetworkLearning.objects.exists()


def test_a_preview_by_itself(call: Call, bob_call: Call, shop: SmtpUser, in_use: None) -> None:
    """Of ranges that nobody has saved, at any level; no ranges refuse nobody."""
    asked: dict[str, Any] = {"ranges": ["192.0.2.4"], "smtp_user_id": shop.pk}
    found = call("POST", "/networks/preview", asked).json()
    assert (found["logins"], found["refused_logins"]) == (45, 5)
    assert [each["ip"] for each in found["refused"]] == ["203.0.113.9", "192.0.2.5"]
    assert call("POST", "/networks/preview", {"ranges": []}).json()["refused"] == []
    assert bob_call("POST", "/networks/preview", asked).status_code == 404
    assert bob_call("POST", "/networks/preview", {"ranges": ["192.0.2.4"]}).json()["logins"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/network-learnings", {"days": 0}),
        ("/network-learnings", {"days": 31}),
        ("/network-learnings", {"days": 10**30}),
        ("/network-learnings", {"days": 7, "other": 1}),
        ("/networks/preview", {"ranges": ["nonsense"]}),
        ("/networks/preview", {"ranges": ["192.0.2.1\0"]}),
        ("/networks/preview", {"ranges": ["192.0.2.0/24"] * 201}),
        ("/networks/preview", {"ranges": ["x" * 10_000]}),
    ],
)
def test_what_cannot_be_is_a_problem_document(call: Call, path: str, body: dict[str, Any]) -> None:
    """422, never a 500."""
    response = call("POST", path, body)
    assert response.status_code == 422
    assert response["Content-Type"] == "application/problem+json"


def test_ids_of_another_organization_are_not_found(bob_call: Call, shop: SmtpUser, password: AppPassword) -> None:
    """Neither SMTP user nor app password."""
    for owner in ({"smtp_user_id": shop.pk}, {"app_password_id": password.pk}):
        assert bob_call("POST", "/network-learnings", {"days": 7, **owner}).status_code == 404


def test_a_reading_key_starts_nothing(key_with: Callable[..., str], shop: SmtpUser) -> None:
    """403 with the scope that is missing; the preview only reads."""
    from tests.relay.api.conftest import caller

    reading = caller(key_with("smtp_users:read"))
    assert reading("POST", "/network-learnings", {"days": 7}).status_code == 403
    assert reading("POST", "/networks/preview", {"ranges": []}).status_code == 200
