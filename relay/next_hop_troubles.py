"""Next hops in trouble: what every worker knows of the lanes in which nothing goes.

Shapes  A lane's failures, one after the other, and until when nothing is tried in it. failed() and recovered() are
        told by whoever tried; claims put aside what waits for a blocked lane (relay.queue).
Units   BLOCK_SECONDS: after the first, second ... failure in a row.
Errors  psycopg's own.
Source  docs/delivery.md, The queue.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from relay.connections import Connection
from relay.models import NextHopTrouble

BLOCK_SECONDS = (0.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)  # the first may be a mishap: the next message is the test
FORGET_AFTER = timedelta(days=1)

# What failed while the lane was blocked had begun before: it tells nothing new.
_FAILED = """
INSERT INTO relay_nexthoptrouble AS known (lane, failures, blocked_until, since, last_reply)
VALUES (%(lane)s, 1, now(), now(), %(words)s)
ON CONFLICT (lane) DO UPDATE SET
    failures = CASE WHEN known.blocked_until > now() THEN known.failures ELSE known.failures + 1 END,
    blocked_until = CASE WHEN known.blocked_until > now() THEN known.blocked_until
        ELSE now() + interval '1 second' * (%(steps)s::float8[])[least(known.failures + 1, cardinality(%(steps)s))] END,
    last_reply = excluded.last_reply
RETURNING failures, extract(epoch FROM blocked_until - now())::float8
"""
_BLOCKED = """
SELECT lane, failures, extract(epoch FROM blocked_until - now())::float8 FROM relay_nexthoptrouble
WHERE lane = ANY(%s) AND blocked_until > now()
"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """failures: in a row. seconds: until something is tried again; 0 means that the next message is a test."""

    failures: int
    seconds: float


async def failed(connection: Connection, lane: str, words: str) -> Trouble:
    """Nothing goes in this lane, and why."""
    parameters = {"lane": lane, "words": words[:512], "steps": list(BLOCK_SECONDS)}
    row = await (await connection.execute(_FAILED, parameters)).fetchone()
    assert row is not None
    return Trouble(row[0], max(0.0, row[1]))


async def recovered(connection: Connection, lane: str) -> None:
    """A message has gone: the trouble is over."""
    await connection.execute("DELETE FROM relay_nexthoptrouble WHERE lane = %s", [lane])


async def blocked(connection: Connection, lanes: list[str]) -> dict[str, Trouble]:
    """Those of these lanes in which nothing is tried now."""
    rows = await (await connection.execute(_BLOCKED, [lanes])).fetchall()
    return {lane: Trouble(failures, seconds) for lane, failures, seconds in rows}


def forget_old() -> int:
    """Of lanes for which no mail has come since: they begin anew. Returns how many."""
    return NextHopTrouble.objects.filter(blocked_until__lt=timezone.now() - FORGET_AFTER).delete()[0]
