"""/api/v1/scorecard, /old-sign-ins and /sign-in-policy."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.models import ChangeEvent, Reason, Result
from audit.record import attempt, record_auth_event
from relay.models import SmtpUser
from relay.sign_in_policy import policy_of
from tests.relay.api.conftest import Call


def test_the_scorecard(call: Call, bob_call: Call, shop: SmtpUser, settings: Any) -> None:
    """Thirteen practices in order, each with state and evidence, and where it is mended."""
    settings.GATEPOST_WEB_URL = "https://panel.example"
    card = call("GET", "/scorecard").json()
    practices = card["practices"]
    assert [each["number"] for each in practices] == list(range(1, 14))
    assert {each["state"] for each in practices} == {"fulfilled", "not", "unmeasured"}
    assert card["fulfilled"] == sum(each["state"] == "fulfilled" for each in practices)
    assert all(each["evidence"] for each in practices)
    assert practices[2]["fix_url"] == "https://panel.example/networks/"
    assert "alice" not in bob_call("GET", "/scorecard").content.decode()


def test_old_sign_ins(call: Call, bob_call: Call, shop: SmtpUser) -> None:
    """Each way with its uses, and nothing of another organization."""
    record_auth_event(
        attempt(
            at=timezone.now() - timedelta(days=1), result=Result.ACCEPTED, reason=Reason.OK, ip="192.0.2.7", port=587,
            worker="test", organization_id=shop.organization_id, smtp_user_id=shop.pk, mechanism="LOGIN", count=12,
            tls_version="TLSv1.2",
        )
    )  # fmt: skip
    ways = {each["key"]: each for each in call("GET", "/old-sign-ins").json()}
    assert list(ways) == ["cram-md5", "login", "tls-1.2", "old-password"]
    assert (ways["login"]["would_refuse"], ways["login"]["logins"]) == (12, 12)
    assert ways["tls-1.2"]["uses"][0]["username"] == "shop.alice-works"
    assert all(each["uses"] == [] for each in bob_call("GET", "/old-sign-ins").json())


def test_the_policy_is_read_and_changed(call: Call, alice_org: Organization, bob_org: Organization) -> None:
    """Only what is sent changes; the change log names the key."""
    assert call("GET", "/sign-in-policy").json() == {"tls_least": "TLSv1.2", "refused_mechanisms": []}
    assert call("PATCH", "/sign-in-policy", {"tls_least": "TLSv1.3"}).status_code == 200
    changed = call("PATCH", "/sign-in-policy", {"refused_mechanisms": ["LOGIN", "CRAM-MD5"]}).json()
    assert changed == {"tls_least": "TLSv1.3", "refused_mechanisms": ["CRAM-MD5", "LOGIN"]}
    assert call("PATCH", "/sign-in-policy", {}).json() == changed
    assert policy_of(bob_org.pk).tls_least == "TLSv1.2"
    assert ChangeEvent.objects.filter(action="sign_in_policy.changed", actor__startswith="api:gpk_").count() == 2


@pytest.mark.parametrize(
    "body",
    [
        {"tls_least": "TLSv1.1"},
        {"refused_mechanisms": ["NTLM"]},
        {"refused_mechanisms": ["PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"]},
        {"refused_mechanisms": ["x"] * 100},
        {"refused_mechanisms": "LOGIN"},
        {"refused_mechanisms": ["LOGIN\0"]},
        {"other": 1},
    ],
)
def test_what_cannot_be_is_a_problem_document(call: Call, alice_org: Organization, body: dict[str, Any]) -> None:
    """422, and the policy stays."""
    response = call("PATCH", "/sign-in-policy", body)
    assert response.status_code == 422
    assert response["Content-Type"] == "application/problem+json"
    assert not policy_of(alice_org.pk).refused_mechanisms
