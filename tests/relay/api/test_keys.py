"""Who may call: bearer keys, their scopes, and nothing else."""

from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts.api_keys import revoke_api_key
from accounts.models import ApiKey, Organization
from audit.changes import SYSTEM
from relay.models import SmtpUser
from tests.relay.api.conftest import caller

pytestmark = pytest.mark.django_db
READ, WRITE = "smtp_users:read", "smtp_users:write"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer gpk_nothing", "Basic YTpi", "gpk_x", "Bearer gp\udcff", "Bearer a b"],
)
def test_no_key_is_401(client: Client, header: str | None) -> None:
    """None, empty, unknown, another scheme, nonsense: one answer, with the challenge."""
    headers = {} if header is None else {"Authorization": header.encode("utf-8", "surrogateescape").decode("latin-1")}
    response = client.get("/api/v1/smtp-users", headers=headers)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Bearer realm="Gatepost"'
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["status"] == 401


def test_a_revoked_key_is_401(key_with, call) -> None:
    """From the moment of its revocation."""
    assert call("GET", "/smtp-users").status_code == 200
    revoke_api_key(ApiKey.objects.get(), actor=SYSTEM)
    assert call("GET", "/smtp-users").status_code == 401


def test_an_expired_key_is_401(key_with) -> None:
    """It works until its end, and not after."""
    call = caller(key_with(expires_at=timezone.now() + timedelta(hours=1)))
    assert call("GET", "/smtp-users").status_code == 200
    with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=1), tick=False):
        assert call("GET", "/smtp-users").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/smtp-users", "smtp_users:read"),
        ("POST", "/smtp-users", "smtp_users:write"),
        ("GET", "/smtp-users/{id}", "smtp_users:read"),
        ("PATCH", "/smtp-users/{id}", "smtp_users:write"),
        ("POST", "/smtp-users/{id}/disable", "smtp_users:write"),
        ("POST", "/smtp-users/{id}/enable", "smtp_users:write"),
        ("GET", "/smtp-users/{id}/app-passwords", "smtp_users:read"),
        ("POST", "/smtp-users/{id}/app-passwords", "smtp_users:write"),
        ("POST", "/app-passwords/1/revoke", "smtp_users:write"),
        ("POST", "/app-passwords/1/rotate", "smtp_users:write"),
        ("GET", "/app-passwords/1/uses", "smtp_users:read"),
        ("GET", "/app-password-policy", "smtp_users:read"),
        ("PATCH", "/app-password-policy", "policies:write"),
        ("GET", "/network-learnings", "smtp_users:read"),
        ("POST", "/network-learnings", "smtp_users:write"),
        ("GET", "/network-learnings/1", "smtp_users:read"),
        ("DELETE", "/network-learnings/1", "smtp_users:write"),
        ("PUT", "/network-learnings/1/ranges", "smtp_users:write"),
        ("POST", "/network-learnings/1/stop", "smtp_users:write"),
        ("POST", "/network-learnings/1/enforce", "smtp_users:write"),
        ("POST", "/networks/preview", "smtp_users:read"),
        ("GET", "/scorecard", "smtp_users:read"),
        ("GET", "/old-sign-ins", "smtp_users:read"),
        ("GET", "/sign-in-policy", "smtp_users:read"),
        ("PATCH", "/sign-in-policy", "policies:write"),
        ("GET", "/oauth-clients", "smtp_users:read"),
        ("DELETE", "/oauth-clients/1", "smtp_users:write"),
        ("GET", "/outside-issuers", "smtp_users:read"),
        ("DELETE", "/outside-issuers/1", "smtp_users:write"),
        ("GET", "/webhooks", "webhooks:read"),
        ("POST", "/webhooks", "webhooks:write"),
        ("GET", "/webhooks/1", "webhooks:read"),
        ("PATCH", "/webhooks/1", "webhooks:write"),
        ("POST", "/webhooks/1/rotate-secret", "webhooks:write"),
        ("POST", "/webhooks/1/end-overlap", "webhooks:write"),
        ("POST", "/webhooks/1/disable", "webhooks:write"),
        ("POST", "/webhooks/1/enable", "webhooks:write"),
        ("DELETE", "/webhooks/1", "webhooks:write"),
        ("POST", "/webhooks/1/test", "webhooks:write"),
        ("POST", "/webhooks/1/replay", "webhooks:write"),
        ("GET", "/webhooks/1/deliveries", "webhooks:read"),
        ("GET", "/webhooks/1/deliveries/1", "webhooks:read"),
        ("POST", "/webhooks/1/deliveries/1/replay", "webhooks:write"),
        ("GET", "/suppressions", "messages:read"),
        ("POST", "/suppressions", "messages:write"),
        ("GET", "/suppressions/1", "messages:read"),
        ("DELETE", "/suppressions/1", "messages:write"),
        ("POST", "/suppressions/import", "messages:write"),
        ("GET", "/bans", "auth_events:read"),
        ("POST", "/bans/1/lift", "smtp_users:write"),
        ("GET", "/changes", "changes:read"),
        ("GET", "/changes/verification", "changes:read"),
        ("GET", "/connection-failures", "auth_events:read"),
        ("GET", "/alerts", "alerts:read"),
        ("GET", "/alerts/1", "alerts:read"),
        ("POST", "/alerts/1/dismiss", "alerts:write"),
        ("GET", "/networks", "smtp_users:read"),
        ("POST", "/networks", "smtp_users:write"),
        ("DELETE", "/networks/1", "smtp_users:write"),
        ("GET", "/domains", "smtp_users:read"),
        ("POST", "/domains", "smtp_users:write"),
        ("GET", "/domains/1", "smtp_users:read"),
        ("DELETE", "/domains/1", "smtp_users:write"),
        ("POST", "/domains/1/check", "smtp_users:write"),
        ("GET", "/domains/1/history", "smtp_users:read"),
        ("POST", "/domains/1/dkim-keys", "smtp_users:write"),
        ("DELETE", "/domains/1/dkim-keys", "smtp_users:write"),
        ("GET", "/smtp-users/{id}/senders", "smtp_users:read"),
        ("POST", "/smtp-users/{id}/senders", "smtp_users:write"),
        ("DELETE", "/senders/1", "smtp_users:write"),
        ("GET", "/messages", "messages:read"),
        ("GET", "/messages/018f0000-0000-7000-8000-000000000000", "messages:read"),
        ("GET", "/messages/018f0000-0000-7000-8000-000000000000/content", "messages:read"),
        *(
            ("POST", f"/messages/018f0000-0000-7000-8000-000000000000/{verb}", "messages:write")
            for verb in ("hold", "release", "retry", "cancel")
        ),
        ("POST", "/message-actions/preview", "messages:read"),
        ("GET", "/message-actions", "messages:read"),
        ("POST", "/message-actions", "messages:write"),
        ("GET", "/message-actions/1", "messages:read"),
        ("POST", "/message-actions/1/stop", "messages:write"),
        ("GET", "/held-messages", "messages:read"),
        ("GET", "/auth-events", "auth_events:read"),
        ("GET", "/refusals", "auth_events:read"),
    ],
)
def test_each_call_needs_its_scope(key_with, shop: SmtpUser, method: str, path: str, scope: str) -> None:
    """A key with every other scope gets 403 that names the missing one; a key with it alone passes that door."""
    others = [each for each in ApiKey.Scope.values if each != scope]
    address = path.format(id=shop.pk)
    refused = caller(key_with(*others))(method, address)
    assert refused.status_code == 403
    assert scope in refused.json()["detail"]
    assert f'scope="{scope}"' in refused["WWW-Authenticate"]
    assert caller(key_with(scope))(method, address).status_code not in {401, 403}


def test_every_route_needs_a_key_and_a_scope() -> None:
    """The schema has one call without security, for those who found a secret; the test above knows all others."""
    schema = Client().get("/api/v1/openapi.json").json()
    leaks = schema["paths"].pop("/api/v1/leaks")
    assert "security" not in leaks["post"]
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    assert all(operation["security"] == [{"Bearer": []}] and operation["x-scope"] for operation in operations)
    marks = test_each_call_needs_its_scope.pytestmark
    assert len(operations) == len(next(mark for mark in marks if mark.name == "parametrize").args[1])


def test_a_session_is_no_key(client: Client, client_for, alice, alice_org) -> None:
    """A signed-in browser gets 401: there is nothing for a forged request to use."""
    assert client_for(alice).get("/api/v1/smtp-users").status_code == 401
    assert client_for(alice).post("/api/v1/smtp-users", {}, content_type="application/json").status_code == 401


def test_a_key_needs_no_csrf_token(key_with) -> None:
    """Programs have none."""
    client = Client(enforce_csrf_checks=True)
    headers = {"Authorization": f"Bearer {key_with()}"}
    body = {"name": "shop", "excess": "hold"}
    response = client.post("/api/v1/smtp-users", body, content_type="application/json", headers=headers)
    assert response.status_code == 201


def test_last_use_is_noted_once_a_minute(key_with, call) -> None:
    """Ten calls a second are one write a minute."""
    start = timezone.now()
    with time_machine.travel(start, tick=False):
        call("GET", "/smtp-users")
    with time_machine.travel(start + timedelta(seconds=30), tick=False):
        call("GET", "/smtp-users")
    assert ApiKey.objects.get().last_used_at == start
    with time_machine.travel(start + timedelta(seconds=61), tick=False):
        call("GET", "/smtp-users")
    assert ApiKey.objects.get().last_used_at == start + timedelta(seconds=61)


def test_a_suspended_organization_reads_and_changes_nothing(call, alice_org: Organization, shop: SmtpUser) -> None:
    """Reading goes on; a change is 403 with the operator's reason."""
    Organization.objects.filter(pk=alice_org.pk).update(state="suspended", state_reason="Unpaid since May")
    assert call("GET", "/smtp-users").status_code == 200
    response = call("POST", f"/smtp-users/{shop.pk}/enable")
    assert response.status_code == 403
    assert response.json()["detail"] == "Unpaid since May"
