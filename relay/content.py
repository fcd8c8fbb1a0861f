"""A message's content: read as stored, and taken apart for people to look at.

Shapes  Stored is complete RFC 5322, CRLF line ends, trace header first, no dot-stuffing. Shown: what a page can show,
        never more than the limits below, whatever the sender wrote.
Units   size_octets of an attachment: decoded. READ_OCTETS: how much of a message is looked at for showing.
Errors  ContentGoneError: the content has passed its retention, or never was. Taking apart raises nothing.
Source  RFC 5322, RFC 2045 to 2047.
"""

from __future__ import annotations  # Message is generic for mypy only, not at run time

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message as Part
from email.policy import EmailPolicy
from typing import Any
from uuid import UUID

from audit.record import printable
from relay.connections import Connection
from relay.models import MessageData

READ_OCTETS = 12 * 1024 * 1024  # a megabyte takes the parser some 30 ms
HEADER_OCTETS = 8 * 1024
STRUCTURED_OCTETS = 2 * 1024  # of Content-Type and the like: their parser's time grows with the square
HEADERS, PARTS, DEPTH = 200, 100, 30
TEXT_CHARACTERS = 512 * 1024
ATTACHMENT_OCTETS = 64 * 1024 * 1024
BOUNDARY_LINES = 4_000_000
DELIMITERS = 4_000  # lines that may begin a part; each part costs the parser a tenth of a millisecond
FIELDS = 20_000  # header fields of all parts together

_BOUNDARY = re.compile(rb"boundary[ \t]*=", re.IGNORECASE)


class ContentGoneError(Exception):
    """There is no content for this message (any more)."""


def load(message_id: UUID) -> bytes:
    """The content as it was, or will be, relayed."""
    content = MessageData.objects.filter(message_id=message_id).values_list("content", flat=True).first()
    if content is None:
        raise ContentGoneError(str(message_id))
    return bytes(content)


async def aload(connection: Connection, message_id: UUID) -> bytes:
    """The same for the delivery loop."""
    cursor = connection.cursor(binary=True)
    await cursor.execute("SELECT content FROM relay_messagedata WHERE message_id = %s", [message_id])
    row = await cursor.fetchone()
    if row is None:
        raise ContentGoneError(str(message_id))
    return bytes(row[0])


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is not shown as text. number: its place among all parts, for attachment_of()."""

    number: int
    name: str
    content_type: str
    size_octets: int


@dataclass(frozen=True, slots=True)
class Shown:
    """headers: decoded, in their order. html: each HTML part as the sender wrote it, for a sandboxed frame only."""

    headers: tuple[tuple[str, str], ...]
    text: str
    html: tuple[str, ...]
    attachments: tuple[Attachment, ...]
    is_cut: bool  # something was left out because of its size


class _Bounded(EmailPolicy):
    """Cuts header values before anything looks into them: parsers of structured headers take their time.

    One for each message: it counts its header fields, and refuses what is made of them alone.
    """

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        seen = self.__dict__["seen"] = self.__dict__.get("seen", 0) + 1  # a policy takes no attributes otherwise
        if seen > FIELDS:
            raise ValueError("too many header fields")
        name, value = super().header_source_parse(sourcelines)
        return name, value[:STRUCTURED_OCTETS]


def parse(content: bytes) -> Shown:
    """Takes content apart; where that fails, the raw text is shown instead."""
    read = _affordable(content)
    cut = len(read) < len(content)
    head, _end, body = read.partition(b"\r\n\r\n")
    headers = tuple(_headers(head))
    try:
        parts = _parts(read)
    except Exception:  # the email package has raised almost everything on some input
        raw = body.decode("utf-8", "replace")
        return Shown(headers, raw[:TEXT_CHARACTERS], (), (), cut or len(raw) > TEXT_CHARACTERS)
    texts = [_text(part) for _number, part in parts if _shows_as(part, "text/plain")]
    html = [_text(part) for _number, part in parts if _shows_as(part, "text/html")]
    text = "\n\n".join(texts)
    cut = cut or len(text) > TEXT_CHARACTERS or any(len(page) > TEXT_CHARACTERS for page in html)
    return Shown(
        headers,
        text[:TEXT_CHARACTERS],
        tuple(page[:TEXT_CHARACTERS] for page in html),
        tuple(_described(number, part) for number, part in parts if _is_attachment(part)),
        cut or len(parts) >= PARTS,
    )


def images_of(content: bytes) -> dict[str, tuple[str, bytes]]:
    """Parts that the mail's HTML may name by their Content-ID: type and octets. The last of several has the name."""
    try:
        parts = _parts(_affordable(content))
    except Exception:
        return {}
    named = ((_content_id(part), part) for _number, part in parts if _type(part).startswith("image/"))
    return {name: (_type(part), _payload(part)) for name, part in named if name}


def _content_id(part: Part[Any, Any]) -> str:
    try:
        return str(part.get("Content-ID", "")).strip().strip("<>")
    except Exception:
        return ""


def attachment_of(content: bytes, number: int) -> tuple[Attachment, bytes] | None:
    try:
        parts = dict(_parts(_affordable(content, octets=ATTACHMENT_OCTETS)))
    except Exception:
        return None
    part = parts.get(number)
    return (_described(number, part), _payload(part)) if part is not None and _is_attachment(part) else None


def _affordable(content: bytes, *, octets: int = READ_OCTETS) -> bytes:
    """As much of it as the parser gets through in a second or two: it asks each open boundary at each line."""
    read = content[:octets]
    end = 0
    for _delimiter in range(DELIMITERS):
        if (end := read.find(b"\n--", end + 1)) < 0:
            break
    read = read[:end] if end > 0 else read
    while read.count(b"\n") * max(1, len(_BOUNDARY.findall(read))) > BOUNDARY_LINES:
        read = read[: len(read) // 2]
    return read


def _headers(head: bytes) -> Iterator[tuple[str, str]]:
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", head[: HEADERS * HEADER_OCTETS])
    for line in unfolded.split(b"\r\n")[:HEADERS]:
        name, colon, value = line[:HEADER_OCTETS].partition(b":")
        if colon:
            yield printable(name, 100), _decoded(value.strip().decode("utf-8", "replace"))


def _decoded(value: str) -> str:
    """RFC 2047 words as characters. Line ends and controls that were hidden in them come out escaped."""
    try:
        value = str(make_header(decode_header(value))) if "=?" in value else value
    except Exception:  # unknown charset, broken base64: the words as they stand
        return printable(value, HEADER_OCTETS)
    return printable(value, HEADER_OCTETS)


def _parts(read: bytes) -> list[tuple[int, Part[Any, Any]]]:
    """Raises what the email package raises on some input, which is almost everything."""
    return list(_leaves(message_from_bytes(read, policy=_Bounded())))


def _leaves(whole: Part[Any, Any]) -> Iterator[tuple[int, Part[Any, Any]]]:
    """Parts without parts, numbered in their order, without recursion into whatever depth was sent."""
    waiting = [(whole, 0)]
    number = 0
    while waiting and number < PARTS:
        part, depth = waiting.pop()
        payload = part.get_payload()
        if isinstance(payload, list) and depth < DEPTH:
            waiting.extend((child, depth + 1) for child in reversed(payload) if isinstance(child, Part))
        elif not isinstance(payload, list):
            number += 1
            yield number, part


def _shows_as(part: Part[Any, Any], content_type: str) -> bool:
    return _type(part) == content_type and not _is_attachment(part)


def _is_attachment(part: Part[Any, Any]) -> bool:
    try:
        disposition = part.get_content_disposition()
    except Exception:
        disposition = None
    return disposition == "attachment" or _type(part) not in {"text/plain", "text/html"}


def _type(part: Part[Any, Any]) -> str:
    try:
        return printable(part.get_content_type(), 100)
    except Exception:
        return "application/octet-stream"


def _described(number: int, part: Part[Any, Any]) -> Attachment:
    try:
        name = printable(part.get_filename() or "", 200)
    except Exception:
        name = ""
    return Attachment(number, name, _type(part), len(_payload(part)))


def _payload(part: Part[Any, Any]) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except Exception:
        return b""
    return payload if isinstance(payload, bytes) else b""


def _text(part: Part[Any, Any]) -> str:
    try:
        charset = str(part.get_content_charset("utf-8"))
        return _payload(part).decode(charset, "replace")
    except Exception:  # a charset that Python does not know, or that is none
        return _payload(part).decode("utf-8", "replace")
