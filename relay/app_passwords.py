"""App passwords as text: made, recognised, and turned into what is stored.

Shapes  app: "gp_" + 22 random base62 characters + 6 base62 characters of CRC-32 over the 25 before them.
        device: 16 characters of lower-case Crockford base32, shown in fours; spaces and dashes do not count.
Units   22 base62 characters are 131 bits; 16 base32 characters are 80 bits.
Errors  None: text that is no app password simply has a digest that nobody stored.
        A device password has SCRAM keys of both ways to type it: the client hashes it, so it cannot be read leniently.
Source  RFC 5802 section 3 (SaltedPassword, StoredKey, ServerKey); RFC 7677 (SHA-256, 4096 iterations at least).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings

from accounts import checksum

PREFIX = "gp_"
BASE62 = checksum.BASE62
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
APP_PATTERN = re.compile(r"gp_[0-9A-Za-z]{28}")
# Crockford's alphabet leaves out what people misread; what they type for it is read as meant.
_DEVICE_READING = str.maketrans({"o": "0", "i": "1", "l": "1", " ": None, "-": None})


@dataclass(frozen=True, slots=True)
class StoredForms:
    """What the database keeps of a secret. None of it gives the secret back."""

    hint: str
    digest: bytes
    scram_stored_key: bytes
    scram_server_key: bytes
    scram_keys_as_shown: bytes | None = None  # of a device password with its dashes: StoredKey, ServerKey


SCRAM_ITERATIONS = 4096  # of every name, known or not: another number would tell them apart


def scram_salt(username: str) -> bytes:
    """Made from the name alone, so that a name has its salt before there is an SMTP user, and whether there is or not.

    The key is the one that is never rotated: the salt of a name must stay.
    """
    return hmac.digest(settings.GATEPOST_AUDIT_KEY, b"scram salt\0" + username.encode(), "sha256")[:16]


def make_app_secret() -> str:
    return checksum.with_checksum(PREFIX + "".join(secrets.choice(BASE62) for _ in range(22)))


def make_device_secret() -> str:
    """In fours, as people read it off a screen and type it into a printer."""
    text = "".join(secrets.choice(CROCKFORD) for _ in range(16))
    return "-".join(text[start : start + 4] for start in range(0, 16, 4))


def checksum_holds(text: str) -> bool:
    """True if text is an app secret as Gatepost makes them: secret scanners need no look-up to know one."""
    return bool(APP_PATTERN.fullmatch(text)) and checksum.holds(text)


def digests(secret: str) -> list[bytes]:
    """HMAC-SHA-256 under every pepper in force, the current one first."""
    data = canonical(secret).encode("utf-8", "surrogatepass")
    return [hmac.digest(pepper, data, "sha256") for pepper in settings.GATEPOST_PEPPERS]


def stored_forms(secret: str, *, salt: bytes, iterations: int) -> StoredForms:
    text = canonical(secret)
    stored_key, server_key = scram_keys(text, salt=salt, iterations=iterations)
    as_shown = None if secret == text else b"".join(scram_keys(secret, salt=salt, iterations=iterations))
    return StoredForms(
        hint=f"{text[:7]}…" if text.startswith(PREFIX) else f"{text[:4]}-…",
        digest=digests(secret)[0],
        scram_stored_key=stored_key,
        scram_server_key=server_key,
        scram_keys_as_shown=as_shown,
    )


def scram_keys(text: str, *, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """StoredKey and ServerKey of SCRAM-SHA-256."""
    salted = hashlib.pbkdf2_hmac("sha256", text.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")


def canonical(secret: str) -> str:
    """An app secret as it is; anything else as a device secret is read: without case, spaces and dashes."""
    if secret.startswith(PREFIX):
        return secret
    return secret.lower().translate(_DEVICE_READING)


def match(secret: str, stored: Iterable[bytes]) -> bytes | None:
    """The stored digest that this secret has, or None."""
    known = set(stored)
    return next((digest for digest in digests(secret) if digest in known), None)
