"""Events, written where they happen, in the transaction of what they tell.

Shapes  on_settled is a hook of relay.after_settle, on_anomaly one of audit.anomalies.hooks. suppressed(), asuppressed()
        and abounced_late() are called by who writes suppressions and late bounces, those with an a in front on a
        connection of asyncio. write_test() is the button's. Each inserts one row for every endpoint that wants it, and
        asks nothing of the database where nobody does.
Units   occurred_at: PostgreSQL's clock.
Errors  Those of the database; within a settle they undo the events alone (relay.after_settle.apart).
Source  docs/webhooks.md, Events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from django.db import connection
from django.utils import timezone
from psycopg.types.json import Jsonb

from audit.anomalies.hooks import AnomalyEvent
from audit.record import redacted
from relay import alerts
from relay.after_settle import Settled, apart
from relay.connections import Connection
from relay.models import Recipient
from relay.webhooks import interest
from relay.webhooks.kinds import TEST, Event
from relay.webhooks.models import Delivery, Endpoint

COLUMNS: Final = """
    (event_id, endpoint_id, organization_id, type, occurred_at, data, created_at, state, due_at, attempts, tries)
"""
FRESH: Final = "clock_timestamp(), 'waiting', clock_timestamp(), 0, '[]'::jsonb"  # the columns after data
WANTS: Final = """
    endpoint.disabled_at IS NULL AND endpoint.deleted_at IS NULL
    AND (endpoint.smtp_user_ids = '{}' OR message.smtp_user_id = ANY(endpoint.smtp_user_ids))
"""
OF_MESSAGE: Final = """
    'message_id', message.id, 'reference', message.reference, 'header_message_id', message.header_message_id,
    'smtp_user', smtp_user.username
"""
_OF_RECIPIENTS: Final = f"""
    INSERT INTO webhook_delivery {COLUMNS}
    SELECT given.event_id, endpoint.id, message.organization_id, given.type, clock_timestamp(),
           jsonb_build_object({OF_MESSAGE}, 'recipient', given.address, 'state', given.state, 'code', given.code,
                              'enhanced_code', given.enhanced, 'words', given.words, 'attempt', given.attempt),
           {FRESH}
    FROM unnest(%(event_id)s::uuid[], %(message)s::uuid[], %(type)s::text[], %(address)s::text[], %(state)s::text[],
                %(code)s::int[], %(enhanced)s::text[], %(words)s::text[], %(attempt)s::int[])
         AS given (event_id, message_id, type, address, state, code, enhanced, words, attempt)
    JOIN relay_message message ON message.id = given.message_id
    JOIN webhook_endpoint endpoint ON endpoint.organization_id = message.organization_id
         AND given.type = ANY(endpoint.events) AND {WANTS}
    LEFT JOIN relay_smtpuser smtp_user ON smtp_user.id = message.smtp_user_id
    ON CONFLICT DO NOTHING
"""  # noqa: S608  # columns above
_SUPPRESSED: Final = f"""
    INSERT INTO webhook_delivery {COLUMNS}
    SELECT given.event_id, endpoint.id, given.organization_id, 'suppressed', clock_timestamp(),
           jsonb_build_object({OF_MESSAGE}, 'recipient', given.address, 'state', 'suppressed', 'source', given.source,
                              'words', given.words),
           {FRESH}
    FROM unnest(%(event_id)s::uuid[], %(organization)s::bigint[], %(address)s::text[], %(source)s::text[],
                %(words)s::text[], %(reference)s::text[])
         AS given (event_id, organization_id, address, source, words, reference)
    LEFT JOIN relay_message message ON message.reference = nullif(given.reference, '')
         AND message.organization_id = given.organization_id
    JOIN webhook_endpoint endpoint ON endpoint.organization_id = given.organization_id
         AND 'suppressed' = ANY(endpoint.events) AND {WANTS}
    LEFT JOIN relay_smtpuser smtp_user ON smtp_user.id = message.smtp_user_id
    ON CONFLICT DO NOTHING
"""  # noqa: S608
_OF_SMTP_USERS: Final = f"""
    INSERT INTO webhook_delivery {COLUMNS}
    SELECT %(event_id)s, endpoint.id, endpoint.organization_id, %(type)s, %(occurred_at)s, %(data)s, {FRESH}
    FROM webhook_endpoint endpoint
    WHERE endpoint.organization_id = %(organization)s AND %(type)s = ANY(endpoint.events)
      AND endpoint.disabled_at IS NULL AND endpoint.deleted_at IS NULL
      AND (endpoint.smtp_user_ids = '{{}}' OR endpoint.smtp_user_ids && %(smtp_users)s::bigint[])
    ON CONFLICT DO NOTHING
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Suppressed:
    """An address that was put on an organization's suppression list. reference: of the message that bounced."""

    organization_id: int
    address: str
    source: str
    words: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class LateBounced:
    """Mail that a next hop had taken came back."""

    message_id: UUID
    organization_id: int
    address: str
    code: int | None
    enhanced_code: str
    words: str


# --- What became of recipients ---------------------------------------------------------------------------------------


async def on_settled(conn: Connection, results: Sequence[Settled]) -> None:
    """In the settle's own transaction: an event for each endpoint that wants to hear of it."""
    wanted = await interest.acurrent(conn)
    told = [each for each in results if each[0].organization_id in wanted.of(_event(each))]
    if not told:
        return
    async with apart(conn, "webhooks"):
        await conn.execute(_OF_RECIPIENTS, _settled(told))


def _event(result: Settled) -> Event:
    state = result[2]
    if state == Recipient.State.DELIVERED:
        return Event.DELIVERED
    return Event.BOUNCED if state == Recipient.State.FAILED else Event.DEFERRED


def _settled(results: Sequence[Settled]) -> dict[str, list[Any]]:
    settlements = [settlement for _job, settlement, _state in results]
    return {
        "event_id": [uuid4() for _each in results],
        "message": [job.message_id for job, _settlement, _state in results],
        "type": [str(_event(each)) for each in results],
        "address": [each.recipient.address for each in settlements],
        "state": [state for _job, _settlement, state in results],
        "code": [each.code for each in settlements],
        "enhanced": [each.enhanced_code for each in settlements],
        "words": [redacted(each.text[:512]) for each in settlements],
        "attempt": [each.recipient.attempts for each in settlements],
    }


def _late(bounces: Sequence[LateBounced]) -> dict[str, list[Any]]:
    return {
        "event_id": [uuid4() for _each in bounces],
        "message": [each.message_id for each in bounces],
        "type": [str(Event.BOUNCED) for _each in bounces],
        "address": [each.address for each in bounces],
        "state": [str(Recipient.State.FAILED) for _each in bounces],
        "code": [each.code for each in bounces],
        "enhanced": [each.enhanced_code for each in bounces],
        "words": [redacted(each.words[:512]) for each in bounces],
        "attempt": [None for _each in bounces],
    }


async def abounced_late(conn: Connection, bounces: Sequence[LateBounced]) -> None:
    wanted = (await interest.acurrent(conn)).of(Event.BOUNCED)
    if told := [each for each in bounces if each.organization_id in wanted]:
        await conn.execute(_OF_RECIPIENTS, _late(told))


# --- Suppressions ----------------------------------------------------------------------------------------------------


def suppressed(addresses: Sequence[Suppressed]) -> None:
    wanted = interest.current().of(Event.SUPPRESSED)
    if told := [each for each in addresses if each.organization_id in wanted]:
        _execute(_SUPPRESSED, _suppressed(told))


async def asuppressed(conn: Connection, addresses: Sequence[Suppressed]) -> None:
    wanted = (await interest.acurrent(conn)).of(Event.SUPPRESSED)
    if told := [each for each in addresses if each.organization_id in wanted]:
        await conn.execute(_SUPPRESSED, _suppressed(told))


def _suppressed(addresses: Sequence[Suppressed]) -> dict[str, list[Any]]:
    return {
        "event_id": [uuid4() for _each in addresses],
        "organization": [each.organization_id for each in addresses],
        "address": [each.address for each in addresses],
        "source": [each.source for each in addresses],
        "words": [redacted(each.words[:512]) for each in addresses],
        "reference": [each.reference for each in addresses],
    }


# --- Alerts, limits, tests -------------------------------------------------------------------------------------------


def on_anomaly(event: AnomalyEvent) -> None:
    """In the transaction that opens, worsens or closes the case."""
    anomaly = event.anomaly
    if anomaly.organization_id is None or anomaly.organization_id not in interest.current().of(Event.ANOMALY):
        return
    row = alerts.rows_of([anomaly])[0]
    data = {
        "alert_id": anomaly.pk,
        "what": event.what,
        "kind": str(anomaly.kind),
        "severity": str(anomaly.severity),
        "state": str(anomaly.state),
        "title": str(row.told.title),
        "words": str(row.told.summary),
        "smtp_users": [user.username for user in row.smtp_users],
    }
    write(Event.ANOMALY, organization_id=anomaly.organization_id, smtp_user_ids=anomaly.smtp_user_ids, data=data)


def write(
    event: Event,
    *,
    organization_id: int,
    smtp_user_ids: Sequence[int],
    data: dict[str, Any],
    event_id: UUID | None = None,
    occurred_at: Any = None,
) -> None:
    """One event that concerns an organization, or some of its SMTP users."""
    values = {
        "event_id": event_id or uuid4(),
        "type": str(event),
        "occurred_at": occurred_at or timezone.now(),
        "organization": organization_id,
        "smtp_users": list(smtp_user_ids),
        "data": Jsonb(data),
    }
    _execute(_OF_SMTP_USERS, values)


def write_test(endpoint: Endpoint) -> Delivery:
    """For this endpoint alone, whatever it has asked for."""
    return Delivery.objects.create(
        endpoint=endpoint,
        organization_id=endpoint.organization_id,
        type=TEST,
        data={"words": "A test from Gatepost. Nothing has happened."},
    )


def _execute(statement: str, values: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
