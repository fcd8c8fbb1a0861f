"""Exact rolling limits, in PostgreSQL, in the transaction that accepts.

Shapes  Need: what one message asks of the windows. OverLimit: which limit was in the way, and for how long.
        Windows are rows of LimitWindow, locked in the order (scope, id): organizations, SMTP users, addresses.
Units   limits: accepted recipients in a rolling hour. Time: PostgreSQL's clock_timestamp() read after the lock.
Errors  None of its own; 40P01 and 40001 are the caller's to retry.
Source  relay/windows.py for the arithmetic; docs/flow.md for the transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from psycopg import AsyncConnection

from relay.models import LimitWindow
from relay.windows import BUCKETS, Window

ORGANIZATION, SMTP_USER, IP = LimitWindow.Scope.ORGANIZATION, LimitWindow.Scope.SMTP_USER, LimitWindow.Scope.IP
HOLD_HOURS = 24  # what an organization may have held at once, in hours of its limit


class Key(NamedTuple):
    """Whose window: the organization's, an SMTP user's, or that of one address of an SMTP user."""

    scope: int
    owner_id: int
    ip: str | None = None


@dataclass(slots=True)
class Row:
    id: int
    window: Window
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """What one message asks: the windows that bind it, each with its limit, and how many recipients."""

    limits: tuple[tuple[Key, int], ...]
    count: int


@dataclass(frozen=True, slots=True)
class OverLimit:
    """No room: which limit, its number, and whole seconds until the message would fit (None: it never will)."""

    scope: int
    limit: int
    used: int
    seconds: int | None

    @property
    def room(self) -> int:
        return max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Usage:
    """An organization's hour. per_minute: the oldest minute first, the running one last."""

    limit: int
    used: int
    seconds_until_room: int
    per_minute: list[int]

    @property
    def room(self) -> int:
        return max(0, self.limit - self.used)


def decide(need: Need, rows: dict[Key, Row], *, now: float) -> OverLimit | None:
    """Debits every window of the message, or none and says which one is in the way the longest. rows are locked."""
    in_the_way = []
    for key, limit in need.limits:
        window = rows[key].window
        window.advance(int(now // 60))
        if window.used + need.count > limit:
            seconds = window.seconds_until(need.count, limit=limit, now=now)
            in_the_way.append(OverLimit(key.scope, limit, window.used, seconds))
    if in_the_way:
        return max(in_the_way, key=lambda over: inf if over.seconds is None else over.seconds)
    for key, _limit in need.limits:
        rows[key].window.add(need.count)
        rows[key].changed = True
    return None


# --- Statements: the same text for the writer (async) and for pages and releases (sync) -----------------------------

MAKE_ROWS = """
    INSERT INTO relay_limitwindow (scope, owner_id, ip, minute, buckets)
    SELECT scope, owner_id, ip, 0, array_fill(0, ARRAY[61])
    FROM unnest(%s::smallint[], %s::bigint[], %s::inet[]) AS wanted (scope, owner_id, ip)
    ORDER BY scope, owner_id, ip
    ON CONFLICT DO NOTHING
"""
LOCK_ROWS = """
    SELECT id, scope, owner_id, host(ip), minute, buckets FROM relay_limitwindow
    WHERE id IN (
        SELECT held.id
        FROM unnest(%s::smallint[], %s::bigint[], %s::inet[]) AS wanted (scope, owner_id, ip)
        JOIN relay_limitwindow held ON held.scope = wanted.scope AND held.owner_id = wanted.owner_id
             AND held.ip IS NOT DISTINCT FROM wanted.ip)
    ORDER BY scope, id FOR NO KEY UPDATE
"""
SAVE_ROWS = """
    UPDATE relay_limitwindow SET minute = saved.minute, buckets = saved.buckets::int[]
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS saved (id, minute, buckets)
    WHERE relay_limitwindow.id = saved.id
"""
READ_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


def key_arrays(keys: Iterable[Key]) -> tuple[list[int], list[int], list[str | None]]:
    ordered = sorted(set(keys), key=lambda key: (key.scope, key.owner_id, key.ip or ""))
    return [key.scope for key in ordered], [key.owner_id for key in ordered], [key.ip for key in ordered]


def rows_from(records: Iterable[Sequence[Any]]) -> dict[Key, Row]:
    """The answer of LOCK_ROWS by key."""
    return {
        Key(scope, owner_id, ip): Row(id, Window(minute, list(buckets)))
        for id, scope, owner_id, ip, minute, buckets in records
    }


def save_arrays(rows: dict[Key, Row]) -> tuple[list[int], list[int], list[str]] | None:
    """The parameters of SAVE_ROWS, or None if nothing changed."""
    changed = [row for row in rows.values() if row.changed]
    if not changed:
        return None
    texts = ["{" + ",".join(map(str, row.window.buckets)) + "}" for row in changed]
    return [row.id for row in changed], [row.window.minute for row in changed], texts


def keys_and_limits(
    organization_id: int,
    organization_limit: int,
    *,
    smtp_user_id: int | None,
    smtp_user_limit: int | None,
    ip: str | None,
    ip_limit: int | None,
) -> tuple[tuple[Key, int], ...]:
    """Every limit that binds a message, the organization's first."""
    found = [(Key(ORGANIZATION, organization_id), organization_limit)]
    if smtp_user_id is not None and smtp_user_limit is not None:
        found.append((Key(SMTP_USER, smtp_user_id), smtp_user_limit))
    if smtp_user_id is not None and ip is not None and ip_limit is not None:
        found.append((Key(IP, smtp_user_id, ip), ip_limit))
    return tuple(found)


# --- Reading without a lock ------------------------------------------------------------------------------------------


def usage_of(organization_id: int) -> Usage:
    """An organization's hour as it stands, read without a lock: for pages and the header's meter."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT plan.recipients_per_hour, held.minute, held.buckets, extract(epoch FROM clock_timestamp())::float8
            FROM accounts_subscription bought JOIN accounts_plan plan ON plan.id = bought.plan_id
            LEFT JOIN relay_limitwindow held ON held.scope = 1 AND held.owner_id = bought.organization_id
            WHERE bought.organization_id = %s
            """,
            [organization_id],
        )
        record = cursor.fetchone()
    if record is None:
        return Usage(0, 0, 0, [0] * BUCKETS)
    limit, minute, buckets, now = record
    window = Window(minute, list(buckets)) if buckets else Window(int(now // 60))
    window.advance(int(now // 60))
    return Usage(limit, window.used, window.seconds_until(1, limit=limit, now=now) or 0, window.by_age())


def lock_organization(organization_id: int) -> None:
    """Locks an organization's limit row until the transaction ends: nothing of it is accepted meanwhile."""
    assert connection.in_atomic_block
    arrays = key_arrays([Key(ORGANIZATION, organization_id)])
    with connection.cursor() as cursor:
        cursor.execute(MAKE_ROWS, arrays)
        cursor.execute(LOCK_ROWS, arrays)


# --- Held mail -------------------------------------------------------------------------------------------------------

# What somebody holds by hand is never due (relay.models.messages.NEVER), and no room releases it.
HELD_ORGANIZATIONS = """
    SELECT DISTINCT message.organization_id FROM relay_recipient held
    JOIN relay_message message ON message.id = held.message_id
    JOIN accounts_organization customer ON customer.id = message.organization_id
    WHERE held.state = 'held' AND held.due_at < '9999-01-01 00:00+00' AND customer.state NOT IN ('suspended', 'held')
"""
HELD_MESSAGES = """
    SELECT message.id, message.smtp_user_id, host(message.client_ip), count(*), plan.recipients_per_hour,
           smtp_user.recipients_per_hour, smtp_user.recipients_per_hour_per_ip
    FROM relay_message message
    JOIN relay_recipient held ON held.message_id = message.id AND held.state = 'held'
         AND held.due_at < '9999-01-01 00:00+00'
    JOIN accounts_organization customer ON customer.id = message.organization_id
         AND customer.state NOT IN ('suspended', 'held')
    JOIN accounts_subscription bought ON bought.organization_id = message.organization_id
    JOIN accounts_plan plan ON plan.id = bought.plan_id
    LEFT JOIN relay_smtpuser smtp_user ON smtp_user.id = message.smtp_user_id
    WHERE message.organization_id = %(organization_id)s
      AND (message.smtp_user_id = ANY(%(full_users)s)) IS NOT TRUE
      AND NOT EXISTS (SELECT FROM unnest(%(full_ip_users)s::bigint[], %(full_ips)s::inet[]) AS own (smtp_user_id, ip)
                      WHERE own.smtp_user_id = message.smtp_user_id AND own.ip = message.client_ip)
    GROUP BY message.id, plan.recipients_per_hour, smtp_user.recipients_per_hour, smtp_user.recipients_per_hour_per_ip
    -- A limit lowered since may be less than the message: it waits for a higher one, and holds nobody else up.
    HAVING count(*) <= least(plan.recipients_per_hour, smtp_user.recipients_per_hour,
                             smtp_user.recipients_per_hour_per_ip)
    ORDER BY message.received_at, message.id LIMIT %(batch)s
"""
# No more of a message than was counted and debited: an operator may have given more of it back to the limit meanwhile.
RELEASE = """
    WITH released AS (
        UPDATE relay_recipient SET state = 'queued', due_at = clock_timestamp()
        WHERE state = 'held' AND due_at < '9999-01-01 00:00+00' AND id IN (
            SELECT own.id FROM unnest(%s::uuid[], %s::int[]) AS debited (message_id, number) CROSS JOIN LATERAL (
                SELECT id FROM relay_recipient WHERE message_id = debited.message_id AND state = 'held'
                AND due_at < '9999-01-01 00:00+00' ORDER BY id LIMIT debited.number) own)
        RETURNING message_id
    )
    INSERT INTO relay_messageevent (message_id, at, kind, actor, note)
    SELECT DISTINCT message_id, clock_timestamp(), 'released', '', '' FROM released
"""


async def release_held(conn: AsyncConnection[Any], *, batch: int = 200) -> int:
    """Releases held mail that fits by now, oldest first, debited as it goes. Returns recipients released.

    The connection must be in autocommit; each organization has a transaction of its own.
    """
    released = 0
    organizations = await (await conn.execute(HELD_ORGANIZATIONS)).fetchall()
    for (organization_id,) in organizations:
        async with conn.transaction():
            released += await _release_of(conn, organization_id, batch)
    return released


async def _release_of(conn: AsyncConnection[Any], organization_id: int, batch: int) -> int:
    # The organization's row first: two workers that release at once read the held messages one after the other.
    arrays = key_arrays([Key(ORGANIZATION, organization_id)])
    await conn.execute(MAKE_ROWS, arrays)
    await conn.execute(LOCK_ROWS, arrays)
    full: set[Key] = set()
    while True:
        needs = await _held_needs(conn, organization_id, full, batch)
        fitting = await _debit(conn, needs, full)
        # As long as everything read waits for a full window, there may be mail of others behind it.
        if fitting or len(needs) < batch or Key(ORGANIZATION, organization_id) in full:
            return sum(count for _id, count in fitting)


async def _held_needs(
    conn: AsyncConnection[Any], organization_id: int, full: set[Key], batch: int
) -> list[tuple[UUID, Need]]:
    """The oldest held messages that none of the full windows binds, and what each asks."""
    of_ip = [key for key in full if key.scope == IP]
    words = {
        "organization_id": organization_id,
        "full_users": [key.owner_id for key in full if key.scope == SMTP_USER],
        "full_ip_users": [key.owner_id for key in of_ip],
        "full_ips": [key.ip for key in of_ip],
        "batch": batch,
    }
    messages = await (await conn.execute(HELD_MESSAGES, words)).fetchall()
    return [
        (
            message_id,
            Need(
                keys_and_limits(
                    organization_id,
                    plan_limit,
                    smtp_user_id=smtp_user_id,
                    smtp_user_limit=user_limit,
                    ip=ip,
                    ip_limit=ip_limit,
                ),
                count,
            ),
        )
        for message_id, smtp_user_id, ip, count, plan_limit, user_limit, ip_limit in messages
    ]


async def _debit(conn: AsyncConnection[Any], needs: list[tuple[UUID, Need]], full: set[Key]) -> list[tuple[UUID, int]]:
    """Releases what fits and returns it; the windows that the rest waits for are added to full."""
    # The organization's row is held, so nobody else has its SMTP users' rows: their order does not matter any more.
    arrays = key_arrays(key for _id, need in needs for key, _limit in need.limits)
    await conn.execute(MAKE_ROWS, arrays)
    rows = rows_from(await (await conn.execute(LOCK_ROWS, arrays)).fetchall())
    record = await (await conn.execute(READ_CLOCK)).fetchone()
    assert record is not None
    fitting = _fitting(needs, rows, full, now=record[0])
    if parameters := save_arrays(rows):
        await conn.execute(SAVE_ROWS, parameters)
        await conn.execute(RELEASE, [[message_id for message_id, _n in fitting], [number for _id, number in fitting]])
    return fitting


def _fitting(
    needs: list[tuple[UUID, Need]], rows: dict[Key, Row], full: set[Key], *, now: float
) -> list[tuple[UUID, int]]:
    """What fits, in order. What does not fit a window closes it: nothing younger of that window overtakes it."""
    fitting = []
    for message_id, need in needs:
        if any(key in full for key, _limit in need.limits):
            continue
        over = decide(need, rows, now=now)
        if over is None:
            fitting.append((message_id, need.count))
        else:
            full.update(key for key, _limit in need.limits if key.scope == over.scope)
    return fitting
