"""Setting up, replacing and removing the authenticator."""

import base64
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import mfa
from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from tests.conftest import PASSWORD, make_user

URL = "/account/security/authenticator/"


def test_an_operator_without_one_gets_nowhere_else(db: None) -> None:
    """Signing in leads to the set-up, and so does every other page."""
    dave = make_user("dave@gatepost.example", is_operator=True)
    client = Client()
    client.post(reverse("accounts:sign_in"), {"username": dave.email, "password": PASSWORD})
    for name in ("accounts:security", "accounts:password_change", "relay:ops_floor", "relay:overview"):
        assert client.get(reverse(name)).headers["Location"].startswith(URL), name
    assert "Operators sign in with a second factor" in client.get(URL).content.decode()


def test_a_member_must_where_the_organization_says_so(alice: User, alice_org: Organization, client_for: Any) -> None:
    """The owner's rule holds from the next page on."""
    client = client_for(alice)
    assert client.get(reverse("accounts:security")).status_code == 200
    Organization.objects.filter(pk=alice_org.pk).update(mfa_required=True)
    assert client.get(reverse("accounts:security")).headers["Location"].startswith(URL)


def test_the_page_shows_the_same_secret_as_picture_and_text(alice: User, client_for: Any) -> None:
    """The QR code is an SVG in a data: URI, the one kind the content policy allows; reloading keeps the secret."""
    client = client_for(alice)
    page = client.get(URL).content.decode()
    device = TOTPDevice.objects.get(user=alice, confirmed=False)
    secret = base64.b32encode(device.bin_key).decode()
    assert secret in page.replace(" ", "")
    assert re.search(r'<img src="data:image/svg\+xml[;,]', page)
    assert client.get(URL).content.decode().replace(" ", "").count(secret) == 1


def test_a_code_confirms_it_and_brings_recovery_codes(alice: User, client_for: Any, totp_code: Any) -> None:
    """The session counts as verified, ten codes are shown once, nothing is cached, the change is recorded."""
    client = client_for(alice)
    client.get(URL)
    response = client.post(URL, {"code": totp_code(alice, confirmed=False)})
    codes = re.findall(r"\b[0-9a-hjkmnp-tv-z]{5}-[0-9a-hjkmnp-tv-z]{5}\b", response.content.decode())
    assert len(set(codes)) == 10
    assert "no-store" in response.headers["Cache-Control"]
    assert mfa.is_enrolled(alice)
    assert client.get(reverse("accounts:security")).status_code == 200
    assert ChangeEvent.objects.filter(action="second_factor.enrolled", subject=alice.email).exists()


def test_a_wrong_code_confirms_nothing(alice: User, client_for: Any) -> None:
    """The secret stays, to be tried again."""
    client = client_for(alice)
    client.get(URL)
    assert "not right" in client.post(URL, {"code": "000000"}).content.decode()
    assert not mfa.is_enrolled(alice)


def test_setting_up_needs_recent_identity(alice: User, client_for: Any) -> None:
    """An unattended browser cannot be given an authenticator of somebody else's."""
    response = client_for(alice, recent=False).get(URL)
    assert response.headers["Location"].startswith(reverse("accounts:confirm_identity"))


def test_replacing_ends_the_former(carol: User, client_for: Any, totp_code: Any) -> None:
    """One authenticator a person: the new one's confirmation deletes the old."""
    mfa.new_recovery_codes(carol, actor=SYSTEM)
    former = TOTPDevice.objects.get(user=carol)
    client = client_for(carol)
    client.get(URL)
    client.post(URL, {"code": totp_code(carol, confirmed=False)})
    assert not TOTPDevice.objects.filter(pk=former.pk).exists()
    assert TOTPDevice.objects.get(user=carol).confirmed
    assert client.get(reverse("accounts:security")).status_code == 200, "the session goes on under the new device"


def test_removing_it_removes_the_recovery_codes(alice: User, alice_org: Any, client_for: Any) -> None:
    """Alice may, since nobody asks her for one."""
    TOTPDevice.objects.create(user=alice, confirmed=True)
    mfa.new_recovery_codes(alice, actor=SYSTEM)
    client_for(alice).post(reverse("accounts:totp_disable"))
    assert not mfa.is_enrolled(alice)
    assert mfa.recovery_codes_left(alice) == 0
    assert ChangeEvent.objects.filter(organization_id=alice_org.pk, action="second_factor.removed").exists()


def test_removing_it_needs_recent_identity(alice: User, client_for: Any) -> None:
    """The button of an unattended browser asks for the code first."""
    TOTPDevice.objects.create(user=alice, confirmed=True)
    client_for(alice, recent=False).post(reverse("accounts:totp_disable"))
    assert mfa.is_enrolled(alice)


def test_who_needs_it_cannot_remove_it(carol: User, client_for: Any) -> None:
    """An operator replaces the authenticator, never goes without."""
    page = client_for(carol).post(reverse("accounts:totp_disable"), follow=True).content.decode()
    assert "not remove it" in page
    assert mfa.is_enrolled(carol)


@pytest.mark.django_db
def test_the_forced_set_up_comes_after_the_confirmation_of_the_address(client_for: Any) -> None:
    """One thing after the other, address first."""
    eve = make_user("eve@gatepost.example", is_operator=True, email_confirmed_at=None)
    assert client_for(eve).get(URL).headers["Location"].startswith(reverse("accounts:confirm_needed"))
