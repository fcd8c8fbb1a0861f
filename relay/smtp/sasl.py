"""SASL messages of PLAIN and LOGIN: decoded, and nothing else.

Shapes  plain(message) -> Login; decode(line) -> bytes.
Errors  NotBase64 (501 5.5.2), Malformed (501 5.5.2, or 535 where the fields are there but empty).
Source  RFC 4616 (PLAIN), draft-murchison-sasl-login-00 (LOGIN), RFC 4954 4 (encoding).
"""

import base64
import binascii
from dataclasses import dataclass, field

RESPONSE_OCTETS_MAX = 12_288  # RFC 4954 4.1: the line that must be taken
MECHANISMS = ("PLAIN", "LOGIN")
USERNAME_CHALLENGE = b"334 VXNlcm5hbWU6\r\n"  # "Username:", the spelling that clients wait for
PASSWORD_CHALLENGE = b"334 UGFzc3dvcmQ6\r\n"  # "Password:"
EMPTY_CHALLENGE = b"334 \r\n"


class NotBase64(ValueError):
    pass


class Malformed(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Login:
    """What a client says it is. authzid: empty, or the identity that it wants to act as."""

    username: str
    secret: str = field(repr=False)
    authzid: str = ""


def decode(line: bytes) -> bytes:
    try:
        found = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise NotBase64 from None
    if len(line) != (len(found) + 2) // 3 * 4:  # some versions of Python let padding stand where none belongs
        raise NotBase64
    return found


def text(message: bytes) -> str:
    try:
        return message.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed from None


def plain(message: bytes) -> Login:
    """authzid NUL authcid NUL passwd; exactly two NULs."""
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise Malformed
    authzid, username, secret = (text(part) for part in parts)
    return Login(username, secret, authzid)
