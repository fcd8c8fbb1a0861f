"""A recipient's way through Gatepost as a list of entries, for the pages of its message.

Shapes  timelines(message, recipients) -> entries by recipient id, in the order of time; what is to come stands last.
        SOURCES: who knows what happened. Each is asked once for all recipients of a page, and yields (recipient id,
        Entry). A module that knows more adds its function there.
Units   at: aware UTC; None for what has no time of its own, or has not come yet.
Errors  None of their own. Texts of strangers (replies, conversations) are shown as they are: templates escape them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import Organization
from relay.bounces.classify import classify
from relay.models import (
    BounceClass,
    DeliveryAttempt,
    Hold,
    LateBounce,
    Message,
    MessageEvent,
    Recipient,
    Report,
    Suppression,
)
from relay.models.messages import NEVER, Route
from relay.queue import GIVE_UP_AFTER
from relay.reply_words import Words, words_of
from relay.suppressions import suppression_key

GOOD, BAD, BUSY, CALM = "good", "bad", "busy", "calm"
State, Outcome, Kind = Recipient.State, DeliveryAttempt.Outcome, MessageEvent.Kind
LATE: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """title: what happened. details: plain lines below it. reply: the next hop's answer, or our own reason, as it was.

    attempt: for operators, who see its worker and may look for others to the same next hop.
    """

    at: datetime | None
    title: str
    tone: str = CALM
    details: tuple[str, ...] = ()
    reply: str = ""
    words: Words | None = None
    has_conversation: bool = False  # that of attempt, which a page of its own shows
    upcoming: datetime | None = None  # when what it tells of will be
    attempt: DeliveryAttempt | None = field(default=None, repr=False)


Source = Callable[[Message, Sequence[Recipient]], Iterator[tuple[int, Entry]]]


def timelines(message: Message, recipients: Sequence[Recipient]) -> dict[int, list[Entry]]:
    """Of recipients of this one message."""
    found: dict[int, list[Entry]] = {recipient.pk: [] for recipient in recipients}
    if not recipients:
        return found
    for source in SOURCES:
        for recipient_id, entry in source(message, recipients):
            found[recipient_id].append(entry)
    return {pk: sorted(entries, key=lambda entry: entry.at or LATE) for pk, entries in found.items()}


def gives_up_at(message: Message) -> datetime:
    """When a recipient that is still put off by then is given up."""
    return message.received_at + GIVE_UP_AFTER


# --- What was accepted ------------------------------------------------------------------------------------------------


def _accepted(message: Message, recipients: Sequence[Recipient]) -> Iterator[tuple[int, Entry]]:
    entry = Entry(at=message.received_at, title=_("Accepted"), details=(_by(message),))
    for recipient in recipients:
        yield recipient.pk, entry


def _by(message: Message) -> str:
    if not message.client_ip:
        return _("made by Gatepost itself, reference %s") % message.reference
    return _("from %(ip)s, answered with 250 and the reference %(reference)s") % {
        "ip": message.client_ip,
        "reference": message.reference,
    }


# --- What was done to it ----------------------------------------------------------------------------------------------

_DONE: Final = {Kind.HELD: BUSY, Kind.RELEASED: CALM, Kind.RETRIED: CALM, Kind.CANCELLED: BAD}


def _done(message: Message, recipients: Sequence[Recipient]) -> Iterator[tuple[int, Entry]]:
    """Events of the whole message concern everybody whose way was not over by then."""
    events = list(MessageEvent.objects.filter(message=message).order_by("at", "pk"))
    for recipient in recipients:
        for event in events:
            mine = event.recipient_id == recipient.pk
            if mine or (event.recipient_id is None and not (recipient.settled_at and recipient.settled_at < event.at)):
                yield recipient.pk, _event(message, event)


def _event(message: Message, event: MessageEvent) -> Entry:
    kind, details = Kind(event.kind), [event.actor, event.note]
    if kind == Kind.RELEASED and not event.actor:
        waited = _lasted(event.at - message.received_at)
        details = [_("The hourly limit had room again after %s. Until then the message was held.") % waited]
    return Entry(at=event.at, title=str(kind.label), tone=_DONE[kind], details=tuple(filter(None, details)))


def _lasted(span: timedelta) -> str:
    minutes = int(span.total_seconds()) // 60
    if minutes >= 120:
        return ngettext("%d hour", "%d hours", minutes // 60) % (minutes // 60)
    return ngettext("%d minute", "%d minutes", minutes) % minutes


# --- Attempts ---------------------------------------------------------------------------------------------------------

_TITLES: Final = {Outcome.DELIVERED: GOOD, Outcome.DEFERRED: BUSY, Outcome.FAILED: BAD, Outcome.LOST: BAD}


def _attempts(message: Message, recipients: Sequence[Recipient]) -> Iterator[tuple[int, Entry]]:
    rows = DeliveryAttempt.objects.filter(recipient__in=[recipient.pk for recipient in recipients])
    told = ExpressionWrapper(~Q(conversation=""), output_field=BooleanField())
    # Conversations are some kilobytes each, and read one by one.
    for attempt in rows.defer("conversation").annotate(has_conversation=told).order_by("recipient", "number", "pk"):
        yield attempt.recipient_id, _attempt(attempt)


def conversation_of(message: Message, attempt_id: int) -> DeliveryAttempt | None:
    """The attempt with what was said and heard in it, if it is one of this message's and anything was."""
    mine = DeliveryAttempt.objects.filter(pk=attempt_id, recipient__message=message).exclude(conversation="")
    return mine.select_related("recipient").first()


def _attempt(attempt: Any) -> Entry:
    if not attempt.outcome:
        return Entry(at=attempt.started_at, title=_("Under way"), tone=BUSY, attempt=attempt)
    outcome = Outcome(attempt.outcome)
    return Entry(
        at=attempt.started_at,
        title=str(outcome.label),
        tone=_TITLES[outcome],
        details=(*_hop(attempt), *_whose(_class_of(attempt) if outcome == Outcome.FAILED else "")),
        reply=_answer(attempt.code, attempt.enhanced_code, attempt.text),
        words=words_of(attempt.code, attempt.enhanced_code, attempt.text) if outcome != Outcome.DELIVERED else None,
        has_conversation=attempt.has_conversation,
        attempt=attempt,
    )


def _answer(code: int | None, enhanced: str, text: str) -> str:
    return " ".join(filter(None, [str(code or ""), enhanced, text]))


def _class_of(attempt: DeliveryAttempt) -> str:
    return classify(attempt.code, attempt.enhanced_code, attempt.text).bounce_class if attempt.code else ""


def _whose(bounce_class: str) -> Iterator[str]:
    if bounce_class:
        yield _("Cause: %s") % str(BounceClass(bounce_class).label).lower()


def _hop(attempt: DeliveryAttempt) -> Iterator[str]:
    if attempt.route == Route.SANDBOX:
        yield _("kept in the sandbox")
        return
    if attempt.next_hop:
        address = f" [{attempt.next_hop_ip}]" if attempt.next_hop_ip else ""
        yield _("to %s") % f"{attempt.next_hop}{address}"
    if attempt.tls_version:
        yield _("with %s") % attempt.tls_version
    elif attempt.next_hop_ip:
        yield _("without TLS")
    if attempt.finished_at and (seconds := (attempt.finished_at - attempt.started_at).total_seconds()) >= 1:
        yield _("took %.0f s") % seconds


# --- What came back, and who was told ---------------------------------------------------------------------------------


def _came_back(message: Message, recipients: Sequence[Recipient]) -> Iterator[tuple[int, Entry]]:
    """A next hop had taken it, and a report came to our return path later."""
    for bounce in LateBounce.objects.filter(recipient__in=recipients).order_by("at", "pk"):
        failed = bounce.action == "failed"
        reporter = [_("reported by %s") % bounce.reporter] if bounce.reporter else []
        yield (
            bounce.recipient_id,
            Entry(
                at=bounce.at,
                title=_("Came back") if failed else _("A report came: %s") % bounce.action,
                tone=BAD if failed else CALM,
                details=(*reporter, *_whose(bounce.bounce_class)),
                reply=_answer(bounce.code, bounce.enhanced_code, bounce.text),
                words=words_of(bounce.code, bounce.enhanced_code, bounce.text),
            ),
        )


def _reported(message: Message, recipients: Sequence[Recipient]) -> Iterator[tuple[int, Entry]]:
    """What the sender was told of a recipient, or soon will be."""
    for report in Report.objects.filter(recipient__in=recipients).order_by("at", "pk"):
        kind = str(report.get_kind_display()).lower()
        details = (_("to %s") % report.sender, *([_("in a summary of several")] if report.is_folded else []))
        if report.written_at:
            title = _("Report to the sender: %s") % kind
            yield report.recipient_id, Entry(at=report.written_at, title=title, details=details)
        else:
            title = _("The sender will be told: %s") % kind
            yield report.recipient_id, Entry(at=None, title=title, details=details, upcoming=report.due_at)


def _suppressed(message: Message, recipients: Sequence[Recipient]) -> Iterator[tuple[int, Entry]]:
    """An address that gets no more mail because of this message."""
    because = Suppression.objects.filter(organization=message.organization_id, reference=message.reference)
    by_address = {row.address: row for row in because} if message.reference else {}
    for recipient in recipients if by_address else ():
        if row := by_address.get(suppression_key(recipient.address)):
            title = _("The address is suppressed from now on: mail to it is refused.")
            yield recipient.pk, Entry(at=row.created_at, title=title, tone=BAD, details=(row.reason,))


# --- What is to come --------------------------------------------------------------------------------------------------


def _upcoming(message: Message, recipients: Sequence[Recipient]) -> Iterator[tuple[int, Entry]]:
    suspended = message.organization.state == Organization.State.SUSPENDED
    by_hand = dict(Hold.objects.filter(recipient__in=recipients).values_list("recipient_id", "by_operator"))
    for recipient in recipients:
        if recipient.possibly_delivered:
            title = _("Possibly delivered: a worker stopped after it had sent everything and before the answer came.")
            yield recipient.pk, Entry(at=None, title=title, tone=BUSY)
        if recipient.state == State.HELD:
            yield recipient.pk, _held(by_hand.get(recipient.pk), suspended=suspended)
        elif recipient.state == State.QUEUED and recipient.lease is None:
            yield recipient.pk, _waits(message, recipient, suspended=suspended)


def _held(by_operator: bool | None, *, suspended: bool) -> Entry:
    """by_operator: who holds it by hand; None: nobody, it is the hourly limit."""
    if by_operator is not None:
        title = _("Held by the operator, who alone releases it.") if by_operator else _("Held until you release it.")
        return Entry(at=None, title=title, tone=BUSY)
    if suspended:
        return Entry(at=None, title=_("Held: the organization is suspended."), tone=BUSY)
    return Entry(at=None, title=_("Held: beyond the limit. It is released when there is room."), tone=BUSY)


def _waits(message: Message, recipient: Recipient, *, suspended: bool) -> Entry:
    if suspended:
        return Entry(at=None, title=_("Waits: the organization is suspended."), tone=BUSY)
    if recipient.due_at >= NEVER:
        return Entry(at=None, title=_("Waits until an operator releases it."), tone=BUSY)
    if not recipient.attempts:
        return Entry(at=None, title=_("Waits for its first delivery attempt."), tone=BUSY)
    ends = _("Gatepost gives up on %s UTC.") % f"{gives_up_at(message):%Y-%m-%d %H:%M}"
    return Entry(at=None, title=_("Next attempt:"), tone=BUSY, upcoming=recipient.due_at, details=(ends,))


# Who is asked, in the order in which entries of the same moment stand.
SOURCES: Final[tuple[Source, ...]] = (
    _accepted,
    _done,
    _attempts,
    _came_back,
    _suppressed,
    _reported,
    _upcoming,
)
