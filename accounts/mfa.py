"""The second factor: an authenticator app (TOTP) and recovery codes, kept by django-otp.

Shapes  One confirmed TOTPDevice a user is "enrolled"; recovery codes alone are not. An unconfirmed one is being set up.
        A recovery code is 10 Crockford base32 characters (50 bits), shown once; StaticToken holds 80 bits of its HMAC.
Units   A TOTP code lives 30 s, one step either way is accepted, none twice.
Errors  CodeRefused: wrong. CodeThrottled(seconds): too many wrong ones; the wait doubles with each (django-otp).
Source  RFC 6238; django-otp.
"""

import hashlib
import hmac
import secrets
from base64 import b32encode
from typing import Final

import segno
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import User
from accounts.own_changes import record_own_change
from audit.changes import Actor

RECOVERY_CODES: Final = 10
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_READ_AS: Final = str.maketrans("ilo", "110", " -")  # Crockford: what people misread


class CodeRefused(Exception):
    """The code is wrong, or was used before."""

    def __str__(self) -> str:
        return str(_("This code is not right. Codes change every 30 seconds, and each works once."))


class CodeThrottled(CodeRefused):
    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds

    def __str__(self) -> str:
        return ngettext(
            "Too many wrong codes. Wait %(seconds)d second, then try again.",
            "Too many wrong codes. Wait %(seconds)d seconds, then try again.",
            self.seconds,
        ) % {"seconds": self.seconds}


def is_enrolled(user: User) -> bool:
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def device_being_set_up(user: User) -> TOTPDevice:
    """The same secret until it is confirmed, so that reloading the page does not spoil a scanned code."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        device = TOTPDevice.objects.filter(user=user, confirmed=False).first()
        return device or TOTPDevice.objects.create(user=user, name="Authenticator", confirmed=False)


def secret_of(device: TOTPDevice) -> str:
    """To type where scanning is impossible: base32 in fours."""
    plain = b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(plain[start : start + 4] for start in range(0, len(plain), 4))


def qr_of(device: TOTPDevice) -> str:
    """A data: URI for <img>, the one image source the content policy allows beside our own files."""
    code = segno.make(device.config_url, error="m", micro=False)
    return str(code.svg_data_uri(scale=5, border=4, dark="#000", light="#fff"))


def confirm(user: User, code: str, *, actor: Actor) -> TOTPDevice:
    """The device being set up becomes the user's only one."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=False).first()
        refusal = CodeRefused() if device is None else _refusal(device, _digits(code))
        if refusal is None:
            assert device is not None
            TOTPDevice.objects.filter(user=user).exclude(pk=device.pk).delete()
            device.confirmed = True
            device.save(update_fields=["confirmed"])
            record_own_change("second_factor.enrolled", user=user, actor=actor)
            return device
    raise refusal  # outside: the count of wrong codes must be committed


def verify(user: User, code: str) -> Device:
    """By authenticator code (six digits) or recovery code (anything else); a recovery code is used up."""
    with transaction.atomic():
        digits = _digits(code)
        if len(digits) == 6 and digits.isascii() and digits.isdigit():
            device, token = _locked(TOTPDevice, user), digits
        else:
            device = _locked(StaticDevice, user)
            token = _stored_form(device, code) if device else ""
        refusal = CodeRefused() if device is None else _refusal(device, token)
        if refusal is None:
            if isinstance(device, StaticDevice):
                record_own_change("recovery_code.used", user=user, actor=Actor(name=user.email, id=user.pk))
            return device
    raise refusal


def disable(user: User, *, actor: Actor) -> None:
    """Authenticator and recovery codes go together. Callers ask first whether the user may (accounts.duties)."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        TOTPDevice.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()
        record_own_change("second_factor.removed", user=user, actor=actor)


def new_recovery_codes(user: User, *, actor: Actor) -> list[str]:
    """Ten new ones; the old ones end. This return is the only place where they can be read."""
    codes = ["".join(secrets.choice(_ALPHABET) for _digit in range(10)) for _code in range(RECOVERY_CODES)]
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        device, _made = StaticDevice.objects.get_or_create(user=user, defaults={"name": "Recovery codes"})
        device.token_set.all().delete()
        StaticToken.objects.bulk_create(
            StaticToken(device=device, token=_digest(code, settings.GATEPOST_PEPPERS[0])) for code in codes
        )
        record_own_change("recovery_codes.made", user=user, actor=actor)
    return [f"{code[:5]}-{code[5:]}" for code in codes]


def recovery_codes_left(user: User) -> int:
    return int(StaticToken.objects.filter(device__user=user, device__confirmed=True).count())


def _locked(model: type[Device], user: User) -> Device | None:
    """Locked, so that one code sent twice at once is accepted once."""
    return model.objects.select_for_update().filter(user=user, confirmed=True).first()


def _refusal(device: Device, token: str) -> CodeRefused | None:
    allowed, why = device.verify_is_allowed()
    if not allowed:
        until = (why or {}).get("locked_until")
        seconds = int((until - timezone.now()).total_seconds()) + 1 if until else 60
        return CodeThrottled(max(seconds, 1))
    return None if device.verify_token(token) else CodeRefused()


def _digits(code: str) -> str:
    return "".join(code.split())


def _stored_form(device: StaticDevice, code: str) -> str:
    """Under whichever pepper the code was stored; an unknown code looks like one that is not there."""
    plain = code.strip().lower().translate(_READ_AS)
    forms = [_digest(plain, pepper) for pepper in settings.GATEPOST_PEPPERS]
    found = device.token_set.filter(token__in=forms).first()
    return found.token if found else forms[0]


def _digest(code: str, pepper: bytes) -> str:
    """16 characters are what StaticToken holds: 80 bits of the HMAC."""
    mac = hmac.new(pepper, b"recovery-code:" + code.encode(), hashlib.sha256).digest()
    return b32encode(mac[:10]).decode().lower()
