"""The content of a message at the door: checked, completed, and given its trace.

Shapes  unstuff(raw) -> content; inspect(content) -> Headers; complete(content, headers, ...) -> content as relayed.
Units   octets; line ends are CRLF throughout.
Errors  ContentRefused, with the reply that the session sends.
Source  RFC 5321 4.5.2 (transparency), 4.4 (trace), 6.3 (loops); RFC 5322 3.6 (one From); RFC 6409 8 (Date, Message-ID).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.header import decode_header, make_header
from email.utils import format_datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from audit.record import printable
from relay.smtp import replies
from relay.smtp.replies import Reply

LINE_OCTETS_MAX = 64 * 1024
RECEIVED_MAX = 50
HEADER_OCTETS_MAX = 256 * 1024  # more is no header any more, but an attack on whoever parses it

FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)(?:\r\n|\Z)", re.MULTILINE)

# An address alone, or behind a display name without anything that needs a grammar: nearly every From there is.
# No two neighbours match the same character, so that no text makes it slow.
HIDDEN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff"  # shown by nobody, or turning round what stands beside it
PLAIN = rf'[^\s<>@",;:()\\\[\]{HIDDEN}]+'
SIMPLE_FROM = re.compile(rf'(?:"[^"\\]*"\s*|[^"\\<>@,;:()]*)<({PLAIN}@{PLAIN})>|({PLAIN}@{PLAIN})')
PARSED_OCTETS_MAX = 998  # the email package's parser needs a time that grows with the square of the length
SUBJECT_OCTETS_MAX = 4096  # of which 255 characters are kept
BLIND = frozenset({b"bcc", b"resent-bcc"})


class ContentRefused(Exception):
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Headers:
    """What the door reads of a header section."""

    header_from: str
    message_id: str
    subject: str
    has_date: bool
    has_message_id: bool
    has_bcc: bool


def unstuff(raw: bytes) -> bytes:
    """Takes the transparency dots out: the first dot of every line that begins with one (RFC 5321 4.5.2)."""
    if raw.startswith(b"."):
        raw = raw[1:]
    return raw.replace(b"\r\n.", b"\r\n")


def has_bare_line_ends(content: bytes) -> bool:
    """A CR or LF that is not half of a CRLF, or a NUL: what lets one message be read as two (smuggling)."""
    pairs = content.count(b"\r\n")
    return content.count(b"\r") != pairs or content.count(b"\n") != pairs or b"\0" in content


def inspect(content: bytes, *, long_lines: str) -> Headers:
    """Refuses what may not be relayed, and reads what is needed of the rest."""
    if has_bare_line_ends(content):
        raise ContentRefused(replies.BARE_LINE_END)
    _check_lines(content, LINE_OCTETS_MAX if long_lines == "accept" else 998)
    fields = _fields(content)
    if sum(name == b"received" for name, _value in fields) >= RECEIVED_MAX:
        raise ContentRefused(replies.MAIL_LOOP)
    values = dict(reversed(fields))  # the first of each name
    return Headers(
        header_from=_the_from(fields),
        message_id=printable(values.get(b"message-id", b"").strip(), 255),
        subject=printable(_decoded(values.get(b"subject", b"")), 255),
        has_date=b"date" in values,
        has_message_id=b"message-id" in values,
        has_bcc=not BLIND.isdisjoint(values),
    )


def _check_lines(content: bytes, most: int) -> None:
    """In steps from one line end to the last within reach: lists of all lines would need gigabytes for short ones."""
    start = 0
    while len(content) - start > most:
        end = content.rfind(b"\r\n", start, start + most + 2)
        if end < 0:
            raise ContentRefused(replies.LONG_LINE.filled(most=most))
        start = end + 2


def header_end(content: bytes) -> int:
    """Where the header section ends: behind the CRLF of its last field."""
    if content.startswith(b"\r\n"):
        return 0
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end + 2


def _fields(content: bytes) -> list[tuple[bytes, bytes]]:
    """(name in lower case, raw value) of each field, in order."""
    end = header_end(content)
    if end > HEADER_OCTETS_MAX:
        raise ContentRefused(replies.BAD_HEADER.filled(why=f"The header has more than {HEADER_OCTETS_MAX} octets"))
    return [(match[1].lower(), match[2]) for match in FIELD.finditer(content, 0, end)]


def _the_from(fields: list[tuple[bytes, bytes]]) -> str:
    """The address of the one From header (RFC 5322 3.6.2); more than one lets a reader see another than was checked."""
    found = [value for name, value in fields if name == b"from"]
    if len(found) != 1:
        raise ContentRefused(replies.ONE_FROM)
    text = found[0].decode("utf-8", "replace").replace("\r\n", "").strip()
    if match := SIMPLE_FROM.fullmatch(text):
        return match[1] or match[2]
    return _parsed_from(text)


def _parsed_from(text: str) -> str:
    """By the email package's parser, which is slow and knows comments, groups and quoted local parts."""
    if len(text) > PARSED_OCTETS_MAX:
        raise ContentRefused(replies.ONE_FROM)
    try:
        header: Any = policy.SMTPUTF8.header_factory("From", text)
        addresses, groups = header.addresses, header.groups
    except Exception:  # its parser raises what it likes on hostile text
        raise ContentRefused(replies.ONE_FROM) from None
    # A defect is a text that readers disagree on: one may show another address than was checked.
    if header.defects or len(addresses) != 1 or len(groups) != 1 or groups[0].display_name or not addresses[0].domain:
        raise ContentRefused(replies.ONE_FROM)
    address = str(addresses[0].addr_spec)
    if re.search(f"[{HIDDEN}]", address):
        raise ContentRefused(replies.ONE_FROM)
    return address


def _decoded(value: bytes) -> str:
    text = value[:SUBJECT_OCTETS_MAX].decode("utf-8", "replace").replace("\r\n", "").strip()
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except Exception:  # a made-up charset or broken base64: shown as it came
        return text


def without_bcc(content: bytes) -> bytes:
    """RFC 5322 3.6.3: blind copies stay blind."""
    end = header_end(content)
    header = FIELD.sub(lambda field: b"" if field[1].lower() in BLIND else field[0], content[:end])
    return header + content[end:]


def complete(content: bytes, headers: Headers, *, received: bytes, id: UUID, hostname: str, now: datetime) -> bytes:
    """The content as it will be relayed: trace in front, Date and Message-ID if missing, Bcc gone (RFC 6409 8)."""
    added = received
    if not headers.has_date:
        added += f"Date: {date_of(int(now.timestamp()))}\r\n".encode()
    if not headers.has_message_id:
        added += f"Message-ID: <{id}@{hostname}>\r\n".encode()
    if headers.has_bcc:
        content = without_bcc(content)
    return added + content


@lru_cache(maxsize=4)
def date_of(second: int) -> str:
    """RFC 5322 3.3, in UTC; thousands of messages share a second."""
    return format_datetime(datetime.fromtimestamp(second, UTC))


def received_header(
    *, client_name: str, client_ip: str, hostname: str, reference: str, tls: str, utf8: bool, now: datetime
) -> bytes:
    """The trace (RFC 5321 4.4, RFC 3848). The username stays inside: it would tell the world half of a credential."""
    literal = f"IPv6:{client_ip}" if ":" in client_ip else client_ip
    protocol = "UTF8SMTPSA" if utf8 else "ESMTPSA"
    lines = (
        f"Received: from {client_name} ([{literal}])\r\n\tby {hostname} (Gatepost) with {protocol} id {reference}\r\n"
        f"\t({tls});\r\n\t{date_of(int(now.timestamp()))}\r\n"
    )
    return lines.encode("ascii", "replace")
