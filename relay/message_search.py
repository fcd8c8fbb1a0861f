"""The search line of the message list: `to:ann@example.org status:failed after:7d invoice`.

Shapes  MessageSearch: what the line asks for; apply() narrows a queryset of one organization's messages.
Units   after, before: aware UTC. Dates in the line are UTC: 2026-05-31, 2026-05-31T14:00, or an age: 30m, 24h, 7d.
Errors  SearchInvalid (a ValidationError) names the word that was not understood.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from relay.models import Message, Recipient

KEYS = ("to", "from", "status", "before", "after", "user", "ref")
LENGTH_MAX = 500
REFERENCE = re.compile(r"[0-9A-HJKMNP-TV-Z]{10}", re.IGNORECASE)  # Crockford base32
_WORD = re.compile(r'(?:([A-Za-z]+):)?("[^"]*"|\S+)')
_AGE = re.compile(r"(\d{1,5})(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class SearchInvalid(ValidationError):
    """A search that cannot be understood, and which word is why."""


@dataclass(frozen=True, slots=True)
class MessageSearch:
    to: str = ""
    sender: str = ""
    status: str = ""
    user: str = ""
    ref: str = ""
    after: datetime | None = None
    before: datetime | None = None
    words: tuple[str, ...] = field(default=())


def parse_search(line: str, *, now: datetime | None = None) -> MessageSearch:
    """Reads the line; the last of a repeated key counts."""
    if len(line) > LENGTH_MAX:
        raise SearchInvalid(_("The search is too long: %(max)d characters at most."), params={"max": LENGTH_MAX})
    if "\0" in line:
        raise SearchInvalid(_("The search holds a character that no message can have."))
    search = MessageSearch()
    for key, quoted in _WORD.findall(line):
        search = _with_word(search, key.lower(), quoted.strip('"'), now or timezone.now())
    return search


def _with_word(search: MessageSearch, key: str, value: str, now: datetime) -> MessageSearch:
    if not key:
        if REFERENCE.fullmatch(value) and any(letter.isdigit() for letter in value):
            return replace(search, ref=value.upper())
        return replace(search, words=(*search.words, value))
    if key not in KEYS:
        known = ", ".join(f"{each}:" for each in KEYS)
        raise SearchInvalid(
            _("“%(key)s:” is not known. Use %(known)s, or put words with a colon in quotation marks."),
            params={"key": key, "known": known},
        )
    if key in {"before", "after"}:
        moment = _moment(key, value, now)
        return replace(search, before=moment) if key == "before" else replace(search, after=moment)
    if key == "status":
        return replace(search, status=_status(value))
    if key == "from":
        return replace(search, sender=value)
    if key == "ref":
        return replace(search, ref=value.upper())
    return replace(search, to=value) if key == "to" else replace(search, user=value.lower())


def _status(value: str) -> str:
    if value.lower() not in Recipient.State.values:
        raise SearchInvalid(
            _("“status:%(value)s” is not known. Use one of %(known)s."),
            params={"value": value[:32], "known": ", ".join(Recipient.State.values)},
        )
    return value.lower()


def _moment(key: str, value: str, now: datetime) -> datetime:
    if age := _AGE.fullmatch(value):
        return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        moment = datetime.fromisoformat(value)
        if not 1970 <= moment.year < 9999:  # beyond these, other time zones have years that no clock shows
            raise ValueError(value)
    except ValueError:
        raise SearchInvalid(
            _("“%(key)s:%(value)s” is not a time. Write 2026-05-31, 2026-05-31T14:00, or an age like 30m, 24h or 7d."),
            params={"key": key, "value": value[:32]},
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def apply(search: MessageSearch, messages: QuerySet[Message]) -> QuerySet[Message]:
    """The messages that the search means."""
    if search.after:
        messages = messages.filter(received_at__gte=search.after)
    if search.before:
        messages = messages.filter(received_at__lt=search.before)
    if search.ref:
        messages = messages.filter(reference=search.ref)
    if search.user:
        messages = messages.filter(_user(search.user))
    if search.sender:
        messages = messages.filter(Q(reverse_path__icontains=search.sender) | Q(header_from__icontains=search.sender))
    if search.to or search.status:
        messages = messages.filter(Exists(_recipients(search)))
    for word in search.words:
        messages = messages.filter(Q(subject__icontains=word) | Exists(_recipient(address__icontains=word)))
    return messages


def _user(text: str) -> Q:
    return Q(smtp_user__username=text) if "." in text else Q(smtp_user__username__startswith=f"{text}.")


def _recipient(**conditions: str) -> QuerySet[Recipient]:
    return Recipient.objects.filter(message=OuterRef("pk"), **conditions)


def _recipients(search: MessageSearch) -> QuerySet[Recipient]:
    """One recipient must fit both: `to:ann status:failed` means that it failed for ann."""
    found = _recipient()
    if search.status:
        found = found.filter(state=search.status)
    if search.to:
        local, at, _domain = search.to.partition("@")
        whole = bool(local and at)
        found = found.filter(address__iexact=search.to) if whole else found.filter(address__icontains=search.to)
    return found
