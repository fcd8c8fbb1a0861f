"""Recovery codes: made, kept, used."""

import re
import threading
from typing import Any

import pytest
from django.db import connection
from django.urls import reverse
from django_otp.plugins.otp_static.models import StaticToken

from accounts import mfa
from accounts.models import User
from audit.changes import SYSTEM

URL = "/account/security/recovery-codes/"


def shown_in(page: str) -> list[str]:
    return re.findall(r"\b[0-9a-hjkmnp-tv-z]{5}-[0-9a-hjkmnp-tv-z]{5}\b", page)


def test_new_ones_are_shown_once_and_end_the_old(carol: User, client_for: Any) -> None:
    """POST shows ten; GET shows how many, never which."""
    old = mfa.new_recovery_codes(carol, actor=SYSTEM)
    client = client_for(carol)
    made = client.post(URL)
    codes = shown_in(made.content.decode())
    assert len(set(codes)) == 10
    assert "no-store" in made.headers["Cache-Control"]
    page = client.get(URL).content.decode()
    assert "10 recovery codes are left" in page
    assert not shown_in(page)
    with pytest.raises(mfa.CodeRefused):
        mfa.verify(carol, old[0])


def test_the_database_does_not_hold_them(carol: User) -> None:
    """Who reads the table cannot sign in with it."""
    codes = mfa.new_recovery_codes(carol, actor=SYSTEM)
    stored = set(StaticToken.objects.values_list("token", flat=True))
    assert not stored & (set(codes) | {c.replace("-", "") for c in codes})
    with pytest.raises(mfa.CodeRefused):
        mfa.verify(carol, stored.pop())


def test_what_people_misread_is_understood(carol: User) -> None:
    """O is 0, I and L are 1, case and dashes do not matter."""
    mfa.new_recovery_codes(carol, actor=SYSTEM)
    device = carol.staticdevice_set.get()
    device.token_set.create(token=mfa._digest("01abc01xyz", mfa.settings.GATEPOST_PEPPERS[0]))
    assert mfa.verify(carol, "OlABC-0ixyz") == device


def test_codes_survive_a_new_pepper(carol: User, settings: Any) -> None:
    """Rotation lists the old pepper behind the new one."""
    codes = mfa.new_recovery_codes(carol, actor=SYSTEM)
    settings.GATEPOST_PEPPERS = [b"new", *settings.GATEPOST_PEPPERS]
    assert mfa.verify(carol, codes[0])
    settings.GATEPOST_PEPPERS = [b"new"]
    with pytest.raises(mfa.CodeRefused):
        mfa.verify(carol, codes[1])


@pytest.mark.django_db(transaction=True)
def test_one_code_sent_twice_at_once_is_accepted_once(carol: User) -> None:
    """The device's row is locked while a code is looked at."""
    code = mfa.new_recovery_codes(carol, actor=SYSTEM)[0]
    start, accepted = threading.Barrier(4), []

    def attempt() -> None:
        try:
            start.wait(10)
            mfa.verify(carol, code)
            accepted.append(True)
        except mfa.CodeRefused:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert accepted == [True]


def test_making_them_needs_recent_identity_and_an_authenticator(alice: User, carol: User, client_for: Any) -> None:
    """Without an authenticator the page leads to its set-up."""
    stale = client_for(carol, recent=False).post(URL)
    assert stale.headers["Location"].startswith(reverse("accounts:confirm_identity"))
    assert mfa.recovery_codes_left(carol) == 0
    assert client_for(alice).post(URL).headers["Location"] == reverse("accounts:totp_enrol")
