"""A message's recipients in pages, narrowed by state and address, each with its timeline.

Shapes  recipients_of(message, query) -> Recipients. The query is the page's: state, to (a part of the address), after.
Units   PAGE_ROWS recipients at a time, in the order in which they were given. refresh_seconds: None: nothing moves.
Errors  None: a filter that is nonsense narrows nothing, a cursor that is none starts at the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Count, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from relay.models import Message, Recipient
from relay.queue import message_state
from relay.timeline import Entry, timelines

PAGE_ROWS: Final = 25
ADDRESS_MAX: Final = 320
SOON: Final = timedelta(seconds=60)
QUICK_SECONDS, SLOW_SECONDS = 3, 30
State = Recipient.State


@dataclass(frozen=True, slots=True)
class StateLink:
    label: str
    count: int
    query: str
    current: bool


@dataclass(frozen=True, slots=True)
class Recipients:
    """message_state: of all of them together. query: of this page, for looking at it again."""

    rows: list[tuple[Recipient, list[Entry]]]
    message_state: str
    states: list[StateLink]
    total: int
    state: str
    to: str
    query: str
    first: str  # query of the first page, empty on it
    further: str  # query of the next one, empty at the end
    refresh_seconds: int | None

    @property
    def is_searched(self) -> bool:
        return bool(self.state or self.to)


def recipients_of(message: Message, query: Mapping[str, str], *, now: datetime | None = None) -> Recipients:
    state, to, after = _asked(query)
    counts = _counts(message)
    found = list(_narrowed(message, state, to).filter(pk__gt=after).order_by("pk")[: PAGE_ROWS + 1])
    shown = found[:PAGE_ROWS]
    entries = timelines(message, shown)
    asked = {"state": state, "to": to}
    return Recipients(
        rows=[(recipient, entries[recipient.pk]) for recipient in shown],
        message_state=message_state(counts),
        states=_links(counts, state, to),
        total=sum(counts.values()),
        state=state,
        to=to,
        query=_query(asked, after),
        first=_query(asked) if after else "",
        further=_query(asked, shown[-1].pk) if len(found) > PAGE_ROWS else "",
        refresh_seconds=_refresh(counts, shown, now or timezone.now()),
    )


def _asked(query: Mapping[str, str]) -> tuple[str, str, int]:
    state, after = query.get("state", ""), query.get("after", "")
    to = query.get("to", "").replace("\x00", "").strip()[:ADDRESS_MAX]
    is_place = (
        after.isascii() and after.isdigit() and len(after) < 19
    )  # a bigint holds nineteen digits, not all of them
    return state if state in State.values else "", to, int(after) if is_place else 0


def _counts(message: Message) -> dict[str, int]:
    sums = Recipient.objects.filter(message=message).values_list("state").annotate(number=Count("pk"))
    return dict(sums.order_by("state"))


def _narrowed(message: Message, state: str, to: str) -> QuerySet[Recipient]:
    recipients = Recipient.objects.filter(message=message)
    if state:
        recipients = recipients.filter(state=state)
    return recipients.filter(address__icontains=to) if to else recipients


def _links(counts: Mapping[str, int], state: str, to: str) -> list[StateLink]:
    """Only states that some recipient has: most messages have one, and then there is nothing to choose."""
    if len(counts) < 2 and not state:
        return []
    labels = dict(State.choices)
    everybody = StateLink(_("All"), sum(counts.values()), _query({"to": to}), not state)
    own = [
        StateLink(str(labels[each]), counts.get(each, 0), _query({"state": each, "to": to}), each == state)
        for each in State.values
        if each in counts or each == state
    ]
    return [everybody, *own]


def _query(asked: Mapping[str, Any], after: int = 0) -> str:
    pairs = {name: value for name, value in asked.items() if value}
    return "?" + urlencode(pairs | ({"after": after} if after else {}))


def _refresh(counts: Mapping[str, int], shown: list[Recipient], now: datetime) -> int | None:
    """Quick while an attempt runs or is near, slow while mail only waits, never once all is over."""
    if not (counts.get(State.QUEUED) or counts.get(State.HELD)):
        return None
    near = any(
        recipient.state == State.QUEUED and (recipient.lease or recipient.due_at < now + SOON) for recipient in shown
    )
    return QUICK_SECONDS if near else SLOW_SECONDS
