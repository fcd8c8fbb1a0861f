"""What came to a return path, read: reports of RFC 3464, and the common ones in free text.

Shapes  read(content, is_null_sender) -> Reported, one for each recipient that is spoken of; empty: it is no report
        (an automatic answer, a mail by a person), and nothing is done about it.
Units   READ_OCTETS: what is looked at; a report stands in front of the copy that it brings.
Errors  None, whatever it is: all that is not understood is left out. Time is linear in READ_OCTETS.
Source  RFC 3464 2, RFC 6533 3 (utf-8 addresses), RFC 3834 (automatic answers). Free text: qmail's QSBMF, and the words
        of Exim, Sendmail, Postfix, Exchange and Gmail.
"""

import base64
import binascii
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from audit.record import printable

READ_OCTETS: Final = 256 * 1024
TEXT_OCTETS: Final = 32 * 1024
HEADER_OCTETS: Final = 64 * 1024
PARTS: Final = 20
RECIPIENTS: Final = 100
ACTIONS: Final = frozenset({"failed", "delayed", "delivered", "relayed", "expanded"})

Fields = dict[str, str]

# Ports, years and sizes are no reply codes: 2xx, 4xx and 5xx as RFC 5321 and its registry have them.
_REPLY = r"(?<![\d.])((?:2[0-5]|4[0-57]|5[0-57])\d)"
_ENHANCED = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.])")
_BOTH_CODES = re.compile(_REPLY + r"(?:[ -]+#?|[ -]*\(?#)[245]\.\d{1,3}\.\d{1,3}(?![\d.])")
_CODE = re.compile(_REPLY + r"(?=[ -])(?![ -]*(?:seconds|minutes|hours|days|bytes|octets|messages))")


@dataclass(frozen=True, slots=True)
class Reported:
    """One recipient, in the reporter's words. action: of RFC 3464 2.3.3. recipients: the addresses it may be about."""

    action: str
    recipients: tuple[str, ...] = ()
    code: int | None = None
    enhanced: str = ""
    text: str = ""
    reporter: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    fields: Fields
    body: bytes

    @property
    def content_type(self) -> str:
        return self.fields.get("content-type", "text/plain").partition(";")[0].strip().lower()

    def decoded(self) -> bytes:
        encoding = self.fields.get("content-transfer-encoding", "").strip().lower()
        body = self.body[:TEXT_OCTETS]
        if encoding == "quoted-printable":
            return quopri.decodestring(body)
        if encoding == "base64":
            letters = re.sub(rb"[^A-Za-z0-9+/]", b"", body)
            try:
                return base64.b64decode(letters[: len(letters) // 4 * 4])
            except binascii.Error:
                return b""
        return body

    def text(self) -> str:
        found = re.search(r"charset\s*=\s*\"?([\w.-]{1,40})", self.fields.get("content-type", ""), re.IGNORECASE)
        try:
            return self.decoded().decode(found[1] if found else "utf-8", "replace")
        except (LookupError, ValueError):  # a charset that Python does not know, or that is none for text
            return self.decoded().decode("utf-8", "replace")


def read(content: bytes, *, is_null_sender: bool) -> list[Reported]:
    """The report that a mail is, recipient by recipient."""
    whole = _part(content[:READ_OCTETS].replace(b"\r\n", b"\n"))
    parts = list(_parts(whole))
    for part in parts:
        if part.content_type in {"message/delivery-status", "message/global-delivery-status"}:
            return _delivery_status(part, parts)
    if not _speaks_as_server(whole, is_null_sender):
        return []
    texts = [part.text() for part in parts if part.content_type == "text/plain"]
    texts = texts or [_without_markup(part.text()) for part in parts if part.content_type == "text/html"]
    return _free_text("\n".join(texts), whole.fields)


# --- Taking apart ----------------------------------------------------------------------------------------------------


def _part(octets: bytes) -> _Part:
    head, _empty, body = (b"", b"", octets[1:]) if octets.startswith(b"\n") else octets.partition(b"\n\n")
    return _Part(_fields(head[:HEADER_OCTETS].decode("utf-8", "replace")), body)


def _fields(head: str) -> Fields:
    """The first of each name counts; folded lines are joined (RFC 5322 2.2.3)."""
    found: Fields = {}
    for line in re.sub(r"\n[ \t]+", " ", head).split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def _parts(whole: _Part) -> Iterator[_Part]:
    """The parts of the outermost multipart alone: what a copy of somebody's mail holds is no report."""
    boundary = re.search(r'boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', whole.fields.get("content-type", ""))
    if not whole.content_type.startswith("multipart/") or boundary is None:
        yield whole
        return
    delimiter = b"\n--" + (boundary[1] or boundary[2]).encode()
    for chunk in islice((b"\n" + whole.body).split(delimiter, PARTS + 1), 1, PARTS + 1):
        if chunk.startswith(b"--"):
            return
        inner = _part(chunk.partition(b"\n")[2])
        if inner.content_type in {"multipart/alternative", "multipart/related", "multipart/mixed"} and (
            inner.content_type != whole.content_type or delimiter not in inner.body
        ):
            yield from _texts_within(inner)
        else:
            yield inner


def _texts_within(part: _Part) -> Iterator[_Part]:
    """One level: big providers put the words for people into alternatives."""
    boundary = re.search(r'boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', part.fields.get("content-type", ""))
    if boundary is None:
        return
    delimiter = b"\n--" + (boundary[1] or boundary[2]).encode()
    for chunk in islice((b"\n" + part.body).split(delimiter, PARTS + 1), 1, PARTS + 1):
        inner = _part(chunk.partition(b"\n")[2])
        if inner.content_type.startswith("text/"):
            yield inner


# --- RFC 3464 --------------------------------------------------------------------------------------------------------


def _delivery_status(part: _Part, parts: list[_Part]) -> list[Reported]:
    groups = [_fields(group) for group in re.split(r"\n(?:[ \t]*\n)+", part.decoded().decode("utf-8", "replace"))]
    groups = [group for group in groups if group]
    reporter = next((_value(group["reporting-mta"]) for group in groups if "reporting-mta" in group), "")
    told = [_recipient(group, reporter) for group in groups if "action" in group]
    found = [each for each in told[:RECIPIENTS] if each is not None]
    if found and not any(each.text for each in found):  # some say the reason in the words for people alone
        words = _free_text("\n".join(each.text() for each in parts if each.content_type == "text/plain"), {})
        text = words[0].text if words else ""
        found = [replace(each, text=text) for each in found]
    return found


def _recipient(group: Fields, reporter: str) -> Reported | None:
    action = re.match(r"[a-z]*", group["action"].lower())
    if action is None or action[0] not in ACTIONS:
        return None
    addresses = tuple(_address(group[name]) for name in ("original-recipient", "final-recipient") if name in group)
    text = _value(group.get("diagnostic-code", ""))
    code, enhanced, words = _codes(text)
    status = re.search(r"\b[245]\.\d{1,3}\.\d{1,3}\b", group.get("status", ""))
    # X.0.0 says nothing; what the diagnostic tells is nearer to the truth.
    if status and not (enhanced and status[0].endswith(".0.0")):
        enhanced = status[0]
    return Reported(action[0], addresses, code, enhanced, words, _value(group.get("remote-mta", "")) or reporter)


def _value(field: str) -> str:
    """What stands behind the type: "smtp; 550 …", "dns; mx.example"."""
    kind, semicolon, value = field.partition(";")
    return printable((value if semicolon and re.fullmatch(r"\s*[\w.-]+\s*", kind) else field).strip(), 512)


def _address(field: str) -> str:
    address = _value(field).strip("<> ")
    # RFC 6533 3: \x{E9} within an address that must be ASCII.
    return re.sub(r"\\x\{([0-9A-Fa-f]{1,6})\}", lambda match: _character(match[1]), address)[:320]


def _character(digits: str) -> str:
    number = int(digits, 16)
    return chr(number) if 0x20 <= number < 0xD800 or 0xE000 <= number < 0x110000 else ""


def _codes(text: str) -> tuple[int | None, str, str]:
    """The SMTP code, the enhanced code, and the words behind them."""
    found = _BOTH_CODES.search(text) or _CODE.search(text)
    enhanced = _ENHANCED.search(text)
    code = int(found[1]) if found else None
    words = re.sub(r"\s+", " ", text[found.end() :] if found else text).strip(" -:;,")
    return code, enhanced[0] if enhanced else "", printable(words, 512)


# --- Free text -------------------------------------------------------------------------------------------------------

_SERVERS = re.compile(
    r"mailer-?daemon|postmaster|mail delivery|microsoft ?exchange|mdaemon|mail-?daemon", re.IGNORECASE
)
_SUBJECTS = re.compile(
    r"undeliver|delivery (status|fail|has failed|report)|returned mail|failure notice|mail delivery (failed|system)"
    r"|delivery notification|could not be delivered|message not delivered|delayed|warning: ",
    re.IGNORECASE,
)
# What is written below is a copy of the mail, in which anything may stand.
_COPY = re.compile(
    r"^[ >]{0,10}-{2,60}.{0,80}(copy of (the|your) message|original message|message follows|message header).{0,80}$"
    r"|^-{3,60} ?original message ?-{3,}|^-{5} message header follows|^original message headers:",
    re.IGNORECASE | re.MULTILINE,
)
_FAILED = re.compile(
    r"could(n't| not) be delivered|wasn't (able to deliver|delivered)|was not delivered|undeliver"
    r"|delivery (has )?failed"
    r"|permanent (fatal )?error|unable to deliver|failed permanently|delivery to the following recipients? failed"
    r"|not able to deliver|returned to sender|returned mail|delivery failure|address not found|message blocked"
    r"|did(n't| not) reach",
    re.IGNORECASE,
)
_DELAYED = re.compile(
    r"will (continue|keep|be retried|retry)|warning message only|temporary (failure|problem|error)s? .{0,40}retr"
    r"|has not (yet )?been delivered|no action is required|delivery (is |has been )?(delayed|incomplete)|still trying",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[<\s:(\"'\[]([^\s<>()\"'\[\]:;,@]{1,64}@[\w-][\w.-]{0,252}\w)")
_ANSWER = re.compile(
    r"^.{0,300}(?:said:|<<<|error from remote mail server|the response (?:from the remote server )?was|reason:"
    r"|remote server returned|server error:|diagnostic.code:)(?P<answer>(?s:.{1,600}))",
    re.IGNORECASE | re.MULTILINE,
)


def _speaks_as_server(whole: _Part, is_null_sender: bool) -> bool:
    """RFC 3834: an automatic answer comes with a null sender too. It does not speak of delivery in its subject."""
    fields = whole.fields
    if "x-failed-recipients" in fields or "multipart/report" in fields.get("content-type", "").lower():
        return True
    subject_fits = bool(_SUBJECTS.search(fields.get("subject", "")[:500]))
    is_answer = fields.get("auto-submitted", "").lower().startswith("auto-replied") and not subject_fits
    from_server = bool(_SERVERS.search(fields.get("from", "")[:500]))
    return not is_answer and (from_server or (is_null_sender and subject_fits))


def _free_text(text: str, fields: Fields) -> list[Reported]:
    text = text[:TEXT_OCTETS]
    if found := _COPY.search(text):
        text = text[: found.start()]
    answer = _ANSWER.search(text)
    code, enhanced, words = _codes(answer["answer"] if answer else text)
    if code is None and not enhanced:
        code, enhanced, words = _codes(text)
    named = [each for each in re.split(r"[\s,]+", fields.get("x-failed-recipients", "")) if "@" in each]
    named += [match[1] for match in islice(_ADDRESS.finditer(text), RECIPIENTS)]
    is_delayed = bool(_DELAYED.search(text)) and not (code or 0) >= 500
    if not (is_delayed or (code and code >= 400) or enhanced[:1] in {"4", "5"} or _FAILED.search(text)):
        return []
    if code is None and not enhanced:
        words = printable(re.sub(r"\s+", " ", text).strip(), 512)
    recipients = tuple(dict.fromkeys(address[:320] for address in named))
    return [Reported("delayed" if is_delayed else "failed", recipients, code, enhanced, words)]


def _without_markup(html: str) -> str:
    return re.sub(r"<[^<>]{0,2000}>", " ", html)


def answer_of(reply: str) -> tuple[int | None, str, str]:
    """Code, enhanced code and words of an answer that was kept as one text."""
    return _codes(reply)
