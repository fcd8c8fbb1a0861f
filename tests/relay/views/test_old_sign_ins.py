"""relay.views.old_sign_ins: who signs in the old way, and the switches."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization, User
from relay.models import SmtpUser
from relay.sign_in_policy import policy_of
from tests.relay.views.test_network_lists import text

DAY = timedelta(days=1)


@pytest.fixture
def printer(shop: SmtpUser, attempted: Callable[..., object]) -> None:
    attempted(smtp_user=shop, count=4090, at=timezone.now() - DAY)
    attempted(smtp_user=shop, count=12, at=timezone.now() - DAY, ip="192.0.2.99", mechanism="LOGIN")


@pytest.fixture
def attempted(alice_org: Organization) -> Callable[..., object]:
    """As the pages' own, with a mechanism of choice."""
    from audit.models import Reason, Result
    from audit.record import attempt, record_auth_event

    def record(*, smtp_user: SmtpUser, **given: object) -> object:
        values = {"ip": "192.0.2.10", "mechanism": "PLAIN", "client_name": "<b>printer</b>", "tls_version": "TLSv1.3"}
        return record_auth_event(
            attempt(
                result=Result.ACCEPTED,
                reason=Reason.OK,
                port=587,
                worker="test",
                organization_id=alice_org.pk,
                smtp_user_id=smtp_user.pk,
                **{**values, **given},  # type: ignore[arg-type]
            )
        )

    return record


def test_all_of_them_with_figures(alice_client: Client, printer: None) -> None:
    """Each old way with who uses it; a client's name is text, not markup."""
    page = text(alice_client.get("/old-sign-ins/"))
    assert "<b>12</b> of 4,102 sign-ins in 30 days, by 1 credential." in page
    assert page.count("<b>None</b> of 4,102 sign-ins in 30 days.") == 3
    assert "&lt;b&gt;printer" in page and "<b>printer" not in page


def test_switched_off_after_a_look(alice_client: Client, alice_org: Organization, printer: None) -> None:
    """The page says whom it would have refused; the switch binds the organization, and can be undone."""
    page = text(alice_client.get("/old-sign-ins/login/"))
    assert "In the last 30 days it would have refused 12 sign-ins." in page and "192.0.2.99" in page
    alice_client.post("/old-sign-ins/login/switch/", {"to": "off"})
    assert policy_of(alice_org.pk).refused_mechanisms == {"LOGIN"}
    page = text(alice_client.get("/old-sign-ins/login/"))
    assert "Switched off" in page and "Switch it on again" in page
    alice_client.post("/old-sign-ins/login/switch/", {"to": "on"})
    assert not policy_of(alice_org.pk).refused_mechanisms


def test_it_asks_who_is_there(
    alice: User, alice_org: Organization, shop: SmtpUser, client_for: Callable[..., Client]
) -> None:
    """Without a recent check nothing is switched."""
    response = client_for(alice, recent=False).post("/old-sign-ins/login/switch/", {"to": "off"})
    assert response.headers["Location"].startswith("/account/confirm-identity/")
    assert not policy_of(alice_org.pk).refused_mechanisms


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "nonsense/", 404),
        ("post", "nonsense/switch/", 404),
        ("post", "old-password/switch/", 404),
        ("get", "login/switch/", 405),
        ("get", "old-password/", 200),
    ],
)
def test_what_there_is_not(alice_client: Client, shop: SmtpUser, method: str, path: str, status: int) -> None:
    """Unknown ways, and ways without a switch."""
    assert getattr(alice_client, method)(f"/old-sign-ins/{path}").status_code == status


def test_another_organization_sees_nothing(bob_client: Client, printer: None) -> None:
    """Bob's page has none of alice's clients."""
    page = bob_client.get("/old-sign-ins/login/").content.decode()
    assert "192.0.2.99" not in page and "alice" not in page
