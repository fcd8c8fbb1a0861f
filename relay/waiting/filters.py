"""Which of the mail that waits is meant: by next hop, cause, organization, or a customer's search.

Shapes  WaitingFilter, kept as JSON in QueueAction.filters; statement_of() -> a SELECT of recipients' ids with its
        parameters. hop is "mx:<domain>" or "route:<id>:<kind>" (id 0: the built-in route); cause is a key of
        relay.waiting.causes.
Units   as_of: what was accepted later is not meant.
Errors  FilterInvalid (a ValidationError): a search that cannot be understood.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet

from relay import chosen_routes
from relay.message_search import MessageSearch, apply, parse_search
from relay.models import Message, Recipient

NEVER_SQL = "timestamptz '9999-01-01 00:00+00'"
STATES = (Recipient.State.QUEUED, Recipient.State.HELD)
TEXT_MAX = 512

# Each arm has a small index of its own: what waits is found without reading what has ended.
_COLUMNS = "id, message_id, address, state, due_at, attempts, lease, reply"
WAITING = f"""(
    SELECT {_COLUMNS} FROM relay_recipient WHERE state = 'queued'
    UNION ALL
    SELECT {_COLUMNS} FROM relay_recipient WHERE state = 'held' AND due_at < {NEVER_SQL}
    UNION ALL
    SELECT {", ".join(f"kept.{name.strip()}" for name in _COLUMNS.split(","))}
    FROM relay_hold hold JOIN relay_recipient kept ON kept.id = hold.recipient_id WHERE kept.state = 'held'
) own"""  # noqa: S608 - constants
JOINS = f"""
    JOIN relay_message message ON message.id = own.message_id
    JOIN accounts_organization customer ON customer.id = message.organization_id
    {chosen_routes.JOINS}
"""
HOP = f"""
    CASE {chosen_routes.KIND} WHEN 'mx' THEN 'mx:' || lower(substring(own.address from '[^@]*$'))
         ELSE 'route:' || coalesce(named.id, 0) || ':' || {chosen_routes.KIND} END
"""
# The last answer without what differs from message to message: a code with its enhanced code, or the end of our words.
CAUSE = f"""
    CASE WHEN own.state = 'held' THEN CASE WHEN own.due_at < {NEVER_SQL} THEN 'limit' ELSE 'by hand' END
         WHEN own.due_at >= {NEVER_SQL} THEN 'route'
         WHEN customer.state = 'suspended' THEN 'suspended'
         WHEN own.reply = '' THEN 'new'
         WHEN own.reply ~ '^[2345][0-9][0-9]( |$)'
             THEN rtrim(left(own.reply, 3) || ' ' || coalesce(
                 substring(own.reply from '^... ([245][.][0-9]{{1,3}}[.][0-9]{{1,3}})( |$)'), ''))
         ELSE left('words:' || ltrim(substring(own.reply from '[^:]*$')), 200) END
"""


KNOWN = {
    "limit": "own.state = 'held'",
    "by hand": "own.state = 'held'",
    "route": f"own.due_at >= {NEVER_SQL}",
    "suspended": "own.state = 'queued'",
    "new": "own.state = 'queued' AND own.reply = ''",
}


class FilterInvalid(ValidationError):
    """A filter that means nothing."""


@dataclass(frozen=True, slots=True)
class WaitingFilter:
    """Empty parts mean everything. search and message are a customer's; the rest an operator's."""

    state: str = ""
    hop: str = ""
    cause: str = ""
    organization_id: int | None = None
    search: str = ""
    message_id: str = ""
    parked_only: bool = False  # what waits on a route of kind hold

    @classmethod
    def from_query(cls, query: Mapping[str, Any], *, organization_id: int | None = None) -> "WaitingFilter":
        """An operator's, of a request. What cannot be meant is left out."""
        state, number = str(query.get("state", "")), str(query.get("customer", ""))
        return cls(
            state=state if state in STATES else "",
            hop=_text(query.get("hop", "")),
            cause=_text(query.get("cause", "")),
            organization_id=organization_id or (int(number) if number.isdecimal() and len(number) < 18 else None),
        )

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value}

    @property
    def is_everything(self) -> bool:
        return not self.as_json()


def _text(value: object) -> str:
    return str(value).replace("\0", "")[:TEXT_MAX]


def statement_of(asked: WaitingFilter, *, as_of: datetime, columns: str = "own.id") -> tuple[str, dict[str, Any]]:
    """An operator's filter as SQL."""
    words: dict[str, Any] = {"default_route": settings.GATEPOST_DEFAULT_ROUTE, "as_of": as_of}
    conditions = ["message.received_at <= %(as_of)s"]
    if asked.state:
        conditions.append("own.state = %(state)s")
        words["state"] = asked.state
    if asked.organization_id is not None:
        conditions.append("message.organization_id = %(organization_id)s")
        words["organization_id"] = asked.organization_id
    if asked.hop:
        conditions.append(f"({HOP}) = %(hop)s")
        words["hop"] = asked.hop
        if asked.hop.startswith("mx:"):
            conditions.append("own.address ILIKE %(like_address)s")
            words["like_address"] = f"%@{_literal(asked.hop.removeprefix('mx:'))}"
    if asked.cause:
        conditions.append(f"({CAUSE}) = %(cause)s")
        words["cause"] = asked.cause
        if condition := _cheap_condition(asked.cause, words):
            conditions.append(condition)
    if asked.parked_only:
        conditions.append(f"own.state = 'queued' AND own.due_at >= {NEVER_SQL} AND ({chosen_routes.KIND}) <> 'hold'")
    return f"SELECT {columns} FROM {WAITING} {JOINS} WHERE {' AND '.join(conditions)}", words  # noqa: S608


def _cheap_condition(cause: str, words: dict[str, Any]) -> str:
    """What the cause implies for the recipient's own row: most of a long queue is passed by without a join."""
    if cause in KNOWN:
        return KNOWN[cause]
    if cause.startswith("words:"):
        words["like_reply"] = f"%{_literal(cause.removeprefix('words:'))}%"
    else:
        words["like_reply"] = f"{_literal(cause)}%"
    return "own.reply LIKE %(like_reply)s"


def _literal(text: str) -> str:
    """For LIKE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def customers_recipients(asked: WaitingFilter, *, as_of: datetime) -> QuerySet[Recipient]:
    """A customer's: of its own messages alone, whatever the filter says. Raises FilterInvalid."""
    assert asked.organization_id is not None
    try:
        search = parse_search(asked.search) if asked.search else MessageSearch()
    except ValidationError as invalid:
        raise FilterInvalid(invalid.messages[0]) from None
    own = Message.objects.filter(organization_id=asked.organization_id, received_at__lte=as_of)
    if asked.message_id:
        own = own.filter(pk=UUID(asked.message_id))
    found = Recipient.objects.filter(state__in=STATES, message__in=apply(search, own))
    if state := asked.state or search.status:
        found = found.filter(state=state)
    if search.to:
        local, at, _domain = search.to.partition("@")
        whole = bool(local and at)
        found = found.filter(Q(address__iexact=search.to) if whole else Q(address__icontains=search.to))
    return found
