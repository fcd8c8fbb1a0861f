"""What can be done to mail that waits: hold, release, retry, cancel; a few recipients in one transaction.

Shapes  act(verb, ids, by) -> Done: how many are changed, why others were left, and which to try again since they were
        being delivered. Who was held by hand has a Hold; what the limit holds has none, and is released by
        relay.limits.release_held alone.
Units   ids: recipients, a few thousand at most.
Errors  psycopg's; must be called within a transaction.
Source  docs/delivery.md, The queue.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from uuid import UUID

from django.db import connection
from django.utils.translation import gettext_lazy as _

from audit.changes import Actor
from audit.record import printable
from relay.models import MessageEvent, QueueAction
from relay.models.messages import NEVER

Verb = QueueAction.Verb
RUNNING, GONE = "running", "gone"
# Why a recipient was left as it is.
WHY_NOT: dict[str, Any] = {
    RUNNING: _("being delivered at that moment"),
    GONE: _("delivered, failed or cancelled meanwhile"),
    "held": _("held"),
    "held already": _("held already"),
    "limit": _("held by the hourly limit, which releases them as it has room"),
    "operator": _("held by the operator"),
    "route": _("waiting for a route that holds mail"),
    "not held": _("not held"),
    "due": _("due already"),
}
_EVENTS = {
    Verb.HOLD: MessageEvent.Kind.HELD,
    Verb.RELEASE: MessageEvent.Kind.RELEASED,
    Verb.RETRY: MessageEvent.Kind.RETRIED,
    Verb.CANCEL: MessageEvent.Kind.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class By:
    """Who acts. An operator may touch what an operator held."""

    actor: Actor
    is_operator: bool
    note: str = ""


@dataclass(slots=True)
class Done:
    changed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    again: list[int] = field(default_factory=list)  # leased or locked: worth another try


class _Row(NamedTuple):
    id: int
    message_id: UUID
    recipient_count: int
    state: str
    is_leased: bool
    is_never: bool
    is_due: bool
    by_operator: bool | None  # None: not held by hand
    was_debited: bool | None
    domain: str


class _Change(NamedTuple):
    """What happens to one recipient: the statement's name."""

    statement: str


_LOCK = """
    SELECT id FROM relay_recipient WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""
# A statement of its own, after the locks: what others committed before them is seen.
_READ = """
    SELECT own.id, own.message_id, message.recipient_count, own.state, own.lease IS NOT NULL, own.due_at >= %s,
           own.due_at <= now(), hold.by_operator, hold.was_debited, lower(substring(own.address from '[^@]*$'))
    FROM relay_recipient own JOIN relay_message message ON message.id = own.message_id
    LEFT JOIN relay_hold hold ON hold.recipient_id = own.id
    WHERE own.id = ANY(%s) ORDER BY own.id
"""
# A next hop in trouble is not tried before its time; who asks for a try gets it. Smarthosts are the operator's.
_UNBLOCK = """
    UPDATE relay_nexthoptrouble SET blocked_until = now()
    WHERE blocked_until > now()
      AND (lane = ANY(%(lanes)s) OR (%(is_operator)s AND starts_with(lane, 'smarthost:')))
"""
_EVENT = """
    INSERT INTO relay_messageevent (message_id, recipient_id, at, kind, actor, note)
    SELECT message_id, recipient_id, now(), %(kind)s, %(actor)s, %(note)s
    FROM unnest(%(messages)s::uuid[], %(recipients)s::bigint[]) AS told (message_id, recipient_id)
"""
_STATEMENTS = {
    "hold": """
        WITH kept AS (
            UPDATE relay_recipient SET state = 'held', due_at = %(never)s WHERE id = ANY(%(ids)s)
        )
        INSERT INTO relay_hold (recipient_id, by_operator, was_debited, at)
        SELECT id, %(is_operator)s, true, now() FROM unnest(%(ids)s) AS wanted (id)
    """,
    "hold undebited": """
        WITH kept AS (
            UPDATE relay_recipient SET due_at = %(never)s WHERE id = ANY(%(ids)s)
        )
        INSERT INTO relay_hold (recipient_id, by_operator, was_debited, at)
        SELECT id, %(is_operator)s, false, now() FROM unnest(%(ids)s) AS wanted (id)
    """,
    "take over": "UPDATE relay_hold SET by_operator = true, at = now() WHERE recipient_id = ANY(%(ids)s)",
    "release": """
        WITH freed AS (DELETE FROM relay_hold WHERE recipient_id = ANY(%(ids)s))
        UPDATE relay_recipient SET state = 'queued', due_at = now() WHERE id = ANY(%(ids)s)
    """,
    "to the limit": """
        WITH freed AS (DELETE FROM relay_hold WHERE recipient_id = ANY(%(ids)s))
        UPDATE relay_recipient SET due_at = now() WHERE id = ANY(%(ids)s)
    """,
    "retry": "UPDATE relay_recipient SET due_at = now() WHERE id = ANY(%(ids)s)",
    "cancel": """
        WITH freed AS (DELETE FROM relay_hold WHERE recipient_id = ANY(%(ids)s))
        UPDATE relay_recipient SET state = 'cancelled', settled_at = clock_timestamp(),
            reply = left(%(words)s || CASE WHEN reply = '' THEN '' ELSE ' The last answer: ' || reply END, 512)
        WHERE id = ANY(%(ids)s)
    """,
}


def act(verb: str, ids: Sequence[int], *, by: By) -> Done:
    """Does it to those of these recipients for which it makes sense."""
    assert connection.in_atomic_block
    done, changes = Done(), defaultdict[str, list[_Row]](list)
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [list(ids)])
        locked = {row[0] for row in cursor.fetchall()}
        cursor.execute(_READ, [NEVER, list(ids)])
        rows = [_Row(*row) for row in cursor.fetchall()]
        for row in rows:
            decided = _decide(Verb(verb), row, by=by, is_locked=row.id in locked)
            if isinstance(decided, _Change):
                changes[decided.statement].append(row)
            elif decided == RUNNING:
                done.again.append(row.id)
            else:
                done.skipped[decided] += 1
        done.skipped[GONE] += len(set(ids)) - len(rows)
        for statement, changed in changes.items():
            words: dict[str, Any] = {
                "ids": [row.id for row in changed],
                "never": NEVER,
                "is_operator": by.is_operator,
                "words": _reason(by),
            }
            cursor.execute(_STATEMENTS[statement], words)
        if verb == Verb.RETRY and changes:
            lanes = sorted({f"mx:{row.domain}" for row in changes["retry"]})
            cursor.execute(_UNBLOCK, {"lanes": lanes, "is_operator": by.is_operator})
    every = [row for changed in changes.values() for row in changed]
    done.changed = len(every)
    done.skipped = +done.skipped
    _tell(Verb(verb), every, by)
    return done


def _reason(by: By) -> str:
    who = "the operator" if by.is_operator else printable(by.actor.name, 320)
    return f"Cancelled by {who}." + (f" {printable(by.note, 255)}" if by.note else "")


def _tell(verb: Verb, rows: Sequence[_Row], by: By) -> None:
    """Into the messages' timelines: one event for a whole message, else one for each recipient."""
    if verb not in _EVENTS or not rows:
        return
    by_message = defaultdict[UUID, list[_Row]](list)
    for row in rows:
        by_message[row.message_id].append(row)
    events = [
        (message_id, recipient_id)
        for message_id, own in by_message.items()
        for recipient_id in ([None] if len(own) == own[0].recipient_count else [row.id for row in own])
    ]
    words: dict[str, Any] = {
        "messages": [message_id for message_id, _id in events],
        "recipients": [recipient_id for _id, recipient_id in events],
        "kind": str(_EVENTS[verb]),
        "actor": printable(by.actor.name, 320),
        "note": printable(by.note, 512),
    }
    with connection.cursor() as cursor:
        cursor.execute(_EVENT, words)


# --- What makes sense -------------------------------------------------------------------------------------------------


def _decide(verb: Verb, row: _Row, *, by: By, is_locked: bool) -> _Change | str:
    """What to do, or why not."""
    if row.state not in ("queued", "held"):
        return GONE
    if not is_locked or row.is_leased:
        return RUNNING
    return _RULES[verb](row, by)


def _hold(row: _Row, by: By) -> _Change | str:
    if row.state == "queued":
        return _Change("hold")
    if row.by_operator is None:  # by the limit; a customer who could hold more of it could fill the store
        return _Change("hold undebited") if by.is_operator else "limit"
    return _Change("take over") if by.is_operator and not row.by_operator else "held already"


def _release(row: _Row, by: By) -> _Change | str:
    if row.state == "queued":
        return "route" if row.is_never else "not held"
    if row.by_operator is None:
        return "limit"
    if row.by_operator and not by.is_operator:
        return "operator"
    return _Change("release" if row.was_debited else "to the limit")


def _retry(row: _Row, _by: By) -> _Change | str:
    if row.state == "held":
        return "limit" if row.by_operator is None else "held"
    if row.is_never:
        return "route"
    return "due" if row.is_due else _Change("retry")


def _cancel(_row: _Row, _by: By) -> _Change | str:
    return _Change("cancel")


def _wake(row: _Row, _by: By) -> _Change | str:
    return _Change("retry") if row.state == "queued" and row.is_never else "not held"


_RULES = cast(
    "dict[Verb, Callable[[_Row, By], _Change | str]]",
    {Verb.HOLD: _hold, Verb.RELEASE: _release, Verb.RETRY: _retry, Verb.CANCEL: _cancel, Verb.WAKE: _wake},
)
