"""DKIM keys of a sending domain: made in pairs, switched on when the DNS shows them, replaced with overlap.

Shapes  ensure_keys(): an RSA and an Ed25519 key, if there are none. rotate(): a new pair, which waits. seen(): what the
        check of the DNS tells; a waiting key signs at once where nothing signed before, else after SEEN_FOR in the DNS.
        The key before it is retired: its record stays published for OVERLAP, then it is erased.
Units   SEEN_FOR: between the first and the last check that found it, so that all servers of the zone have it. OVERLAP:
        mail that it signed is under way for five days at most, and a little longer elsewhere.
Errors  RotationRefused (a ValidationError). EncryptionKeyMissing where a key cannot be opened.
Source  RFC 6376 3.1 (selectors), 3.6.1 (records); RFC 8301 (2048 bit), RFC 8463. docs/delivery.md, Signing.

A private key leaves this module for relay.signing alone, which holds it in memory.
"""

import base64
import secrets
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.changes import SYSTEM, Actor, record_change
from relay.dkim import PrivateKey
from relay.models import DkimKey, SendingDomain
from relay.sealed import opened, opens, sealed

SEEN_FOR: Final = timedelta(minutes=15)
OVERLAP: Final = timedelta(days=7)
OLD: Final = timedelta(days=365)  # a key that has signed for longer should be replaced
SELECTOR_LETTERS: Final = "abcdefghjkmnpqrstvwxyz23456789"


class RotationRefused(ValidationError):
    """The keys cannot be replaced now, and why."""


def private_key(token: bytes) -> PrivateKey:
    """Of the sealed column. Raises EncryptionKeyMissing."""
    # It was made and sealed here: proving again that its primes are primes would take longer than many signatures.
    der = base64.b64decode(opened(token))
    found = load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(found, RSAPrivateKey | Ed25519PrivateKey)
    return found


@transaction.atomic
def ensure_keys(domain: SendingDomain) -> None:
    """Makes the first pair; which is no change that anybody made, so the change log has none."""
    row = _locked(domain)
    if not row.dkim_keys.exists():
        _make_pair(row)


@transaction.atomic
def rotate(domain: SendingDomain, *, actor: Actor) -> list[DkimKey]:
    """A new pair beside the one that signs. Raises RotationRefused while one waits already."""
    row = _locked(domain)
    if row.dkim_keys.filter(retired_at=None, active_at=None).exists():
        raise RotationRefused(_("New keys wait for their records already."), code="waiting")
    if row.dkim_keys.filter(erased_at=None, retired_at__isnull=False).count() >= 4:
        text = _("Keys of the last two rotations are not erased yet. Replace them again in a week.")
        raise RotationRefused(text, code="too_often")
    made = _make_pair(row)
    _changed(row, "domain.dkim_rotated", actor, [key.selector for key in made])
    return made


@transaction.atomic
def abandon(domain: SendingDomain, *, actor: Actor) -> None:
    """Takes back a rotation whose keys have not signed yet. Raises RotationRefused if there is none."""
    row = _locked(domain)
    waiting = row.dkim_keys.filter(retired_at=None, active_at=None)
    names = list(waiting.values_list("selector", flat=True))
    if not names or not row.dkim_keys.filter(active_at__isnull=False, retired_at=None).exists():
        raise RotationRefused(_("There are no new keys that could be taken back."), code="no_rotation")
    waiting.delete()
    _changed(row, "domain.dkim_abandoned", actor, names)


def seen(key: DkimKey, *, is_right: bool, now: datetime) -> None:
    """Within the transaction of a check, which holds the domain. is_right: the DNS has its record, as it should be."""
    if not is_right:
        if key.seen_at and not key.active_at:
            key.seen_at = None
            key.save(update_fields=["seen_at"])
        return
    if key.seen_at is None:
        key.seen_at = now
        key.save(update_fields=["seen_at"])
    if key.active_at is None and key.retired_at is None:
        _switch(key, now=now)


def _switch(key: DkimKey, *, now: datetime) -> None:
    before = DkimKey.objects.filter(domain=key.domain_id, algorithm=key.algorithm, retired_at=None)
    signing = before.exclude(active_at=None).first()
    if signing and (key.seen_at is None or now - key.seen_at < SEEN_FOR):
        return
    if signing:
        signing.retired_at = now
        signing.save(update_fields=["retired_at"])
    key.active_at = now
    key.save(update_fields=["active_at"])
    _changed(key.domain, "domain.dkim_signs", SYSTEM, [key.selector])


def is_awaited(domain: SendingDomain) -> bool:
    """A key of it could begin to sign as soon as a check finds it."""
    return domain.dkim_keys.filter(retired_at=None, active_at=None).exists()


def unreadable() -> int:
    """How many keys in use no encryption key at hand opens: the mail of their domains waits."""
    used = DkimKey.objects.filter(retired_at=None).values_list("sealed", flat=True)
    return sum(not opens(bytes(token)) for token in used.iterator())


def erase_retired(*, now: datetime | None = None) -> int:
    """Empties the private keys that have been retired for OVERLAP. How many."""
    now = now or timezone.now()
    ended = DkimKey.objects.filter(retired_at__lt=now - OVERLAP, erased_at=None)
    return ended.update(sealed=b"", erased_at=now)


# --- Making -----------------------------------------------------------------------------------------------------------


def _make_pair(domain: SendingDomain) -> list[DkimKey]:
    now = timezone.now()
    mark = "".join(secrets.choice(SELECTOR_LETTERS) for _each in range(5))
    return [
        _make(domain, f"gp{now:%y%m}{mark}-{letter}", algorithm)
        for letter, algorithm in (("r", DkimKey.Algorithm.RSA), ("e", DkimKey.Algorithm.ED25519))
    ]


def _make(domain: SendingDomain, selector: str, algorithm: DkimKey.Algorithm) -> DkimKey:
    private: PrivateKey
    if algorithm == DkimKey.Algorithm.RSA:
        private = generate_private_key(65537, 2048)
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return DkimKey.objects.create(
        domain=domain,
        selector=selector,
        algorithm=algorithm,
        sealed=sealed(base64.b64encode(der).decode()),
        public=base64.b64encode(public).decode(),
    )


def _locked(domain: SendingDomain) -> SendingDomain:
    return SendingDomain.objects.select_for_update(no_key=True).get(pk=domain.pk)


def _changed(domain: SendingDomain, action: str, actor: Actor, selectors: list[str]) -> None:
    record_change(
        action,
        organization_id=domain.organization_id,
        actor=actor,
        subject=domain.name,
        subject_id=str(domain.pk),
        values={"selectors": selectors},
    )
