"""What a settle means for senders and for addresses: reports to be written, addresses to be suppressed.

Shapes  after_settle(connection, results) is one of relay.after_settle.hooks; it writes in the settle's transaction.
        note_reports() and suppress() are its halves, which late bounces use too.
Units   DELAY_AFTER: from the acceptance to the warning. COLLECT_SECONDS: how long a report waits for other recipients
        of the same message that fail meanwhile.
Errors  psycopg's. Nothing is asked of the database unless a recipient failed, is late, or its success is to be told.
Source  RFC 3461 4.1 (NOTIFY), 5.2; RFC 3464 2.3.3; RFC 5321 4.5.5 (no report for the null reverse-path), 6.1.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.after_settle import Settled, apart
from relay.bounces.classify import SUSPICION_DAYS, classify
from relay.bounces.read import answer_of
from relay.connections import Connection
from relay.models.bounces import Report
from relay.models.messages import Recipient
from relay.queue import Settlement
from relay.suppressions import suppression_key
from relay.webhooks import outbox
from relay.webhooks.outbox import Suppressed

DELAY_AFTER = timedelta(hours=4)
COLLECT_SECONDS = 5.0

Kind = Report.Kind
State = Recipient.State


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to be told of one recipient."""

    recipient_id: int
    kind: str
    code: int | None = None
    enhanced: str = ""
    text: str = ""
    next_hop: str = ""


async def after_settle(connection: Connection, results: Sequence[Settled]) -> None:
    now = datetime.now(UTC)
    notes = [note for job, settlement, state in results if (note := _note(job.received_at, settlement, state, now))]
    failed = [note for note in notes if note.kind == Kind.FAILED]
    if not notes:
        return
    async with apart(connection, "bounces"):
        await note_reports(connection, notes)
        await suppress(connection, failed)


def _note(received_at: datetime, done: Settlement, state: str, now: datetime) -> Note | None:
    kind = _kind(received_at, done, state, now)
    if kind is None:
        return None
    return Note(done.recipient.id, kind, done.code, done.enhanced_code[:9], done.text[:512], done.next_hop[:255])


def _kind(received_at: datetime, done: Settlement, state: str, now: datetime) -> str | None:
    if state == State.FAILED:
        return Kind.FAILED
    if state == State.QUEUED:
        return Kind.DELAYED if now - received_at >= DELAY_AFTER else None
    if state == State.DELIVERED and done.recipient.dsn_notify and not done.dsn_passed:
        return Kind.RELAYED if "SUCCESS" in done.recipient.dsn_notify.upper() else None
    return None


# NOTIFY decides (RFC 3461 4.1); without it a sender hears of failure and delay. A failure is told again only if
# the mail was tried again after it had been told.
_NOTE = """
INSERT INTO relay_report AS told (recipient_id, kind, message_id, organization_id, sender, at, due_at, code,
                                  enhanced_code, text, next_hop, is_folded)
SELECT own.id, given.kind, message.id, message.organization_id, message.reverse_path, now(),
       now() + %(collect)s * interval '1 second', given.code, given.enhanced, given.text, given.next_hop, FALSE
FROM unnest(%(recipient)s::bigint[], %(kind)s::text[], %(code)s::int[], %(enhanced)s::text[], %(text)s::text[],
            %(next_hop)s::text[]) AS given (recipient, kind, code, enhanced, text, next_hop)
JOIN relay_recipient own ON own.id = given.recipient
JOIN relay_message message ON message.id = own.message_id
JOIN accounts_organization customer ON customer.id = message.organization_id
WHERE message.reverse_path <> '' AND NOT customer.is_system
  AND CASE given.kind WHEN 'failed' THEN own.dsn_notify = '' OR own.dsn_notify ILIKE '%%FAILURE%%'
                      WHEN 'delayed' THEN own.dsn_notify = '' OR own.dsn_notify ILIKE '%%DELAY%%'
                      ELSE own.dsn_notify ILIKE '%%SUCCESS%%' END
ON CONFLICT (recipient_id, kind) DO UPDATE
SET at = excluded.at, due_at = excluded.due_at, code = excluded.code, enhanced_code = excluded.enhanced_code,
    text = excluded.text, next_hop = excluded.next_hop, written_at = NULL, report_id = NULL
WHERE excluded.kind = 'failed' AND told.written_at IS NOT NULL
"""


async def note_reports(connection: Connection, notes: Sequence[Note]) -> int:
    """Rows for the reporter, of those whose senders want to be told. Returns how many."""
    columns: dict[str, Any] = {
        "collect": COLLECT_SECONDS,
        "recipient": [note.recipient_id for note in notes],
        "kind": [str(note.kind) for note in notes],
        "code": [note.code for note in notes],
        "enhanced": [note.enhanced for note in notes],
        "text": [note.text for note in notes],
        "next_hop": [note.next_hop for note in notes],
    }
    return (await connection.execute(_NOTE, columns)).rowcount


# --- Suppression -----------------------------------------------------------------------------------------------------

# Of what is certain nothing earlier is asked, and what is suppressed already is passed by: else of ten thousand
# failures of one address each would read all the others.
_EARLIER = """
SELECT own.id, own.address, message.organization_id, message.reference, CASE WHEN own.id = ANY(%(doubtful)s) THEN
       ARRAY(SELECT before.reply FROM relay_recipient before JOIN relay_message mail ON mail.id = before.message_id
             WHERE before.address = own.address AND before.id <> own.id AND before.state = 'failed'
               AND before.settled_at > now() - %(days)s * interval '1 day'
               AND mail.organization_id = message.organization_id
             ORDER BY before.settled_at DESC LIMIT 10) ELSE '{}' END
FROM relay_recipient own JOIN relay_message message ON message.id = own.message_id
JOIN accounts_organization customer ON customer.id = message.organization_id
WHERE own.id = ANY(%(recipients)s) AND NOT customer.is_system
  AND NOT EXISTS (SELECT FROM relay_suppression known WHERE known.organization_id = message.organization_id
                  AND known.address = lower(own.address))
"""
_SUPPRESS = """
INSERT INTO relay_suppression (organization_id, address, source, reason, reference, created_at, created_by)
SELECT DISTINCT ON (organization, address) organization, address, 'bounce', reason, reference, now(), ''
FROM unnest(%(organization)s::bigint[], %(address)s::text[], %(reason)s::text[], %(reference)s::text[])
     AS given (organization, address, reason, reference)
ORDER BY organization, address
ON CONFLICT DO NOTHING RETURNING organization_id, address, reason, reference
"""
# An smtpd asks about recipients only of organizations that have suppressions: the first one must be told.
_ANNOUNCE = """
INSERT INTO relay_credentialchange (at, organization_id, ends_sessions)
SELECT now(), id, FALSE FROM unnest(%(organizations)s::bigint[], %(made)s::int[]) AS first (id, made)
WHERE made >= (SELECT count(*) FROM (SELECT FROM relay_suppression WHERE organization_id = first.id LIMIT made + 1) few)
"""


async def suppress(connection: Connection, failed: Iterable[Note]) -> int:
    """Addresses that take no mail, by the threshold of relay.bounces.classify. Returns how many are new."""
    judged = {note.recipient_id: (note, classify(note.code, note.enhanced, note.text)) for note in failed}
    speaking = [recipient_id for recipient_id, (_note, verdict) in judged.items() if verdict.suppresses]
    if not speaking:
        return 0
    doubtful = [recipient_id for recipient_id in speaking if not judged[recipient_id][1].is_certain]
    asked = {"recipients": speaking, "doubtful": doubtful, "days": SUSPICION_DAYS}
    rows = await (await connection.execute(_EARLIER, asked)).fetchall()
    gone = [row for row in rows if judged[row[0]][1].is_certain or _is_suspected(row[4])]
    if not gone:
        return 0
    columns = {
        "organization": [row[2] for row in gone],
        "address": [suppression_key(row[1]) for row in gone],
        "reason": [_reason(judged[row[0]][0]) for row in gone],
        "reference": [row[3] for row in gone],
    }
    new = await (await connection.execute(_SUPPRESS, columns)).fetchall()
    if new:
        made = Counter(row[0] for row in new)
        await connection.execute(_ANNOUNCE, {"organizations": list(made), "made": list(made.values())})
        await outbox.asuppressed(connection, [Suppressed(row[0], row[1], "bounce", row[2], row[3]) for row in new])
    return len(new)


def _is_suspected(replies: Iterable[str]) -> bool:
    """An earlier failure of the same address spoke against it too."""
    return any(classify(*answer_of(reply)).suppresses for reply in replies)


def _reason(note: Note) -> str:
    return " ".join(str(part) for part in (note.code, note.enhanced, note.text) if part)[:512]
