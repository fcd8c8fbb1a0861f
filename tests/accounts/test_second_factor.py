"""The page between password and panel."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth import SESSION_KEY
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import mfa
from accounts.models import User
from audit.changes import SYSTEM
from tests.conftest import PASSWORD

URL = "/account/second-factor/"


@pytest.fixture
def client(carol: User) -> Client:
    """Carol after her password, before her code."""
    client = Client()
    client.post(reverse("accounts:sign_in"), {"username": carol.email, "password": PASSWORD})
    return client


def is_in(client: Client) -> bool:
    return client.get(reverse("accounts:security")).status_code == 200


def test_the_password_alone_opens_nothing(client: Client) -> None:
    """Every page leads here, the one that would replace the authenticator included."""
    for name in ("security", "totp_enrol", "recovery_codes", "password_change", "team", "api_keys", "confirm_identity"):
        response = client.get(reverse(f"accounts:{name}"))
        assert response.headers["Location"].startswith(URL), name
    assert client.post(reverse("accounts:totp_disable")).headers["Location"].startswith(URL)


def test_the_code_opens_the_panel_under_a_new_session_key(client: Client, carol: User, totp_code: Any) -> None:
    """And leads to where carol was going."""
    before = client.session.session_key
    response = client.post(URL, {"code": totp_code(carol), "next": "/account/security/"})
    assert response.headers["Location"] == "/account/security/"
    assert is_in(client)
    assert client.session.session_key != before
    assert not client.session.exists(before)


def test_spaces_in_the_code_are_ignored(client: Client, carol: User, totp_code: Any) -> None:
    """Authenticators show 123 456."""
    code = totp_code(carol)
    client.post(URL, {"code": f" {code[:3]} {code[3:]} "})
    assert is_in(client)


def test_next_stays_on_this_site(client: Client, carol: User, totp_code: Any) -> None:
    """A foreign target is dropped here too."""
    response = client.post(URL, {"code": totp_code(carol), "next": "//evil.example/"})
    assert response.headers["Location"] == reverse("relay:overview")


def test_a_code_works_once(client: Client, carol: User, totp_code: Any) -> None:
    """Who reads the code over carol's shoulder comes too late."""
    code = totp_code(carol)
    client.post(URL, {"code": code})
    other = Client()
    other.post(reverse("accounts:sign_in"), {"username": carol.email, "password": PASSWORD})
    assert "not right" in other.post(URL, {"code": code}).content.decode()
    assert not is_in(other)


def test_an_old_code_is_refused(client: Client, carol: User, totp_code: Any) -> None:
    """Two steps ago is too old."""
    client.post(URL, {"code": totp_code(carol, steps=-3)})
    assert not is_in(client)


def test_guessing_is_slowed(client: Client, carol: User, totp_code: Any) -> None:
    """After wrong codes even the right one must wait, and the page says how long."""
    for _ in range(3):
        client.post(URL, {"code": "000000"})
    page = client.post(URL, {"code": totp_code(carol)}).content.decode()
    assert "Too many wrong codes" in page
    assert not is_in(client)
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        client.post(URL, {"code": totp_code(carol)})
        assert is_in(client)


def test_another_persons_code_is_refused(client: Client, alice: User, totp_code: Any) -> None:
    """Alice's authenticator does not open carol's account."""
    TOTPDevice.objects.create(user=alice, confirmed=True)
    client.post(URL, {"code": totp_code(alice)})
    assert not is_in(client)


def test_a_recovery_code_works_once(client: Client, carol: User) -> None:
    """It opens the panel, is used up, and says how many are left."""
    codes = mfa.new_recovery_codes(carol, actor=SYSTEM)
    page = client.post(URL, {"code": codes[0].upper(), "next": "/account/security/"}, follow=True).content.decode()
    assert "9 are left" in page
    other = Client()
    other.post(reverse("accounts:sign_in"), {"username": carol.email, "password": PASSWORD})
    other.post(URL, {"code": codes[0]})
    assert SESSION_KEY in other.session
    assert not is_in(other)


@pytest.mark.parametrize("code", ["", "12345", "1234567", "١٢٣٤٥٦", "a" * 33, "-12345", "\0"])
def test_nonsense_is_refused(client: Client, code: str) -> None:
    """Nothing but a code is a code."""
    assert client.post(URL, {"code": code}).status_code == 200
    assert not is_in(client)


def test_who_has_no_second_factor_is_not_asked(alice: User, alice_org: Any, client_for: Any) -> None:
    """Alice, without an authenticator, is sent on."""
    assert client_for(alice).get(URL).headers["Location"] == reverse("relay:overview")
