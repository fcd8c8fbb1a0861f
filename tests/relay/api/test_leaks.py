"""POST /leaks: taken from anybody, told to nobody but the owner."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.api_keys import create_api_key, find_api_key
from accounts.models import Organization
from audit.changes import SYSTEM
from relay import leaks
from relay.app_passwords import make_app_secret
from relay.credentials import create_app_password, create_smtp_user
from relay.models import AppPassword, LeakReport, SmtpUser
from tests.relay.api.conftest import Call, caller

pytestmark = pytest.mark.django_db


def stranger(body: Any, **headers: str) -> Any:
    return Client(raise_request_exception=False).post(
        "/api/v1/leaks", body, content_type="application/json", headers=headers
    )


@pytest.fixture
def secret(shop: SmtpUser) -> str:
    return create_app_password(shop, name="web-1", actor=SYSTEM).secret


def test_a_stranger_hears_the_same_whatever_it_is(secret: str) -> None:
    """Live, made up, nonsense: one status, one body, and nothing was looked up."""
    answers = [stranger({"token": token}) for token in (secret, make_app_secret(), "hello")]
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (202, b'{"status": "received", "received": 1, "results": null}')
    }
    assert AppPassword.objects.get().revoked_at is None
    leaks.handle_waiting()
    assert AppPassword.objects.get().revoked_because == "leaked"


def test_scanners_send_lists_with_more_than_is_asked(secret: str) -> None:
    """As secret-scanning partners do; what is not known is left out."""
    found = [{"token": secret, "type": "gatepost", "url": "https://git.example/a", "source": "content"}]
    answer = stranger([*found, {"token": "x"}])
    assert (answer.status_code, answer.json()["received"]) == (202, 2)
    report = LeakReport.objects.order_by("pk")[0]
    assert (report.found_at, report.reporter) == ("https://git.example/a content", "127.0.0.1")
    assert secret not in str(LeakReport.objects.values())


def test_the_own_key_hears_what_happened(call: Call, secret: str, bob_org: Organization) -> None:
    """Of its own organization; of another's no more than a stranger hears."""
    bob = create_smtp_user(bob_org, name="bob", excess="refuse", actor=SYSTEM)
    bobs = create_app_password(bob, name="x", actor=SYSTEM)
    tokens = [secret, secret, bobs.secret, make_app_secret()]
    answer = call("POST", "/leaks", [{"token": token} for token in tokens])
    assert answer.json()["results"] == ["revoked", "ended", "received", "received"]
    bobs.app_password.refresh_from_db()
    assert bobs.app_password.revoked_at is None


def test_a_key_without_the_scope_is_a_stranger(key_with: Callable[..., str], secret: str) -> None:
    """It may report, as anybody may, and is not told."""
    answer = caller(key_with("messages:read"))("POST", "/leaks", {"token": secret})
    assert (answer.status_code, answer.json()["results"]) == (202, None)
    assert LeakReport.objects.get().reporter.startswith("api:gpk_")


def test_a_key_can_report_itself(key_with: Callable[..., str]) -> None:
    """The one thing that who found it can do with it."""
    key = key_with("smtp_users:write")
    assert caller(key)("POST", "/leaks", {"token": key}).json()["results"] == ["revoked"]
    assert find_api_key(key) is None


def test_a_wrong_key_is_401(secret: str) -> None:
    """Who believes to be told must not take "received" for an answer."""
    answer = stranger({"token": secret}, Authorization="Bearer gpk_wrong")
    assert answer.status_code == 401
    assert not LeakReport.objects.exists()


@pytest.mark.parametrize(
    "body", [{}, {"token": ""}, {"token": "x" * 301}, [], [{"token": "x"}] * 101, "gp_x", {"token": 1}, None]
)
def test_what_is_no_report_is_422(db: None, body: Any) -> None:
    """Nothing is stored of it."""
    assert stranger(body).status_code in (400, 422)
    assert not LeakReport.objects.exists()


def test_hostile_texts_are_stored_as_digests(db: None) -> None:
    """NUL, escapes, markup: taken like any other, and escaped where they are kept. A lone surrogate is no JSON text."""
    answer = stranger(b'{"token": "\\u0000\\u001b<script>", "url": "\\u0000\\u001b<script>gp_AAAAAAAAAAA"}')
    assert answer.status_code == 202
    assert LeakReport.objects.get().found_at == r"\x00\x1b<script>gp_…[redacted]"
    assert stranger(b'{"token": "\\ud800"}').status_code == 422


def test_one_address_reports_sixty_times_an_hour(db: None) -> None:
    """Then 429 with the wait; other forms count by themselves."""
    cache.clear()
    codes = [stranger({"token": "x"}).status_code for _each in range(leaks.REPORTS_AN_HOUR + 1)]
    assert set(codes[:-1]) == {202}
    assert codes[-1] == 429
    assert stranger({"token": "x"})["Retry-After"] == "3600"
    assert LeakReport.objects.count() == leaks.REPORTS_AN_HOUR


def test_a_suspended_organization_may_report(call: Call, secret: str, alice_org: Organization) -> None:
    """Ending what leaked is no change that a suspension should hold up."""
    Organization.objects.filter(pk=alice_org.pk).update(state="suspended")
    assert call("POST", "/leaks", {"token": secret}).json()["results"] == ["revoked"]


def test_an_expired_key_found_is_revoked_too(alice_org: Organization, call: Call) -> None:
    """Reported by the organization itself: it says so, and the key's row too."""
    made = create_api_key(alice_org, name="Old", scopes=["messages:read"], actor=SYSTEM)
    assert call("POST", "/leaks", {"token": made.secret}).json()["results"] == ["revoked"]
    made.api_key.refresh_from_db()
    assert made.api_key.revoked_at is not None
