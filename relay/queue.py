"""Durable queue of accepted recipients: claim, settle, renew, recover.

Shapes  Claim: jobs, each one message with those of its recipients that are due, under a lease token of its own.
        A leased recipient has exactly one attempt row that is not finished; settle(), give_back(), recover() end both.
Units   lease_seconds: how long a worker may be silent. retry_seconds: until the next attempt. All time is PostgreSQL's.
Errors  LeaseLostError: another worker has, or may have, the message: no final dot may be sent. psycopg's own otherwise.
Source  RFC 5321 4.5.4.1 (retry), 6.1 (duty after 250).
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from django.conf import settings
from psycopg.rows import namedtuple_row

from relay import chosen_routes
from relay.connections import Connection
from relay.models import DeliveryAttempt, Recipient
from relay.models.messages import NEVER

LEASE_SECONDS = 60.0
GIVE_UP_AFTER = "5 days"
RETRY_SECONDS = (60, 5 * 60, 15 * 60, 30 * 60, 3600, 2 * 3600, 4 * 3600)
JITTER = 0.1  # so that what failed together does not return together
WINDOW = 5000  # how far a claim looks past recipients whose route has no room

Outcome = DeliveryAttempt.Outcome


class LeaseLostError(Exception):
    """The lease lapsed or was not renewed in time."""


@dataclass(frozen=True, slots=True)
class ClaimedRecipient:
    id: int
    attempt_id: int
    address: str
    attempts: int  # this one included
    dsn_notify: str = ""  # RFC 3461, as the client gave them
    dsn_orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One message to one destination: what the client needs, without the content."""

    lease: UUID
    message_id: UUID
    route: str
    reverse_path: str
    smtputf8: bool
    size_octets: int
    recipients: tuple[ClaimedRecipient, ...]
    destination: str = ""  # of route mx: the domain of these recipients
    named: str = ""  # the named route as JSON, for relay.routes; empty: the built-in one
    reference: str = ""
    dsn_ret: str = ""
    dsn_envid: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """parked: recipients put aside (suspended organization, route hold); more may be due behind them."""

    jobs: tuple[Job, ...]
    parked: int

    @property
    def recipients(self) -> int:
        return sum(len(job.recipients) for job in self.jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one recipient in one attempt."""

    recipient: ClaimedRecipient
    outcome: str
    started_at: datetime
    code: int | None = None
    enhanced_code: str = ""
    text: str = ""
    next_hop: str = ""
    next_hop_ip: str | None = None
    tls_version: str = ""
    reached_final_dot: bool = False
    possibly_delivered: bool = False  # the final dot was sent, its answer never came
    dsn_passed: bool = False  # the next hop was given the DSN options: what is to be told of success, it tells
    host_failed: bool = False  # nothing was said about this recipient: another host of its destination may take it
    conversation: str = ""  # what was said and heard, bounded, without passwords and content

    @property
    def reply(self) -> str:
        return " ".join(str(part) for part in (self.code, self.enhanced_code, self.text) if part)[:512]


def retry_seconds(attempts: int) -> float:
    """Until the next attempt, after so many."""
    step = RETRY_SECONDS[min(max(attempts, 1), len(RETRY_SECONDS)) - 1]
    return step * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # spreads load, hides nothing


def message_state(states: Iterable[str]) -> str:
    """One word for a message from its recipients' states."""
    seen = set(states)
    for waiting in (Recipient.State.QUEUED, Recipient.State.HELD):
        if waiting in seen:
            return str(waiting)
    if Recipient.State.DELIVERED in seen:
        return "delivered" if len(seen) == 1 else "partly delivered"
    return "failed" if Recipient.State.FAILED in seen else "cancelled"


# --- Claim -----------------------------------------------------------------------------------------------------------
# `waiting` walks the partial index recipient_due from its oldest end and stops as soon as `due` has enough. The
# conditions on `own` are asked again after its lock was got, so of two workers only one sees the row.

_CLAIM = f"""
WITH waiting AS (
    SELECT id, message_id FROM relay_recipient
    WHERE state = 'queued' AND lease IS NULL AND due_at <= now()
    ORDER BY due_at LIMIT %(window)s
), due AS (
    SELECT own.id, own.message_id, mail.route, mail.named_id, mail.route = 'hold' AS is_hold,
           mail.state = 'suspended' AS is_suspended,
           CASE WHEN mail.route = 'mx' THEN lower(substring(own.address from '[^@]*$')) ELSE '' END AS destination
    FROM waiting
    CROSS JOIN LATERAL (
        SELECT {chosen_routes.KIND} AS route, named.id AS named_id, customer.state FROM relay_message message
        JOIN accounts_organization customer ON customer.id = message.organization_id
        {chosen_routes.JOINS}
        WHERE message.id = waiting.message_id LIMIT 1
    ) mail
    JOIN relay_recipient own ON own.id = waiting.id
    WHERE own.state = 'queued' AND own.lease IS NULL AND own.due_at <= now()
      AND (mail.route = 'hold' OR mail.state = 'suspended' OR mail.route = ANY(%(routes)s))
    LIMIT %(limit)s FOR NO KEY UPDATE OF own SKIP LOCKED
), parked AS (
    UPDATE relay_recipient own
    SET due_at = CASE WHEN due.is_hold THEN %(never)s ELSE now() + interval '40 seconds' * (1 + random() / 2) END
    FROM due WHERE own.id = due.id AND (due.is_hold OR due.is_suspended) RETURNING 1
), token AS MATERIALIZED (
    SELECT message_id, destination, gen_random_uuid() AS lease FROM due GROUP BY message_id, destination
), claimed AS (
    UPDATE relay_recipient own
    SET lease = token.lease, leased_until = now() + %(lease)s * interval '1 second', attempts = own.attempts + 1
    FROM due JOIN token ON token.message_id = due.message_id AND token.destination = due.destination
    WHERE own.id = due.id AND NOT due.is_hold AND NOT due.is_suspended
    RETURNING own.id, own.message_id, own.lease, own.address, own.attempts, own.dsn_notify, own.dsn_orcpt,
              due.destination, due.route, due.named_id
), attempt AS (
    INSERT INTO relay_deliveryattempt (recipient_id, number, started_at, outcome, route, next_hop, tls_version,
                                       reached_final_dot, enhanced_code, text, worker)
    SELECT claimed.id, claimed.attempts, clock_timestamp(), '', claimed.route, '', '', false, '', '', %(worker)s
    FROM claimed
    RETURNING id, recipient_id
)
SELECT (SELECT count(*) FROM parked) AS parked, taken.*
FROM (VALUES (1)) one LEFT JOIN (
    SELECT claimed.id, attempt.id AS attempt_id, claimed.address, claimed.attempts, claimed.lease, claimed.message_id,
           claimed.route, message.reverse_path, message.smtputf8, message.size_octets, message.reference,
           message.dsn_ret, message.dsn_envid, claimed.dsn_notify, claimed.dsn_orcpt, claimed.destination,
           coalesce(row_to_json(named)::text, '') AS named
    FROM claimed JOIN attempt ON attempt.recipient_id = claimed.id
    JOIN relay_message message ON message.id = claimed.message_id
    LEFT JOIN relay_namedroute named ON named.id = claimed.named_id
    ORDER BY claimed.message_id, claimed.lease, claimed.id
) taken ON true
"""


async def claim(
    connection: Connection,
    *,
    limit: int,
    routes: Sequence[str],
    worker: str,
    lease_seconds: float = LEASE_SECONDS,
    window: int = WINDOW,
) -> Claim:
    """Leases up to `limit` recipients that are due on these routes, oldest first, grouped by message."""
    parameters = {
        "limit": limit,
        "routes": list(routes),
        "worker": worker,
        "lease": lease_seconds,
        "window": window,
        "never": NEVER,
        "default_route": settings.GATEPOST_DEFAULT_ROUTE,
    }
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        rows: list[Any] = await (await cursor.execute(_CLAIM, parameters)).fetchall()
    taken = [row for row in rows if row.id is not None]
    jobs = tuple(_job(list(group)) for _lease, group in groupby(taken, key=lambda row: row.lease))
    return Claim(jobs, rows[0].parked)


def _job(rows: list[Any]) -> Job:
    first = rows[0]
    return Job(
        lease=first.lease,
        message_id=first.message_id,
        route=first.route,
        reverse_path=first.reverse_path,
        smtputf8=first.smtputf8,
        size_octets=first.size_octets,
        recipients=tuple(
            ClaimedRecipient(row.id, row.attempt_id, row.address, row.attempts, row.dsn_notify, row.dsn_orcpt)
            for row in rows
        ),
        destination=first.destination,
        named=first.named,
        reference=first.reference,
        dsn_ret=first.dsn_ret,
        dsn_envid=first.dsn_envid,
    )


# --- Settle ----------------------------------------------------------------------------------------------------------

_SETTLE = """
WITH given AS (
    SELECT * FROM unnest(
        %(recipient)s::bigint[], %(attempt)s::bigint[], %(lease)s::uuid[], %(outcome)s::text[], %(retry)s::float8[],
        %(possibly)s::bool[], %(reply)s::text[], %(started)s::timestamptz[], %(next_hop)s::text[], %(ip)s::inet[],
        %(tls)s::text[], %(dot)s::bool[], %(code)s::int[], %(enhanced)s::text[], %(text)s::text[]
    ) AS given (recipient, attempt, lease, outcome, retry, possibly, reply, started, next_hop, ip, tls, dot, code,
                enhanced, text)
), judged AS (
    SELECT given.*, message.received_at + %(give_up)s::interval AS ends_at,
           CASE WHEN outcome <> 'deferred' THEN outcome
                WHEN message.received_at + %(give_up)s::interval <= now() THEN 'failed'
                ELSE 'queued' END AS state
    FROM given JOIN relay_recipient own ON own.id = given.recipient
    JOIN relay_message message ON message.id = own.message_id
), settled AS (
    UPDATE relay_recipient own
    SET state = judged.state, lease = NULL, leased_until = NULL,
        due_at = CASE WHEN judged.state = 'queued'
                      THEN least(now() + judged.retry * interval '1 second', judged.ends_at) ELSE own.due_at END,
        settled_at = CASE WHEN judged.state = 'queued' THEN NULL ELSE clock_timestamp() END,
        possibly_delivered = own.possibly_delivered OR judged.possibly,
        reply = CASE WHEN judged.outcome = 'deferred' AND judged.state = 'failed'
                     THEN left('Given up after ' || %(give_up)s || '. The last answer: ' || judged.reply, 512)
                     ELSE judged.reply END
    FROM judged WHERE own.id = judged.recipient AND own.lease = judged.lease
    RETURNING own.id, judged.attempt
)
UPDATE relay_deliveryattempt row
SET started_at = judged.started, finished_at = clock_timestamp(), outcome = judged.outcome, next_hop = judged.next_hop,
    next_hop_ip = judged.ip, tls_version = judged.tls, reached_final_dot = row.reached_final_dot OR judged.dot,
    code = judged.code, enhanced_code = judged.enhanced, text = judged.text
FROM judged JOIN settled ON settled.attempt = judged.attempt
WHERE row.id = judged.attempt
RETURNING row.recipient_id
"""


async def settle(connection: Connection, settlements: Sequence[tuple[Job, Settlement]]) -> set[int]:
    """Writes down what became of each recipient, with its attempt, in one transaction. Returns whom it still owned.

    A recipient whose lease has passed to another worker is left to that worker.
    """
    columns: dict[str, Any] = {
        "give_up": GIVE_UP_AFTER,
        "recipient": [done.recipient.id for _job, done in settlements],
        "attempt": [done.recipient.attempt_id for _job, done in settlements],
        "lease": [job.lease for job, _done in settlements],
        "outcome": [done.outcome for _job, done in settlements],
        "retry": [retry_seconds(done.recipient.attempts) for _job, done in settlements],
        "possibly": [done.possibly_delivered for _job, done in settlements],
        "reply": [done.reply for _job, done in settlements],
        "started": [done.started_at for _job, done in settlements],
        "next_hop": [done.next_hop[:255] for _job, done in settlements],
        "ip": [done.next_hop_ip for _job, done in settlements],
        "tls": [done.tls_version for _job, done in settlements],
        "dot": [done.reached_final_dot for _job, done in settlements],
        "code": [done.code for _job, done in settlements],
        "enhanced": [done.enhanced_code for _job, done in settlements],
        "text": [done.text[:512] for _job, done in settlements],
    }
    rows = await (await connection.execute(_SETTLE, columns)).fetchall()
    return {row[0] for row in rows}


# --- Leases ----------------------------------------------------------------------------------------------------------

_RENEW = """
WITH renewed AS (
    UPDATE relay_recipient SET leased_until = now() + %s * interval '1 second' WHERE lease = ANY(%s) RETURNING lease
) SELECT DISTINCT lease FROM renewed
"""
_MARK_FINAL_DOT = """
UPDATE relay_deliveryattempt SET reached_final_dot = true
FROM relay_recipient own
WHERE relay_deliveryattempt.id = ANY(%s) AND own.id = relay_deliveryattempt.recipient_id AND own.lease = %s
"""
# The attempt that was lost counts, and the next comes at once; a message that kills its workers comes later and later.
_RECOVER = """
WITH lapsed AS (
    SELECT id FROM relay_recipient WHERE lease IS NOT NULL AND leased_until < now()
    LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
), lost AS (
    UPDATE relay_deliveryattempt row
    SET finished_at = clock_timestamp(), outcome = 'lost', text = 'The worker stopped during the attempt.'
    FROM lapsed WHERE row.recipient_id = lapsed.id AND row.finished_at IS NULL
    RETURNING row.recipient_id, row.reached_final_dot
)
UPDATE relay_recipient own
SET lease = NULL, leased_until = NULL, due_at = now() + greatest(own.attempts - 2, 0) * interval '1 minute',
    possibly_delivered = own.possibly_delivered OR coalesce(lost.reached_final_dot, false)
FROM lapsed LEFT JOIN lost ON lost.recipient_id = lapsed.id
WHERE own.id = lapsed.id
"""
_GIVE_BACK = """
WITH undone AS (
    DELETE FROM relay_deliveryattempt row USING relay_recipient own
    WHERE own.lease = ANY(%s) AND row.recipient_id = own.id AND row.finished_at IS NULL AND NOT row.reached_final_dot
    RETURNING row.recipient_id
)
UPDATE relay_recipient own SET lease = NULL, leased_until = NULL, attempts = own.attempts - 1
FROM undone WHERE own.id = undone.recipient_id
"""


async def renew(connection: Connection, leases: Sequence[UUID], *, lease_seconds: float = LEASE_SECONDS) -> set[UUID]:
    """Prolongs these leases. Returns those that are still held."""
    rows = await (await connection.execute(_RENEW, [lease_seconds, list(leases)])).fetchall()
    return {row[0] for row in rows}


async def mark_final_dot(connection: Connection, job: Job, recipients: Sequence[ClaimedRecipient]) -> None:
    """Commits that the final dot is about to be sent to them, so that a death after it is not taken for one before."""
    done = await connection.execute(_MARK_FINAL_DOT, [[recipient.attempt_id for recipient in recipients], job.lease])
    if done.rowcount != len(recipients):
        raise LeaseLostError(str(job.lease))


async def recover(connection: Connection) -> int:
    """Takes recipients back from workers that have been silent for longer than their lease."""
    return (await connection.execute(_RECOVER)).rowcount


async def give_back(connection: Connection, leases: Sequence[UUID]) -> int:
    """Undoes claims whose mail was not offered to the end: as if they had never been made."""
    return (await connection.execute(_GIVE_BACK, [list(leases)])).rowcount
