"""SASL messages of every mechanism but SCRAM: decoded and encoded, and nothing else.

Shapes  decode(line) -> bytes; plain(message) -> Login; cram_md5(message, challenge) -> Login;
        oauthbearer(message), xoauth2(message) -> TokenLogin; gs2(message) -> Gs2, the head of SCRAM and OAUTHBEARER.
Errors  NotBase64 (501 5.5.2), Malformed (501 5.5.2), ChannelBinding (501 5.5.4). Fields that are there but empty make
        a login that is judged, and answered 535 at its time.
Source  RFC 4616 (PLAIN), draft-murchison-sasl-login-00 (LOGIN), RFC 4954 4 (encoding), RFC 2195 (CRAM-MD5),
        RFC 5801 4 (GS2), RFC 7628 3 (OAUTHBEARER), Google's description of XOAUTH2.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.credentials import Proof
from relay.proofs import CramDigest, Secret
from relay.smtp.saslprep import Prohibited, prepared

RESPONSE_OCTETS_MAX = 12_288  # RFC 4954 4.1: the line that must be taken
# PLAIN and LOGIN come first: old programs look for the word that follows AUTH, and newer ones choose by themselves.
MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2")
CRAM_MD5 = "CRAM-MD5"  # where the installation allows it, too
USERNAME_CHALLENGE = b"334 VXNlcm5hbWU6\r\n"  # "Username:", the spelling that clients wait for
PASSWORD_CHALLENGE = b"334 UGFzc3dvcmQ6\r\n"  # "Password:"
EMPTY_CHALLENGE = b"334 \r\n"
SCOPE = "smtp.send"
NAME_OCTETS_MAX = 256  # SMTP usernames are shorter; to prepare 9 KB of some scripts takes a sixth of a second
_NAME = re.compile(r"([^=,]|=2C|=3D)+")  # RFC 5801 4, saslname
_PAIR = re.compile(r"([A-Za-z]+)=(.*)", re.DOTALL)


class NotBase64(ValueError):
    pass


class Malformed(ValueError):
    pass


class ChannelBinding(ValueError):
    """The client insists on channel binding, which only a -PLUS mechanism could do."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a client says it is, and the proof. authzid: empty, or the identity that it wants to act as.

    No proof: what it sent proves nothing whoever it is; it is refused as a wrong one would be.
    """

    username: str
    proof: Proof | None = field(repr=False)
    authzid: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """An access token, and the SMTP user that it is shown for; empty: whichever it was issued for."""

    username: str
    token: str = field(repr=False)
    error: bytes = field(default=b"", repr=False)  # what the client is told of a failure before it is answered


class Gs2(NamedTuple):
    """The head of a message, its octets (for channel binding), and what follows it."""

    authzid: str
    header: bytes
    rest: bytes


def challenge(message: bytes) -> bytes:
    """The line that carries it."""
    return b"334 " + base64.b64encode(message) + b"\r\n"


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


def password(username: str, secret: str, authzid: str = "") -> Login:
    return Login(username, Secret(secret) if secret else None, authzid)


def plain(message: bytes) -> Login:
    """authzid NUL authcid NUL passwd; exactly two NULs."""
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise Malformed
    authzid, username, secret = (text(part) for part in parts)
    return password(username, secret, authzid)


def cram_md5(message: bytes, sent: bytes) -> Login:
    """username SP digest, where the digest is 32 lower-case hexadecimal digits over what was sent as challenge."""
    username, _, digest = message.rpartition(b" ")
    if not re.fullmatch(rb"[0-9a-f]{32}", digest):
        raise Malformed
    return Login(text(username), CramDigest(sent, digest))


def gs2(message: bytes) -> Gs2:
    """`n,` or `y,` (no channel binding: none is offered), `a=authzid` or nothing, a comma. Raises ChannelBinding."""
    flag, _, rest = message.partition(b",")
    if flag.startswith(b"p="):
        raise ChannelBinding
    authzid, comma, bare = rest.partition(b",")
    if flag not in {b"n", b"y"} or not comma or (authzid and not authzid.startswith(b"a=")):
        raise Malformed
    return Gs2(name(authzid[2:]) if authzid else "", message[: len(message) - len(bare)], bare)


def name(encoded: bytes) -> str:
    """A saslname, unescaped and prepared; one that nobody can have is only unescaped, and judged like any other."""
    given = text(encoded)
    if not _NAME.fullmatch(given):
        raise Malformed
    plain = given.replace("=2C", ",").replace("=3D", "=")
    if len(encoded) > NAME_OCTETS_MAX:
        return plain
    try:
        return prepared(plain)
    except Prohibited:
        raise Malformed from None


def oauthbearer(message: bytes, *, discovery: str) -> TokenLogin:
    """GS2 head, then key=value pairs, each ended by ^A, and one ^A more. host and port say nothing that we ask.

    discovery: where a client that has no good token learns how to get one (RFC 7628 3.2.2, RFC 8414).
    """
    head = gs2(message)
    pairs = _pairs(head.rest.removeprefix(b"\1"))
    token = _bearer(pairs.get("auth", ""))
    status = "invalid_token" if token else "invalid_request"
    error = {"status": status, "scope": SCOPE, "openid-configuration": discovery}
    return TokenLogin(head.authzid, token, json.dumps(error).encode())


def xoauth2(message: bytes) -> TokenLogin:
    """user=… ^A auth=Bearer … ^A ^A."""
    pairs = _pairs(message)
    if "user" not in pairs:
        raise Malformed
    error = {"status": "400", "schemes": "Bearer", "scope": SCOPE}
    return TokenLogin(pairs["user"], _bearer(pairs.get("auth", "")), json.dumps(error).encode())


def _pairs(message: bytes) -> dict[str, str]:
    if not message.endswith(b"\1"):
        raise Malformed
    found = [_PAIR.fullmatch(part) for part in text(message).split("\1") if part]
    pairs = {match[1].lower(): match[2] for match in found if match}
    if len(pairs) != len(found):  # one that is no pair, or the same key twice
        raise Malformed
    return pairs


def _bearer(value: str) -> str:
    """The token (RFC 6750 2.1); empty if there is none."""
    scheme, _, token = value.partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else ""
