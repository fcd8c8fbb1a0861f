"""A report to a sender as octets: words for people, the same for programs, and the mail that it is about.

Shapes  Original and its Told recipients in, Written out: multipart/report (RFC 6522) with text, delivery-status
        (RFC 3464) and headers or the whole mail (RET, RFC 3461 4.3). summary() is the one mail in place of many.
Units   RETURN_OCTETS: what is returned whole; of a larger one the headers.
Errors  None: what cannot be said in ASCII is said as RFC 6533 has it.
Source  RFC 3461 6, RFC 3464 2, RFC 6522, RFC 6533 (internationalized), RFC 3834 5 (Auto-Submitted), RFC 2047.
"""

import quopri
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.utils import format_datetime
from uuid import UUID, uuid4

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.record import printable
from relay.bounces.words import addressed, paragraph, told_of
from relay.models.bounces import Report

RETURN_OCTETS = 1024 * 1024
HEADER_OCTETS = 64 * 1024
SUMMARY_SHOWN = 100

Kind = Report.Kind
ACTIONS = {Kind.FAILED: "failed", Kind.DELAYED: "delayed", Kind.RELAYED: "relayed", Kind.DELIVERED: "delivered"}


@dataclass(frozen=True, slots=True)
class Original:
    """The mail that a report is about. content: None where it is no longer there."""

    message_id: UUID
    reference: str
    sender: str
    subject: str
    header_message_id: str
    received_at: datetime
    give_up_at: datetime
    ret: str
    envid: str
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Told:
    """One recipient, and what there is to tell of it."""

    address: str
    orcpt: str
    kind: str
    at: datetime
    code: int | None
    enhanced: str
    text: str
    next_hop: str


@dataclass(frozen=True, slots=True)
class Written:
    """A mail to the sender, complete but for its trace header."""

    subject: str
    header_message_id: str
    content: bytes
    smtputf8: bool


def report(original: Original, told: Sequence[Told], *, now: datetime) -> Written:
    """One report for all these recipients. It is internationalized only if its own recipient's address is."""
    utf8 = not original.sender.isascii()
    kinds = {each.kind for each in told}
    subject = f"{_subject(kinds)}: {original.subject or _('(no subject)')}"
    boundary = f"=_gatepost_{uuid4().hex}"
    parts = (_text(told_of(original, told)), _status(original, told, utf8=utf8), _returned(original, kinds, utf8=utf8))
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), part) for part in parts) + f"--{boundary}--\r\n".encode()
    content_type = f'multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"'
    return _mail(
        original.sender,
        subject,
        content_type,
        body,
        now=now,
        utf8=utf8,
        about=original.header_message_id,
    )


def summary(sender: str, told: Sequence[tuple[str, Told]], *, now: datetime) -> Written:
    """What became of many messages in one mail: reference and recipient of each, as far as they fit."""
    number = len(told)
    subject = ngettext("%(number)s more report", "%(number)s more reports", number) % {"number": number}
    lines = [
        paragraph(
            _(
                "You had many reports on undelivered mail within an hour. Here are the others in one. Each message is"
                " found in the panel by its reference."
            )
        ),
        "",
    ]
    for reference, each in told[:SUMMARY_SHOWN]:
        answer = " ".join(str(part) for part in (each.code, each.enhanced, each.text) if part)
        lines.append(f"{reference}  {ACTIONS[Kind(each.kind)]}  {addressed(each.address)}\n    {answer[:200]}")
    if number > SUMMARY_SHOWN:
        lines += ["", _("and %(number)s more.") % {"number": number - SUMMARY_SHOWN}]
    head, body = _encoded_text("\n".join(lines))
    encoding = head.partition(b"Content-Transfer-Encoding: ")[2].decode()
    content_type = f"text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}"
    return _mail(sender, subject, content_type, body, now=now, utf8=not sender.isascii())


def _subject(kinds: set[str]) -> str:
    if kinds == {Kind.DELAYED}:
        return _("Delayed")
    if kinds <= {Kind.RELAYED, Kind.DELIVERED}:
        return _("Delivered") if kinds == {Kind.DELIVERED} else _("Handed on")
    return _("Undelivered")


def _mail(
    sender: str, subject: str, content_type: str, body: bytes, *, now: datetime, utf8: bool, about: str = ""
) -> Written:
    message_id = f"<{uuid4().hex}@{settings.GATEPOST_HOSTNAME}>"
    subject = printable(subject, 255)
    lines = [
        f"From: {_('Mail delivery')} <mailer-daemon@{settings.GATEPOST_HOSTNAME}>",
        f"To: <{sender}>",
        f"Subject: {_header(subject, utf8=utf8)}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: {message_id}",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f"Content-Type: {content_type}",
    ]
    if about.isascii() and about.startswith("<") and about.endswith(">") and " " not in about and len(about) < 250:
        lines[5:5] = [f"In-Reply-To: {about}", f"References: {about}"]
    head = "".join(f"{line}\r\n" for line in lines)
    return Written(subject, message_id, head.encode() + b"\r\n" + body, utf8)


def _header(text: str, *, utf8: bool) -> str:
    if text.isascii() or utf8:
        return text
    return Header(text, "utf-8", header_name="Subject").encode(linesep="\r\n")


# --- The three parts -------------------------------------------------------------------------------------------------


def _text(words: str) -> bytes:
    head, body = _encoded_text(words)
    return b"Content-Type: text/plain; charset=utf-8\r\n" + head + b"\r\n\r\n" + body


def _encoded_text(words: str) -> tuple[bytes, bytes]:
    octets = (words.rstrip("\n") + "\n").encode()
    if words.isascii() and max(map(len, octets.split(b"\n"))) < 900:
        return b"Content-Transfer-Encoding: 7bit", octets.replace(b"\n", b"\r\n")
    encoded = quopri.encodestring(octets).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return b"Content-Transfer-Encoding: quoted-printable", encoded


def _status(original: Original, told: Sequence[Told], *, utf8: bool) -> bytes:
    groups = [_per_message(original), *(_per_recipient(original, each, utf8=utf8) for each in told)]
    fields = "\r\n".join("".join(f"{name}: {value}\r\n" for name, value in group) for group in groups)
    if utf8:
        head = "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    else:
        head = "Content-Type: message/delivery-status\r\n\r\n"
    return (head + fields).encode("utf-8" if utf8 else "ascii", "replace")


def _per_message(original: Original) -> list[tuple[str, str]]:
    envid = [("Original-Envelope-Id", _from_xtext(original.envid))] if original.envid else []
    return [
        *envid,
        ("Reporting-MTA", f"dns; {settings.GATEPOST_HOSTNAME}"),
        ("X-Gatepost-Reference", original.reference),
        ("Arrival-Date", format_datetime(original.received_at)),
    ]


def _per_recipient(original: Original, each: Told, *, utf8: bool) -> list[tuple[str, str]]:
    fields = []
    if each.orcpt:
        kind, _semicolon, address = each.orcpt.partition(";")
        fields.append(("Original-Recipient", f"{kind};{_from_xtext(address)}"))
    fields.append(("Final-Recipient", _typed(each.address, utf8=utf8)))
    fields += [("Action", ACTIONS[Kind(each.kind)]), ("Status", _status_code(each))]
    host = each.next_hop.rpartition(":")[0].strip("[]") or each.next_hop
    if host.isascii() and host and " " not in host:
        fields.append(("Remote-MTA", f"dns; {host}"))
    if each.code is not None:
        answer = " ".join(str(part) for part in (each.code, each.enhanced, each.text) if part)
        fields.append(("Diagnostic-Code", f"smtp; {printable(answer, 512)}"))
    elif each.text:
        fields.append(("Diagnostic-Code", f"x-gatepost; {printable(each.text, 512)}"))
    fields.append(("Last-Attempt-Date", format_datetime(each.at)))
    if each.kind == Kind.DELAYED:
        fields.append(("Will-Retry-Until", format_datetime(original.give_up_at)))
    return fields


def _status_code(each: Told) -> str:
    """RFC 3464 2.3.4: its class must fit the action. What was given up after a 4xx is 4.4.7, delivery time expired."""
    wanted = {Kind.FAILED: "45", Kind.DELAYED: "4"}.get(Kind(each.kind), "2")
    if each.enhanced.count(".") == 2 and each.enhanced[0] in wanted:
        return each.enhanced
    if each.kind == Kind.FAILED:
        return "5.0.0" if each.code is not None and each.code >= 500 else "4.4.7"
    return "4.4.1" if each.kind == Kind.DELAYED else "2.0.0"


def _typed(address: str, *, utf8: bool) -> str:
    """RFC 6533 3: utf-8 addresses as they are in an internationalized report, else with their characters by number."""
    if address.isascii():
        return f"rfc822;{address}"
    if utf8:
        return f"utf-8;{address}"
    return "utf-8;" + "".join(
        each if "!" <= each <= "~" and each not in "\\+=" else f"\\x{{{ord(each):X}}}" for each in address
    )


def _from_xtext(text: str) -> str:
    """RFC 3461 4. What is not printable ASCII when decoded stays encoded: it goes into a header."""
    found = ""
    rest = text
    while rest:
        head, plus, rest = rest.partition("+")
        found += head
        if plus:
            code, rest = rest[:2], rest[2:]
            octet = chr(int(code, 16)) if len(code) == 2 else ""
            found += octet if " " <= octet <= "~" else f"+{code}"
    return found


def _returned(original: Original, kinds: set[str], *, utf8: bool) -> bytes:
    """RFC 3461 4.3: the whole mail only for a failure and only if RET=FULL; the headers otherwise."""
    content = original.content or b""
    is_whole = Kind.FAILED in kinds and original.ret == "FULL" and len(content) <= RETURN_OCTETS
    head = content.partition(b"\r\n\r\n")[0][:HEADER_OCTETS] + b"\r\n"
    is_global = not head.isascii()
    if is_whole and content:
        encoding = b"7bit" if content.isascii() else b"8bit"
        kind = b"message/global" if is_global else b"message/rfc822"
        return b"Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s" % (kind, encoding, content)
    if not is_global:
        return b"Content-Type: text/rfc822-headers\r\n\r\n" + head
    # RFC 6533 6.3: unlike the whole, headers may be encoded, and so pass any next hop.
    encoded = quopri.encodestring(head.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    return b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded
