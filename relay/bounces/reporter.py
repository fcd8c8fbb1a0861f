"""Writes what senders are to be told: reports that are due become mail of Gatepost's own.

Shapes  write_due(connection) -> how many mails it wrote. One report for all that is waiting of one message. A sender
        who had REPORTS_AN_HOUR within the hour gets the others in one summary when the hour is over.
        The mail belongs to the system's organization, has the null reverse-path, and debits nobody.
Units   BATCH messages of one call; the delivery loop calls every two seconds. One worker writes at a time.
Errors  psycopg's: the transaction is undone, and the reports are written later.
Source  RFC 3464, RFC 5321 4.5.5; docs/delivery.md, Bounces.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from django.conf import settings
from psycopg.rows import namedtuple_row

from audit.record import new_reference
from relay.bounces.report import RETURN_OCTETS, Original, Told, Written, report, summary
from relay.connections import Connection
from relay.ids import uuid7
from relay.logs import get_logger
from relay.models.messages import Route
from relay.queue import GIVE_UP_AFTER

REPORTS_AN_HOUR = 20  # to one sender; what is more comes in one mail
BATCH = 50
ONE_AT_A_TIME = 0x62_6F_75_6E  # of pg_try_advisory_xact_lock

log = get_logger(__name__)

_DUE = """
SELECT waiting.id, waiting.message_id, waiting.sender, waiting.kind, waiting.at, waiting.code, waiting.enhanced_code,
       waiting.text, waiting.next_hop, waiting.is_folded, own.address, own.dsn_orcpt, message.reference, message.route
FROM relay_report waiting
JOIN relay_recipient own ON own.id = waiting.recipient_id
JOIN relay_message message ON message.id = waiting.message_id
WHERE waiting.written_at IS NULL AND waiting.message_id IN (
    SELECT message_id FROM relay_report WHERE written_at IS NULL AND due_at <= now() ORDER BY due_at LIMIT %(batch)s)
ORDER BY waiting.message_id, own.id
"""
_WRITTEN_LATELY = """
SELECT sender, count(DISTINCT report_id), min(written_at) + interval '1 hour'
FROM relay_report WHERE sender = ANY(%s) AND written_at > now() - interval '1 hour' GROUP BY sender
"""
_FOLDED = """
SELECT waiting.id, waiting.message_id, waiting.sender, waiting.kind, waiting.at, waiting.code, waiting.enhanced_code,
       waiting.text, waiting.next_hop, waiting.is_folded, own.address, own.dsn_orcpt, message.reference, message.route
FROM relay_report waiting
JOIN relay_recipient own ON own.id = waiting.recipient_id
JOIN relay_message message ON message.id = waiting.message_id
WHERE waiting.written_at IS NULL AND waiting.is_folded AND waiting.sender = %s
ORDER BY waiting.at LIMIT 10000
"""
_ORIGINAL = """
SELECT message.id, message.reference, message.reverse_path, message.subject, message.header_message_id,
       message.received_at, message.received_at + %(give_up)s::interval AS give_up_at, message.dsn_ret,
       message.dsn_envid, CASE WHEN message.dsn_ret = 'FULL' AND message.size_octets <= %(most)s THEN data.content
                               ELSE substring(data.content FOR 65536) END AS content
FROM relay_message message LEFT JOIN relay_messagedata data ON data.message_id = message.id
WHERE message.id = ANY(%(messages)s)
"""
# All of the sender's at once: whoever has a hundred thousand failures must not hold up the others' reports.
_FOLD = """
UPDATE relay_report SET is_folded = TRUE, due_at = %(due_at)s
WHERE sender = %(sender)s AND written_at IS NULL AND due_at < %(due_at)s
"""
_DONE = "UPDATE relay_report SET written_at = now(), report_id = %s WHERE id = ANY(%s)"
_ENQUEUE = """
WITH mail AS (
    INSERT INTO relay_message (id, reference, organization_id, reverse_path, header_from, header_message_id, subject,
                               size_octets, recipient_count, route, smtputf8, body_8bit, dsn_ret, dsn_envid,
                               received_at, client_name, tls_version, tls_cipher, mechanism, worker)
    SELECT %(id)s, %(reference)s, system.id, '', %(header_from)s, %(header_message_id)s, %(subject)s, %(size)s, 1,
           %(route)s, %(smtputf8)s, %(is_8bit)s, '', '', %(now)s, 'Gatepost', '', '', '', ''
    FROM accounts_organization system WHERE system.is_system
), data AS (
    INSERT INTO relay_messagedata (message_id, content) VALUES (%(id)s, %(content)s)
)
INSERT INTO relay_recipient (message_id, address, state, due_at, attempts, possibly_delivered, reply, dsn_notify,
                             dsn_orcpt)
VALUES (%(id)s, %(address)s, 'queued', %(now)s, 0, FALSE, '', '', '')
"""


@dataclass(frozen=True, slots=True)
class _Sender:
    """What one sender had within the hour, and when the oldest of it is an hour old."""

    count: int = 0
    room_at: datetime | None = None


async def write_due(connection: Connection, *, batch: int = BATCH) -> int:
    """Everything that is due, in one transaction."""
    async with connection.transaction():
        row = await (await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [ONE_AT_A_TIME])).fetchone()
        if row is None or not row[0]:
            return 0
        async with connection.cursor(row_factory=namedtuple_row) as cursor:
            rows: list[Any] = await (await cursor.execute(_DUE, {"batch": batch})).fetchall()
        return await _write(connection, rows) if rows else 0


async def _write(connection: Connection, rows: Sequence[Any]) -> int:
    senders = await _senders(connection, {row.sender for row in rows})
    written = 0
    by_message = [list(group) for _id, group in groupby(rows, key=lambda row: row.message_id)]
    for sender in [row.sender for row in rows if row.is_folded]:
        if senders[sender].count < REPORTS_AN_HOUR:
            written += await _write_summary(connection, sender)
            senders[sender] = _Sender(REPORTS_AN_HOUR, senders[sender].room_at)  # what is left waits
    single, full = [], set()
    for group in by_message:
        sender = group[0].sender
        if senders[sender].count >= REPORTS_AN_HOUR:
            full.add(sender)
        elif not group[0].is_folded:
            senders[sender] = _Sender(senders[sender].count + 1, senders[sender].room_at)
            single.append(group)
    written += await _write_reports(connection, single)
    for sender in sorted(full):
        await _fold(connection, sender, senders[sender])
    return written


async def _senders(connection: Connection, names: set[str]) -> defaultdict[str, _Sender]:
    found: defaultdict[str, _Sender] = defaultdict(_Sender)
    for sender, count, room_at in await (await connection.execute(_WRITTEN_LATELY, [list(names)])).fetchall():
        found[sender] = _Sender(count, room_at)
    return found


async def _fold(connection: Connection, sender: str, had: _Sender) -> None:
    """Until the oldest of what it had is an hour old. Who had nothing before this turn waits for a whole hour."""
    due_at = had.room_at or datetime.now(UTC) + timedelta(hours=1)
    folded = await connection.execute(_FOLD, {"due_at": due_at, "sender": sender})
    if folded.rowcount:
        log.info("report.folded", reports=folded.rowcount, until=due_at.isoformat())


async def _write_reports(connection: Connection, groups: Sequence[Sequence[Any]]) -> int:
    if not groups:
        return 0
    asked = {"messages": [rows[0].message_id for rows in groups], "most": RETURN_OCTETS, "give_up": GIVE_UP_AFTER}
    async with connection.cursor(row_factory=namedtuple_row, binary=True) as cursor:
        found: list[Any] = await (await cursor.execute(_ORIGINAL, asked)).fetchall()
    originals = {row.id: _original(row) for row in found}
    now = datetime.now(UTC)
    for rows in groups:
        mail = report(originals[rows[0].message_id], [_told(row) for row in rows], now=now)
        await _enqueue(connection, rows[0].sender, mail, rows, now)
    return len(groups)


async def _write_summary(connection: Connection, sender: str) -> int:
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        found: list[Any] = await (await cursor.execute(_FOLDED, [sender])).fetchall()
    rows = [row for row in found if row.route != Route.SANDBOX] or found
    if not rows:
        return 0
    if len({row.message_id for row in rows}) == 1:
        return await _write_reports(connection, [rows])
    now = datetime.now(UTC)
    mail = summary(sender, [(row.reference, _told(row)) for row in rows], now=now)
    await _enqueue(connection, sender, mail, rows, now)
    return 1


def _original(row: Any) -> Original:
    content = bytes(row.content) if row.content is not None else None
    return Original(
        row.id, row.reference, row.reverse_path, row.subject, row.header_message_id, row.received_at, row.give_up_at,
        row.dsn_ret, row.dsn_envid, content,
    )  # fmt: skip


def _told(row: Any) -> Told:
    return Told(row.address, row.dsn_orcpt, row.kind, row.at, row.code, row.enhanced_code, row.text, row.next_hop)


async def _enqueue(connection: Connection, address: str, mail: Written, rows: Sequence[Any], now: datetime) -> UUID:
    """A report on mail of the sandbox stays there too: its sender's address need not be proven, so may be anybody's."""
    message_id, reference, ids = uuid7(), new_reference(), [row.id for row in rows]
    stays = rows[0].route == Route.SANDBOX
    trace = f"Received: by {settings.GATEPOST_HOSTNAME} (Gatepost) id {reference};\r\n\t{format_datetime(now)}\r\n"
    content = trace.encode() + mail.content
    await connection.execute(
        _ENQUEUE,
        {
            "id": message_id,
            "reference": reference,
            "header_from": f"mailer-daemon@{settings.GATEPOST_HOSTNAME}"[:320],
            "header_message_id": mail.header_message_id,
            "subject": mail.subject,
            "size": len(content),
            "route": Route.SANDBOX if stays else settings.GATEPOST_DEFAULT_ROUTE,
            "smtputf8": mail.smtputf8,
            "is_8bit": not content.isascii(),
            "now": now,
            "content": content,
            "address": address,
        },
    )
    await connection.execute(_DONE, [message_id, ids])
    log.info("report.written", reference=reference, message=str(message_id), reports=len(ids))
    return message_id
