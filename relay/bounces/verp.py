"""Return paths that say which mail came back: variable envelope return paths.

Shapes  local part: b-<reference>-<recipient>-<proof>, at most 43 octets, letters and digits in any case.
        recipient: the row's id in base 32, 0 where one transaction had several recipients. proof: 80 bits of
        HMAC-SHA-256 under a key made from GATEPOST_PEPPER; the first of its list makes, all of them verify.
Errors  read() gives None for whatever we did not make.
Source  RFC 5321 4.5.3.1.1 (64 octets), RFC 3834 (what must never be answered). docs/delivery.md, Return paths.

Who receives mail sees its return path, and can send to it. A token is therefore worth what it says of its own recipient
alone: one for several is read, but suppresses nobody (relay.bounces.late).
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from django.conf import settings

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's, as references are
_PURPOSE = b"gatepost return path 1"
_LOCAL = re.compile(r"b-([0-9a-z]{10})-([0-9a-z]{1,13})-([0-9a-z]{16})")
_PROOF_OCTETS = 10
_ID_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Token:
    """recipient_id: 0 where the transaction had several."""

    reference: str
    recipient_id: int


def return_path(reverse_path: str, *, reference: str, recipients: Sequence[int], own_domain: str = "") -> str:
    """What MAIL FROM says to a next hop. The null reverse-path stays null; without a bounce domain all stays as it is.

    own_domain: the organization's own verified name for it, which is an alias of the operator's.
    """
    domain = settings.GATEPOST_BOUNCE_DOMAIN
    if not reverse_path or not domain or not reference:
        return reverse_path
    return f"{local_part(reference, recipients[0] if len(recipients) == 1 else 0)}@{own_domain or domain}"


def local_part(reference: str, recipient_id: int) -> str:
    said = f"{reference.lower()}-{_digits(recipient_id)}"
    return f"b-{said}-{_proof(said, settings.GATEPOST_PEPPERS[0])}"


def read(local: str) -> Token | None:
    """The token of a local part, whatever happened to its case on the way."""
    match = _LOCAL.fullmatch(local.lower()) if len(local) <= 64 and local.isascii() else None
    if match is None:
        return None
    said = f"{match[1]}-{match[2]}"
    if not any(hmac.compare_digest(_proof(said, pepper), match[3]) for pepper in settings.GATEPOST_PEPPERS):
        return None
    recipient_id = _number(match[2])
    return Token(match[1].upper(), recipient_id) if 0 <= recipient_id <= _ID_MAX else None


def _proof(said: str, pepper: bytes) -> str:
    key = hmac.digest(pepper, _PURPOSE, sha256)
    return _digits(int.from_bytes(hmac.digest(key, said.encode(), sha256)[:_PROOF_OCTETS], "big")).rjust(16, "0")


def _digits(number: int) -> str:
    found = ""
    while number:
        number, digit = divmod(number, 32)
        found = ALPHABET[digit] + found
    return found or "0"


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        if (value := ALPHABET.find(digit)) < 0:
            return -1
        number = number * 32 + value
    return number
