"""What came to a return path, written onto the recipient whose mail it was.

Shapes  record(connection, Token, reports, client_ip) -> what was done: for the log, and for nobody else.
        A failure after delivery turns the recipient to failed ("Bounced later: …"), and goes the way of every failure:
        report to the sender, suppression, events. A delay and a success are told to the sender, where NOTIFY asks.
Units   BOUNCES_MAX rows of one recipient; what comes beyond them is taken and left out.
Errors  psycopg's: nothing is written, and the peer is told to come again.
Source  RFC 3464 2.3.3; docs/delivery.md, Mail that bounces later.

A token for several recipients proves nothing about one of them (relay.bounces.verp): its reports are written down and
told, and suppress nobody.
"""

from collections.abc import Sequence
from typing import Any

from psycopg.rows import namedtuple_row

from relay.bounces.classify import classify
from relay.bounces.hook import Note, note_reports, suppress
from relay.bounces.read import Reported
from relay.bounces.verp import Token
from relay.connections import Connection
from relay.logs import get_logger
from relay.models.bounces import Report
from relay.suppressions import suppression_key
from relay.webhooks import outbox

BOUNCES_MAX = 5
LATE = "Bounced later: "

Kind = Report.Kind
# What a report's action means for the sender who asked.
KINDS = {
    "failed": Kind.FAILED,
    "delayed": Kind.DELAYED,
    "delivered": Kind.DELIVERED,
    "relayed": Kind.RELAYED,
    "expanded": Kind.DELIVERED,
}

log = get_logger(__name__)

_FIND = """
SELECT own.id, own.address, message.id AS message_id, message.organization_id,
       (SELECT count(*) FROM relay_latebounce late WHERE late.recipient_id = own.id) AS bounces
FROM relay_message message JOIN relay_recipient own ON own.message_id = message.id
WHERE message.reference = %(reference)s AND (%(recipient)s = 0 OR own.id = %(recipient)s)
ORDER BY own.id LIMIT 1000
FOR NO KEY UPDATE OF own
"""
_KEEP = """
INSERT INTO relay_latebounce (recipient_id, at, action, bounce_class, is_hard, code, enhanced_code, text, reporter,
                              client_ip)
SELECT %(recipient)s, now(), %(action)s::text, %(class)s::text, %(is_hard)s, %(code)s::int, %(enhanced)s::text,
       %(text)s::text, %(reporter)s::text, %(client_ip)s::inet
WHERE NOT EXISTS (SELECT FROM relay_latebounce WHERE recipient_id = %(recipient)s AND action = %(action)s
                  AND enhanced_code = %(enhanced)s AND text = %(text)s)
"""
_TURN = """
UPDATE relay_recipient SET state = 'failed', settled_at = clock_timestamp(), reply = left(%s::text || %s::text, 512)
WHERE id = %s AND state = 'delivered'
"""


async def record(connection: Connection, token: Token, reports: Sequence[Reported], *, client_ip: str) -> str:
    """All of one mail in one transaction."""
    if not reports:
        return "no report"
    async with connection.transaction():
        found = {"reference": token.reference, "recipient": token.recipient_id}
        async with connection.cursor(row_factory=namedtuple_row) as cursor:
            rows: list[Any] = await (await cursor.execute(_FIND, found)).fetchall()
        if not rows:
            return "no such recipient"
        done = [
            await _apply(connection, row, each, is_own=token.recipient_id != 0, client_ip=client_ip)
            for row, each in _pairs(rows, reports, is_own=token.recipient_id != 0)
        ]
    return ", ".join(dict.fromkeys(done)) or "nobody named"


def _pairs(rows: Sequence[Any], reports: Sequence[Reported], *, is_own: bool) -> list[tuple[Any, Reported]]:
    """A token's own recipient whatever the report calls it: mail is forwarded. Of several, those that are named."""
    if is_own:
        # The worst counts, should a mailing list behind the address report on many.
        order = ("failed", "delayed", "relayed", "expanded", "delivered")
        return [(rows[0], min(reports, key=lambda each: order.index(each.action)))]
    by_address = {suppression_key(row.address): row for row in rows}
    found: dict[int, tuple[Any, Reported]] = {}
    for each in reports:
        for address in each.recipients:
            if row := by_address.get(suppression_key(address)):
                found.setdefault(row.id, (row, each))
    return list(found.values())


async def _apply(connection: Connection, row: Any, said: Reported, *, is_own: bool, client_ip: str) -> str:
    if row.bounces >= BOUNCES_MAX:
        return "too many"
    verdict = classify(said.code, said.enhanced, said.text)
    is_failure = said.action == "failed"
    kept = await connection.execute(
        _KEEP,
        {
            "recipient": row.id,
            "action": said.action,
            "class": verdict.bounce_class if is_failure else "",
            "is_hard": is_failure and verdict.is_hard,
            "code": said.code,
            "enhanced": said.enhanced[:9],
            "text": said.text[:512],
            "reporter": said.reporter[:255],
            "client_ip": client_ip,
        },
    )
    if not kept.rowcount:
        return "known already"
    if is_failure:
        return await _failed(connection, row, said, is_own=is_own)
    note = Note(row.id, KINDS[said.action], said.code, said.enhanced[:9], said.text[:512], said.reporter[:255])
    await note_reports(connection, [note])
    return said.action


async def _failed(connection: Connection, row: Any, said: Reported, *, is_own: bool) -> str:
    answer = " ".join(str(part) for part in (said.code, said.enhanced, said.text) if part)
    if not (await connection.execute(_TURN, [LATE, answer, row.id])).rowcount:
        return "not delivered before"  # it failed already, or is tried again: the settle has told, or will
    note = Note(row.id, Kind.FAILED, said.code, said.enhanced[:9], said.text[:512], said.reporter[:255])
    await note_reports(connection, [note])
    if is_own:
        await suppress(connection, [note])
    words = f"{LATE}{said.text}"[:512]
    late = outbox.LateBounced(row.message_id, row.organization_id, row.address, said.code, said.enhanced[:9], words)
    await outbox.abounced_late(connection, [late])
    return "bounced later"
