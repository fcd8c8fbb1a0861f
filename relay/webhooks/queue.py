"""The outbox as a queue: claimed under a lease, settled in batches, taken back from workers that died.

Shapes  claim() -> Jobs, a few of each endpoint that has something due. settle() writes what became of them and what
        that says of their endpoints. Django's connection, one for the thread that calls.
Units   RETRY_SECONDS: after the first, second, … try, as Standard Webhooks proposes: 75 hours in all. LEASE_SECONDS: a
        post takes relay.webhooks.posting.SECONDS at most. FAILING: after so long without a success it is disabled.
Errors  Those of the database; posts whose results are lost with it are made again when their leases end.
Source  Standard Webhooks, Deliverability and reliability; docs/webhooks.md.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any, Final
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.utils import timezone
from psycopg.types.json import Jsonb

from audit.changes import SYSTEM
from relay.logs import get_logger
from relay.webhooks import endpoints
from relay.webhooks.lanes import WIDTH_FIRST, Room
from relay.webhooks.models import TRIES_KEPT, Delivery, Endpoint
from relay.webhooks.posting import GONE, Job, Outcome

RETRY_SECONDS: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER: Final = 0.1
AGE_MAX: Final = timedelta(days=4)  # pauses of a failing endpoint do not count as tries: so old, it is given up
LEASE_SECONDS: Final = 90
FAILING: Final = timedelta(days=3)
FAILING_LEAST: Final = 10  # tries
PATIENCE: Final = 3  # failures, one after the other, before an endpoint is left alone for a while
PAUSE_SECONDS_MAX: Final = 300

log = get_logger(__name__)

# `busy` steps from endpoint to endpoint in the partial index: a million that wait for one cost one step.
_CLAIM: Final = """
WITH RECURSIVE busy AS (
    (SELECT endpoint_id, due_at FROM webhook_delivery WHERE state = 'waiting' AND lease IS NULL
     ORDER BY endpoint_id, due_at LIMIT 1)
    UNION ALL
    SELECT next.endpoint_id, next.due_at FROM busy CROSS JOIN LATERAL (
        SELECT endpoint_id, due_at FROM webhook_delivery
        WHERE state = 'waiting' AND lease IS NULL AND endpoint_id > busy.endpoint_id
        ORDER BY endpoint_id, due_at LIMIT 1
    ) next
), ready AS (
    SELECT endpoint.id, coalesce(known.room, %(room)s) AS room, coalesce(known.is_poor, false) AS is_poor
    FROM busy JOIN webhook_endpoint endpoint ON endpoint.id = busy.endpoint_id
    JOIN accounts_organization customer ON customer.id = endpoint.organization_id AND customer.state <> 'suspended'
    LEFT JOIN unnest(%(ids)s::bigint[], %(rooms)s::int[], %(poor)s::bool[]) AS known (id, room, is_poor)
         ON known.id = endpoint.id
    WHERE busy.due_at <= statement_timestamp() AND endpoint.disabled_at IS NULL AND endpoint.deleted_at IS NULL
      AND coalesce(endpoint.paused_until, '-infinity') <= statement_timestamp() AND coalesce(known.room, %(room)s) > 0
    ORDER BY random()
), good AS (
    SELECT own.id FROM ready CROSS JOIN LATERAL (
        SELECT id FROM webhook_delivery
        WHERE endpoint_id = ready.id AND state = 'waiting' AND lease IS NULL AND due_at <= statement_timestamp()
        ORDER BY due_at LIMIT ready.room FOR NO KEY UPDATE SKIP LOCKED
    ) own WHERE NOT ready.is_poor LIMIT %(limit)s
), poor AS (
    SELECT own.id FROM ready CROSS JOIN LATERAL (
        SELECT id FROM webhook_delivery
        WHERE endpoint_id = ready.id AND state = 'waiting' AND lease IS NULL AND due_at <= statement_timestamp()
        ORDER BY due_at LIMIT ready.room FOR NO KEY UPDATE SKIP LOCKED
    ) own WHERE ready.is_poor LIMIT %(poor_limit)s
), due AS (SELECT id FROM good UNION ALL SELECT id FROM poor)
UPDATE webhook_delivery row
SET lease = %(lease)s, leased_until = statement_timestamp() + %(seconds)s * interval '1 second'
FROM due, webhook_endpoint endpoint
WHERE row.id = due.id AND endpoint.id = row.endpoint_id
RETURNING row.id, row.endpoint_id, endpoint.url, endpoint.secret,
          CASE WHEN endpoint.previous_secret_until > statement_timestamp() THEN endpoint.previous_secret END,
          row.event_id, row.type, row.occurred_at, row.data::text, row.attempts, row.created_at, row.organization_id
"""
_SETTLE: Final = """
UPDATE webhook_delivery row
SET state = given.state, lease = NULL, leased_until = NULL, attempts = row.attempts + 1, last_status = given.status,
    due_at = statement_timestamp() + given.retry * interval '1 second',
    settled_at = CASE WHEN given.state = 'waiting' THEN NULL ELSE clock_timestamp() END,
    tries = CASE WHEN jsonb_array_length(row.tries) >= %(kept)s THEN (row.tries - 0) || given.try
                 ELSE row.tries || given.try END
FROM unnest(%(id)s::bigint[], %(lease)s::uuid[], %(state)s::text[], %(status)s::int[], %(retry)s::float8[],
            %(try)s::jsonb[]) AS given (id, lease, state, status, retry, try)
WHERE row.id = given.id AND row.lease = given.lease
"""
# Of those that did well only the ones that this is news of; in the order of ids, since other workers lock them too.
_LOCK_ENDPOINTS: Final = """
SELECT id FROM webhook_endpoint
WHERE id = ANY(%(bad)s) OR (id = ANY(%(good)s) AND (failures > 0 OR failing_since IS NOT NULL
      OR last_success_at IS NULL OR last_success_at < statement_timestamp() - interval '1 minute'))
ORDER BY id FOR NO KEY UPDATE
"""
_SUCCEEDED: Final = """
UPDATE webhook_endpoint
SET failures = 0, failing_since = NULL, paused_until = NULL, last_success_at = statement_timestamp()
WHERE id = ANY(%s)
"""
_FAILED: Final = """
UPDATE webhook_endpoint
SET failures = failures + %(count)s, last_problem = %(words)s,
    failing_since = coalesce(failing_since, statement_timestamp()),
    paused_until = CASE WHEN %(after)s > 0 THEN statement_timestamp() + %(after)s * interval '1 second'
                        WHEN failures + %(count)s >= %(patience)s
                        THEN statement_timestamp()
                             + least(5 * 2 ^ least(failures + %(count)s - %(patience)s, 10), %(most)s)
                             * (0.9 + random() / 5) * interval '1 second' END
WHERE id = %(id)s AND disabled_at IS NULL
RETURNING failures, failing_since
"""
_RECOVER: Final = """
WITH lapsed AS (
    SELECT id FROM webhook_delivery WHERE lease IS NOT NULL AND leased_until < statement_timestamp()
    LIMIT 5000 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE webhook_delivery row SET lease = NULL, leased_until = NULL FROM lapsed WHERE row.id = lapsed.id
"""


@dataclass(frozen=True, slots=True)
class Done:
    job: Job
    lease: UUID
    outcome: Outcome


def claim(room: Room) -> tuple[UUID, list[Job]]:
    lease, now = uuid4(), monotonic()
    values: dict[str, Any] = {
        "limit": room.good,
        "poor_limit": room.poor,
        "room": WIDTH_FIRST,
        "ids": list(room.of),
        "rooms": [each for each, _is_poor in room.of.values()],
        "poor": [is_poor for _each, is_poor in room.of.values()],
        "lease": lease,
        "seconds": LEASE_SECONDS,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, values)
        return lease, [_job(row, now) for row in cursor.fetchall()]


def _job(row: Sequence[Any], now: float) -> Job:
    id, endpoint_id, url, secret, previous, event_id, type, occurred_at, data, attempts, created_at, owner = row
    secrets = tuple(bytes(each) for each in (secret, previous) if each is not None)
    return Job(id, endpoint_id, url, secrets, event_id, type, occurred_at, data, attempts, created_at, now, owner)


def settle(done: Sequence[Done]) -> None:
    """In one transaction. A delivery whose lease has ended is left to whom has it now."""
    verdicts = [_verdict(each) for each in done]
    values: dict[str, Any] = {
        "kept": TRIES_KEPT,
        "id": [each.job.id for each in done],
        "lease": [each.lease for each in done],
        "state": [str(state) for state, _retry in verdicts],
        "status": [each.outcome.status for each in done],
        "retry": [float(retry) for _state, retry in verdicts],  # psycopg sends no list of ints and floats
        "try": [Jsonb(each.outcome.as_try()) for each in done],
    }
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_SETTLE, values)
        ended = _judge_endpoints(done)
    for endpoint_id, why in ended:  # each in a transaction of its own: it ends with the lock of a chain of changes
        endpoints.disable_endpoint(Endpoint(pk=endpoint_id), actor=SYSTEM, why=why)
        log.warning("webhook.disabled", endpoint_id=endpoint_id, why=str(why))


def _verdict(done: Done) -> tuple[Delivery.State, float]:
    """Its state now, and seconds until the next try."""
    if done.outcome.is_success:
        return Delivery.State.DELIVERED, 0.0
    tries = done.job.attempts + 1
    if done.outcome.status == GONE or tries > len(RETRY_SECONDS) or timezone.now() - done.job.created_at > AGE_MAX:
        return Delivery.State.FAILED, 0.0
    spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # spreads load, hides nothing
    return Delivery.State.WAITING, max(RETRY_SECONDS[tries - 1] * spread, done.outcome.retry_after)


def _judge_endpoints(done: Sequence[Done]) -> list[tuple[int, Endpoint.Why]]:
    """One success says that it works; only failures that nothing interrupts count against it. Which are to end."""
    by_endpoint: dict[int, list[Outcome]] = defaultdict(list)
    for each in done:
        by_endpoint[each.job.endpoint_id].append(each.outcome)
    good = {pk for pk, outcomes in by_endpoint.items() if any(each.is_success for each in outcomes)}
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_ENDPOINTS, {"good": list(good), "bad": list(set(by_endpoint) - good)})
        locked = [row[0] for row in cursor.fetchall()]
        if news := [pk for pk in locked if pk in good]:
            cursor.execute(_SUCCEEDED, [news])
    verdicts = [(pk, _blame(pk, by_endpoint[pk])) for pk in locked if pk not in good]
    return [(pk, why) for pk, why in verdicts if why is not None]


def _blame(endpoint_id: int, outcomes: Sequence[Outcome]) -> Endpoint.Why | None:
    """Counts its failures, and leaves it alone for a while when there are many. Why it must end, if it must."""
    values: dict[str, Any] = {
        "id": endpoint_id,
        "count": len(outcomes),
        "words": outcomes[-1].words,
        "after": max(each.retry_after for each in outcomes),
        "patience": PATIENCE,
        "most": PAUSE_SECONDS_MAX,
    }
    with connection.cursor() as cursor:
        cursor.execute(_FAILED, values)
        row = cursor.fetchone()
    if row is None:
        return None
    failures, since = row
    if any(each.status == GONE for each in outcomes):
        return Endpoint.Why.GONE
    is_over = failures >= FAILING_LEAST and timezone.now() - since > FAILING
    return Endpoint.Why.FAILING if is_over else None


def give_back(ids: Sequence[int], leases: Sequence[UUID]) -> None:
    """Claimed, and not posted after all."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE webhook_delivery SET lease = NULL, leased_until = NULL WHERE id = ANY(%s) AND lease = ANY(%s)",
            [list(ids), list(leases)],
        )


def recover() -> int:
    """Takes back what died with its worker: posted perhaps, and posted again under the same id."""
    with connection.cursor() as cursor:
        cursor.execute(_RECOVER)
        return int(cursor.rowcount)
