"""Leases on recipients: prolonged while a worker lives, given back when it ends, recovered when it died.

Shapes  A recipient with a lease is being tried. Of its attempt there is a row from the final dot on (relay.settling).
Units   lease_seconds: how long a worker may be silent. All time is PostgreSQL's.
Errors  psycopg's own.
Source  docs/flow.md, When something dies.
"""

from collections.abc import Sequence
from uuid import UUID

from relay.connections import Connection
from relay.queue import LEASE_SECONDS

_RENEW = """
WITH renewed AS (
    UPDATE relay_recipient SET leased_until = now() + %s * interval '1 second' WHERE lease = ANY(%s) RETURNING lease
) SELECT DISTINCT lease FROM renewed
"""
# The attempt that was lost counts, and the next comes at once; a message that kills its workers comes later and later.
_RECOVER = """
WITH lapsed AS (
    SELECT id, message_id, attempts, leased_until FROM relay_recipient
    WHERE lease IS NOT NULL AND leased_until < now()
    LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
), lost AS (
    UPDATE relay_deliveryattempt row
    SET finished_at = clock_timestamp(), outcome = 'lost', text = %(words)s
    FROM lapsed WHERE row.recipient_id = lapsed.id AND row.finished_at IS NULL
    RETURNING row.recipient_id
), made AS (
    INSERT INTO relay_deliveryattempt (recipient_id, number, started_at, finished_at, outcome, route, next_hop,
                                       tls_version, reached_final_dot, enhanced_code, text, worker)
    SELECT lapsed.id, lapsed.attempts, lapsed.leased_until - %(lease)s * interval '1 second', clock_timestamp(), 'lost',
           message.route, '', '', false, '', %(words)s, ''
    FROM lapsed JOIN relay_message message ON message.id = lapsed.message_id
    WHERE lapsed.id NOT IN (SELECT recipient_id FROM lost)
)
UPDATE relay_recipient own
SET lease = NULL, leased_until = NULL, due_at = now() + greatest(own.attempts - 2, 0) * interval '1 minute',
    possibly_delivered = own.possibly_delivered OR lost.recipient_id IS NOT NULL
FROM lapsed LEFT JOIN lost ON lost.recipient_id = lapsed.id
WHERE own.id = lapsed.id
"""
LOST = "The worker stopped during the attempt."
# What had reached the final dot stays leased: it may have been taken.
_GIVE_BACK = """
UPDATE relay_recipient own
SET lease = NULL, leased_until = NULL, attempts = own.attempts - 1,
    due_at = CASE WHEN %s::float8 > 0 THEN now() + %s * (0.5 + random()) * interval '1 second' ELSE own.due_at END
WHERE own.lease = ANY(%s)
  AND NOT EXISTS (SELECT FROM relay_deliveryattempt row WHERE row.recipient_id = own.id AND row.finished_at IS NULL)
"""


async def renew(connection: Connection, leases: Sequence[UUID], *, lease_seconds: float = LEASE_SECONDS) -> set[UUID]:
    """Prolongs these leases. Returns those that are still held."""
    rows = await (await connection.execute(_RENEW, [lease_seconds, list(leases)])).fetchall()
    return {row[0] for row in rows}


async def recover(connection: Connection) -> int:
    """Takes recipients back from workers that have been silent for longer than their lease."""
    return (await connection.execute(_RECOVER, {"words": LOST, "lease": LEASE_SECONDS})).rowcount


async def give_back(connection: Connection, leases: Sequence[UUID], *, wait_seconds: float = 0) -> int:
    """Undoes claims whose mail was not offered to the end: as if they had never been made, but for the wait."""
    done = await connection.execute(_GIVE_BACK, [wait_seconds, wait_seconds, list(leases)])
    return done.rowcount
