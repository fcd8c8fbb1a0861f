"""The words of a report for people: what happened to which recipient, why, and what to do.

Shapes  told_of(original, told) -> the first part of a report, plain text with lines of about 76 characters.
Source  relay.reply_words has what an answer means; the panel's pages use the same.
"""

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.record import printable
from relay.models.bounces import Report
from relay.reply_words import words_of

if TYPE_CHECKING:
    from relay.bounces.report import Original, Told

WIDTH = 76
DATE = "%a, %d %b %Y %H:%M UTC"
Kind = Report.Kind


def told_of(original: "Original", told: "Sequence[Told]") -> str:
    lines = [paragraph(_("This is Gatepost at %(host)s, about your message:") % {"host": settings.GATEPOST_HOSTNAME})]
    lines += ["", *_facts(original)]
    for kind in (Kind.FAILED, Kind.DELAYED, Kind.RELAYED, Kind.DELIVERED):
        concerned = [each for each in told if each.kind == kind]
        if concerned:
            lines += ["", paragraph(_opening(kind, original, len(concerned)))]
            for each in concerned:
                lines += ["", *_recipient(each)]
    # Not by reverse(): a delivery worker would load every page of the panel, and hold up its loop meanwhile.
    url = f"{settings.GATEPOST_WEB_URL}/messages/{original.message_id}/"
    lines += ["", paragraph(_("Members of your organization see all attempts in the panel:")), url]
    return "\n".join(lines)


def _facts(original: "Original") -> Iterable[str]:
    yield f"    {_('Subject')}: {printable(original.subject or _('(no subject)'), 200)}"
    yield f"    {_('Sent')}: {original.received_at.strftime(DATE)}"
    yield f"    {_('Reference')}: {original.reference}"


def _opening(kind: str, original: "Original", number: int) -> str:
    if kind == Kind.FAILED:
        return ngettext(
            "It could not be delivered to this recipient, and is not tried again:",
            "It could not be delivered to these recipients, and is not tried again:",
            number,
        )
    if kind == Kind.DELAYED:
        return _(
            "It is not delivered yet. Gatepost goes on trying until %(until)s, and writes again only if it has to give"
            " up. You need not send it again. Still waiting for:"
        ) % {"until": original.give_up_at.strftime(DATE)}
    if kind == Kind.RELAYED:
        return _(
            "It was handed to the recipient's mail server, which does not report on what it does then. If it cannot"
            " deliver the message, you should hear of that:"
        )
    return ngettext("It was delivered to this recipient:", "It was delivered to these recipients:", number)


def _recipient(each: "Told") -> Iterable[str]:
    yield f"<{addressed(each.address)}>"
    if each.kind in {Kind.FAILED, Kind.DELAYED} and (words := words_of(each.code, each.enhanced, each.text)):
        yield paragraph(str(words.cause), indent=4)
        if each.kind == Kind.FAILED:
            yield paragraph(str(words.fix), indent=4)
    answer = " ".join(str(part) for part in (each.code, each.enhanced, each.text) if part)
    if answer and each.next_hop:
        yield paragraph(_("%(host)s answered:") % {"host": printable(each.next_hop, 255)}, indent=4)
    if answer:
        yield paragraph(printable(answer, 512), indent=8)


def addressed(address: str) -> str:
    return printable(address, 320)


def paragraph(text: str, *, indent: int = 0) -> str:
    """Wrapped at spaces alone: addresses and codes stay in one piece."""
    space = " " * indent
    return textwrap.fill(
        text, WIDTH, initial_indent=space, subsequent_indent=space, break_long_words=False, break_on_hyphens=False
    )
