"""Durable queue of accepted recipients: what is due, and how a worker claims it.

Shapes  Claim: jobs, each one message with those of its recipients that go the same way, under a lease token of its own.
        lane: what goes the same way: `mx:<domain>`, `smarthost:<route>`, or the route's kind.
        relay.settling writes down what became of them, relay.leases keeps, returns and recovers leases.
Units   lease_seconds: how long a worker may be silent. retry_seconds: until the next attempt. All time is PostgreSQL's.
Errors  LeaseLostError: another worker has, or may have, the message: no final dot may be sent. psycopg's own otherwise.
Source  RFC 5321 4.5.4.1 (retry), 6.1 (duty after 250); docs/delivery.md, The queue.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Greatest
from django.utils import timezone

from relay import chosen_routes
from relay.connections import Connection
from relay.models import DeliveryAttempt, Recipient
from relay.models.messages import NEVER, REQUIRETLS

LEASE_SECONDS = 60.0
GIVE_UP_AFTER = timedelta(days=5)
RETRY_SECONDS = (60, 5 * 60, 15 * 60, 30 * 60, 3600, 2 * 3600, 4 * 3600)
JITTER = 0.1  # so that what failed together does not return together
WINDOW = 2000  # how far a claim looks past recipients for whom there is no room
OLDEST = 200  # by due_at that are looked at for the oldest
SMALL_OCTETS = 32 * 1024  # content up to this comes with the claim

Outcome = DeliveryAttempt.Outcome


class LeaseLostError(Exception):
    """The lease lapsed or was not renewed in time."""


@dataclass(frozen=True, slots=True)
class ClaimedRecipient:
    id: int
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
    received_at: datetime
    recipients: tuple[ClaimedRecipient, ...]
    destination: str = ""  # of route mx: the domain of these recipients
    named: str = ""  # the named route as JSON, for relay.routes; empty: the built-in one
    reference: str = ""
    dsn_ret: str = ""
    dsn_envid: str = ""
    lane: str = ""
    failures: int = 0  # of the lane, one after the other, until now
    content: bytes | None = field(default=None, repr=False)  # of a small message
    organization_id: int = 0  # with header_from: whose keys sign it
    header_from: str = ""

    @property
    def requires_tls(self) -> bool:
        return self.dsn_ret == REQUIRETLS


@dataclass(frozen=True, slots=True)
class Claim:
    """parked: recipients put aside (suspended organization, route hold, next hop in trouble), by lane."""

    jobs: tuple[Job, ...]
    parked: Mapping[str, int] = field(default_factory=dict)

    @property
    def recipients(self) -> int:
        return sum(len(job.recipients) for job in self.jobs)

    @property
    def rows(self) -> int:
        """As many as the limit: more may be due behind them."""
        return self.recipients + sum(self.parked.values())


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker has room for. full: lanes of which it takes no more now.

    slow: lanes that are full and hardly move, with the seconds after which their mail is looked at again: it is put
    aside, so that the claims need not pass it each time.
    """

    routes: Sequence[str]
    full: Sequence[str] = ()
    slow: Mapping[str, float] = field(default_factory=dict)


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
    attempt_id: int | None = None  # where the mark before the final dot made a row
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


def oldest_due_at(*, leased: bool = False) -> datetime | None:
    """Since when the first that is due waits. Gatepost's own mail is due before it comes: it waits from then on."""
    waiting = Recipient.objects.filter(state=Recipient.State.QUEUED, due_at__lte=timezone.now())
    waiting = waiting if leased else waiting.filter(lease__isnull=True)
    since = waiting.order_by("due_at").values_list(Greatest("due_at", "message__received_at"), flat=True)
    return min(since[:OLDEST], default=None)


# --- Claim -----------------------------------------------------------------------------------------------------------
# `waiting` walks the partial index recipient_due from one end and stops as soon as `due` has enough. The conditions on
# `own` are asked again after its lock was got, so of two workers only one sees the row. What waits for a next hop that
# is in trouble is put aside until that is over, but not beyond the end of its five days.

_CLAIM = f"""
WITH waiting AS (
    SELECT id, message_id FROM relay_recipient
    WHERE state = 'queued' AND lease IS NULL AND due_at <= now()
    ORDER BY due_at {{order}} LIMIT %(window)s
), due AS (
    SELECT own.id, own.address, mail.*, way.lane,
           CASE WHEN mail.route = 'hold' THEN 'hold'
                WHEN mail.state IN ('suspended', 'held') THEN 'suspended'
                WHEN way.lane IN (SELECT lane FROM relay_nexthoptrouble WHERE blocked_until > now())
                     AND mail.received_at > now() - %(give_up)s THEN 'blocked'
                WHEN way.lane IN (SELECT unnest(%(slow)s::text[])) THEN 'slow'
                ELSE '' END AS parked_for
    FROM waiting
    CROSS JOIN LATERAL (
        SELECT message.id AS message_id, {chosen_routes.KIND} AS route, named.id AS named_id, named.changed_at,
               customer.state, message.received_at, message.reverse_path, message.smtputf8, message.size_octets,
               message.reference, message.dsn_ret, message.dsn_envid, message.organization_id, message.header_from
        FROM relay_message message
        JOIN accounts_organization customer ON customer.id = message.organization_id
        {chosen_routes.JOINS}
        WHERE message.id = waiting.message_id LIMIT 1
    ) mail
    JOIN relay_recipient own ON own.id = waiting.id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN mail.route = 'mx' THEN 'mx:' || lower(substring(own.address from '[^@]*$'))
                    WHEN mail.route <> 'smarthost' THEN mail.route
                    WHEN mail.named_id IS NULL THEN 'smarthost:' || %(smarthost)s::text
                    ELSE 'smarthost:' || mail.named_id || ':' || extract(epoch FROM mail.changed_at)::bigint
                    END AS lane
    ) way
    WHERE own.state = 'queued' AND own.lease IS NULL AND own.due_at <= now()
      AND (mail.route = 'hold' OR mail.state IN ('suspended', 'held')
           OR mail.route = ANY(%(routes)s::text[]) AND NOT way.lane IN (SELECT unnest(%(full)s::text[])))
    LIMIT %(limit)s FOR NO KEY UPDATE OF own SKIP LOCKED
), parked AS (
    UPDATE relay_recipient own
    SET due_at = CASE WHEN due.parked_for = 'hold' THEN %(never)s::timestamptz
                      WHEN due.parked_for = 'suspended' THEN now() + interval '40 seconds' * (1 + random() / 2)
                      WHEN due.parked_for = 'blocked'
                          THEN trouble.blocked_until + (trouble.blocked_until - now()) * random() * 0.1
                      ELSE now() + slow.seconds * (0.5 + random()) * interval '1 second' END,
        reply = CASE WHEN due.parked_for = 'blocked' THEN trouble.last_reply ELSE own.reply END
    FROM due LEFT JOIN relay_nexthoptrouble trouble ON trouble.lane = due.lane
    LEFT JOIN unnest(%(slow)s::text[], %(slow_seconds)s::float8[]) slow (lane, seconds) ON slow.lane = due.lane
    WHERE own.id = due.id AND due.parked_for <> '' RETURNING due.lane
), leased AS (
    SELECT tokens.*, row_number() OVER together = 1 AS is_first, first_value(own_token) OVER together AS token
    FROM (SELECT due.*, gen_random_uuid() AS own_token FROM due WHERE due.parked_for = '') tokens
    WINDOW together AS (PARTITION BY message_id, lane ORDER BY id)
), claimed AS (
    UPDATE relay_recipient own
    SET lease = leased.token, leased_until = now() + %(lease)s * interval '1 second', attempts = own.attempts + 1
    FROM leased WHERE own.id = leased.id
    RETURNING leased.*, own.attempts, own.dsn_notify, own.dsn_orcpt
)
SELECT claimed.id, address, attempts, dsn_notify, dsn_orcpt, token, claimed.message_id, route, claimed.lane,
       reverse_path, smtputf8, size_octets, reference, dsn_ret, dsn_envid, received_at,
       CASE WHEN is_first THEN row_to_json(named)::text END,
       CASE WHEN is_first THEN trouble.failures END, data.content, organization_id, header_from
FROM claimed
LEFT JOIN relay_namedroute named ON named.id = claimed.named_id
LEFT JOIN relay_nexthoptrouble trouble ON trouble.lane = claimed.lane
LEFT JOIN relay_messagedata data
     ON data.message_id = claimed.message_id AND is_first AND size_octets <= %(small)s AND route <> 'sandbox'
UNION ALL
SELECT NULL, '', count(*)::int, '', '', NULL, NULL, '', lane, '', false, 0, '', '', '', NULL, NULL, NULL, NULL, 0, ''
FROM parked GROUP BY lane
ORDER BY message_id, token, id
"""  # noqa: S608  # made of constants
OLDEST_FIRST, NEWEST_FIRST = _CLAIM.format(order=""), _CLAIM.format(order="DESC")


async def claim(
    connection: Connection,
    *,
    limit: int,
    room: Room,
    lease_seconds: float = LEASE_SECONDS,
    window: int = WINDOW,
    newest_first: bool = False,
) -> Claim:
    """Leases up to `limit` recipients that are due and for which there is room, oldest first, grouped by their way."""
    text = NEWEST_FIRST if newest_first else OLDEST_FIRST
    cursor = connection.cursor(binary=True)
    parameters = claim_parameters(limit=limit, room=room, lease_seconds=lease_seconds, window=window)
    await cursor.execute(text, parameters, prepare=True)
    rows: list[Any] = await cursor.fetchall()
    taken = [row for row in rows if row[0] is not None]
    jobs = tuple(_job(list(group)) for _lease, group in groupby(taken, key=lambda row: row[5]))
    return Claim(jobs, {row[8]: row[2] for row in rows if row[0] is None})


def claim_parameters(*, limit: int, room: Room, lease_seconds: float, window: int) -> dict[str, Any]:
    return {
        "limit": limit,
        "routes": list(room.routes),
        "full": list(room.full),
        "slow": list(room.slow),
        "slow_seconds": list(room.slow.values()),
        "lease": lease_seconds,
        "window": window,
        "never": NEVER,
        "give_up": GIVE_UP_AFTER,
        "small": SMALL_OCTETS,
        "smarthost": f"{settings.GATEPOST_SMARTHOST}:{settings.GATEPOST_SMARTHOST_PORT}",
        "default_route": settings.GATEPOST_DEFAULT_ROUTE,
    }


def _job(rows: list[Any]) -> Job:
    (_id, _address, _attempts, _notify, _orcpt, lease, message_id, route, lane, reverse_path, smtputf8, size_octets,
     reference, dsn_ret, dsn_envid, received_at, named, failures, content, organization_id,
     header_from) = rows[0]  # fmt: skip
    return Job(
        lease=lease,
        message_id=message_id,
        route=route,
        reverse_path=reverse_path,
        smtputf8=smtputf8,
        size_octets=size_octets,
        received_at=received_at,
        recipients=tuple([ClaimedRecipient(*row[:5]) for row in rows]),
        destination=lane[3:] if route == "mx" else "",
        named=named or "",
        reference=reference,
        dsn_ret=dsn_ret,
        dsn_envid=dsn_envid,
        lane=lane,
        failures=failures or 0,
        content=content,
        organization_id=organization_id,
        header_from=header_from,
    )
