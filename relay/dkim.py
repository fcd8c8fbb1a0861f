"""DKIM signatures: made by Gatepost's own hand over cryptography's primitives, since the mail waits for them.

Shapes  sign(content, keys) -> the content with one DKIM-Signature in front for each key. Content is complete RFC 5322
        with CRLF line ends, as relay.content has it. asign() is the same for the delivery loop: large content goes to
        a thread.
Units   now: seconds since 1970. CHUNK: octets canonicalized at a time, so that other threads get their turn.
Errors  None for any content: what is no header field is not signed, and does no harm.
Source  RFC 6376 (3.4.2 and 3.4.4 relaxed, 3.7 what is hashed, 5.4 which fields), RFC 8463 (Ed25519), RFC 8301 (2048).

From and what a reader goes by is oversigned: named once more in h= than it stands in the mail, so that nobody can add a
second one to a signed mail (RFC 6376 8.15). What forwarders add by right (List-*, Resent-*) is signed where it stands
and may be added to. Trace fields, Bcc and other signatures are left out.
"""

import asyncio
import base64
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

# Oversigned whether they are there or not: a reader's program shows them, or answers by them.
ALWAYS: Final = (b"from", b"reply-to", b"subject", b"to", b"cc")
# Oversigned where they are there: a second one would change what the mail says or how its body is read.
IF_PRESENT: Final = (
    b"sender", b"date", b"message-id", b"in-reply-to", b"references",
    b"mime-version", b"content-type", b"content-transfer-encoding", b"content-disposition",
)  # fmt: skip
# Signed as they are: a list or a forwarder may add its own.
ONCE: Final = (
    b"list-unsubscribe", b"list-unsubscribe-post", b"list-id", b"list-help", b"list-owner", b"list-subscribe",
    b"list-post", b"list-archive", b"resent-from", b"resent-to", b"resent-cc", b"resent-date", b"resent-message-id",
    b"auto-submitted", b"feedback-id",
)  # fmt: skip
_WANTED: Final = frozenset((*ALWAYS, *IF_PRESENT, *ONCE))
INSTANCES_MAX: Final = 20  # of one field; hostile mail repeats it ten thousand times
CHUNK: Final = 256 * 1024
INLINE_OCTETS: Final = 128 * 1024  # above it a thread: canonicalizing takes a millisecond for each half megabyte

_FOLD = re.compile(rb"\r\n(?=[ \t])")
_WSP = re.compile(rb"[ \t]+")
_SPACES = re.compile(rb"  +")


@dataclass(frozen=True, slots=True)
class Key:
    """What signs for one domain. domain and selector are A-labels: they go into the header as they are."""

    domain: str
    selector: str
    private: PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> str:
        return "rsa-sha256" if isinstance(self.private, RSAPrivateKey) else "ed25519-sha256"


def sign(content: bytes, keys: Sequence[Key], *, now: int | None = None) -> bytes:
    if not keys:
        return content
    head, _end, body = content.partition(b"\r\n\r\n")
    names, fields = _chosen(head)
    hashed = base64.b64encode(body_hash(body)).decode()
    stamp = int(time.time()) if now is None else now
    signatures = [_signature(key, names, fields, hashed, stamp) for key in keys]
    return b"".join((*signatures, content))


async def asign(content: bytes, keys: Sequence[Key], *, now: int | None = None) -> bytes:
    if len(content) <= INLINE_OCTETS:
        return sign(content, keys, now=now)
    return await asyncio.to_thread(sign, content, keys, now=now)


# --- The header -------------------------------------------------------------------------------------------------------


def _chosen(head: bytes) -> tuple[str, bytes]:
    """h=, and the fields that it names, canonicalized, in the order in which a verifier will read them."""
    found: dict[bytes, list[bytes]] = {}
    for line in _FOLD.sub(b"", head).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t").lower()
        if colon and name in _WANTED:
            found.setdefault(name, []).append(name + b":" + _WSP.sub(b" ", value).strip(b" ") + b"\r\n")
    names: list[str] = []
    fields: list[bytes] = []
    for name in (*ALWAYS, *IF_PRESENT, *ONCE):
        all_of_it = found.get(name, [])
        here = all_of_it[: -INSTANCES_MAX - 1 : -1]  # the last one first (RFC 6376 5.4.2)
        fields += here
        once_more = name in ALWAYS or (name in IF_PRESENT and here)
        names += [name.decode()] * len(here)
        if once_more and len(here) == len(all_of_it):  # else one more name would mean one more of those
            names.append(name.decode())
    return _folded(names), b"".join(fields)


def _folded(names: Sequence[str]) -> str:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) > 70:
            lines.append("")
        lines[-1] += f"{name}:"
    return "\r\n\t".join(lines)[:-1]


def _signature(key: Key, names: str, fields: bytes, hashed: str, stamp: int) -> bytes:
    """Every fold is CRLF and one tab with no space before it, so that its relaxed form is one space."""
    unsigned = (
        f"DKIM-Signature: v=1; a={key.algorithm}; c=relaxed/relaxed; d={key.domain};\r\n\t"
        f"s={key.selector}; t={stamp};\r\n\th={names};\r\n\tbh={hashed};\r\n\tb="
    ).encode()
    canonical = unsigned.replace(b"\r\n\t", b" ").replace(b"DKIM-Signature: ", b"dkim-signature:", 1)
    text = base64.b64encode(_signed(key.private, fields + canonical))
    return unsigned + b"\r\n\t".join(text[at : at + 72] for at in range(0, len(text), 72)) + b"\r\n"


def _signed(private: PrivateKey, data: bytes) -> bytes:
    if isinstance(private, RSAPrivateKey):
        return private.sign(data, PKCS1v15(), SHA256())
    return private.sign(sha256(data).digest())  # RFC 8463 3: of the hash


# --- The body ---------------------------------------------------------------------------------------------------------


def body_hash(body: bytes) -> bytes:
    digest = sha256()
    for piece in _canonical(body):
        digest.update(piece)
    return digest.digest()


def _canonical(body: bytes) -> Iterator[bytes]:
    """RFC 6376 3.4.4, as the body will arrive: on its way it gets a line end where it has none."""
    end = len(body.rstrip(b" \t\r\n"))
    tail = _without_empty_lines(_relaxed(body[end:] + b"\r\n"))
    at = 0
    while at < end:
        cut = body.find(b"\r\n", at + CHUNK, end)
        cut = end if cut < 0 else cut + 2
        yield _relaxed(body[at:cut])
        at = cut
    if end or tail:
        yield tail + b"\r\n"


def _without_empty_lines(text: bytes) -> bytes:
    end = len(text)
    if text == b"\r\n" * (end // 2):
        return b""
    while text[end - 2 : end] == b"\r\n":
        end -= 2
    return text[:end]


def _relaxed(piece: bytes) -> bytes:
    """Runs of white space become one space, and none stays before a line end."""
    if b"\t" in piece:
        piece = piece.replace(b"\t", b" ")
    if b"  " in piece:
        piece = _SPACES.sub(b" ", piece)
    return piece.replace(b" \r\n", b"\r\n")
