"""Events that are found afterwards, so that an accept and a sign-in cost nothing: accepted, auth.failed.

Shapes  find_accepted(): messages accepted since the last look; what was committed late is found by a second look that
        stays behind every open transaction, and the event's id follows from the message: it is written once.
        find_failed_sign_ins(): one event for each SMTP user, address and minute in which refusals were stored;
        beyond MOST of an organization and minute, one event for all the others together.
Units   Marks are audit.RollupMark. LATE: no accept takes longer from receipt to commit (relay/sending.py).
Errors  Those of the database; nothing is half done then, the next look does it all.
Source  docs/webhooks.md, Events.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.utils import timezone

from audit.marks import mark_of, next_mark, set_mark
from relay.webhooks import interest
from relay.webhooks.kinds import Event
from relay.webhooks.outbox import COLUMNS, FRESH, OF_MESSAGE, WANTS

MARK_SOON: Final = "webhooks accepted soon"
MARK_SURE: Final = "webhooks accepted"
MARK_AUTH: Final = "webhooks auth failed"
LATE: Final = timedelta(minutes=3)
OPEN: Final = timedelta(minutes=2)
OVERLAP: Final = timedelta(seconds=3)
LOOKS_BACK: Final = timedelta(hours=24)  # after so long without a worker, what is older is not told any more
RECIPIENTS_MAX: Final = 100  # named in one event
MOST: Final = 20  # auth.failed of one organization and minute

_LOCK: Final = "SELECT pg_try_advisory_xact_lock(%s)"
_LOCK_ACCEPTED, _LOCK_AUTH = 0x6761_7465_0011, 0x6761_7465_0012  # advisory: of two looks at once, one goes home
# How far the sure look may go: received_at is the client's beginning, commits come up to LATE after it.
_SURE: Final = """
    SELECT least(clock_timestamp() - %(late)s * interval '1 second',
        (SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()
         AND pid <> pg_backend_pid()) - %(open)s * interval '1 second')
"""
_ACCEPTED: Final = f"""
    INSERT INTO webhook_delivery {COLUMNS}
    SELECT md5('accepted ' || message.id)::uuid, endpoint.id, message.organization_id, 'accepted', message.received_at,
           jsonb_build_object({OF_MESSAGE}, 'sender', message.reverse_path, 'size_octets', message.size_octets,
               'recipient_count', message.recipient_count, 'recipients', (
                    SELECT jsonb_agg(first.address) FROM (
                        SELECT address FROM relay_recipient
                        WHERE message_id = message.id ORDER BY id LIMIT %(most)s) first),
               'state', (SELECT CASE WHEN bool_or(state = 'held') THEN 'held' ELSE 'queued' END
                         FROM relay_recipient WHERE message_id = message.id)),
           {FRESH}
    FROM webhook_endpoint endpoint
    CROSS JOIN LATERAL (
        SELECT * FROM relay_message WHERE organization_id = endpoint.organization_id
        AND received_at >= greatest(%(since)s, endpoint.enabled_at) AND received_at < %(until)s
    ) message
    LEFT JOIN relay_smtpuser smtp_user ON smtp_user.id = message.smtp_user_id
    WHERE 'accepted' = ANY(endpoint.events) AND {WANTS}
    ON CONFLICT DO NOTHING
"""  # noqa: S608  # columns of outbox.py
# Refusals that were stored in each minute of PostgreSQL's clock; a folded row counts in the minute of its last store.
_FAILED: Final = f"""
    INSERT INTO webhook_delivery {COLUMNS}
    WITH stored AS (
        SELECT organization_id, smtp_user_id, ip, reason, username_given, mechanism, reference, count,
               coalesce(first_at, at) AS first_at, last_at, date_trunc('minute', stored_at, 'UTC') AS minute
        FROM audit_authevent
        WHERE stored_at >= %(since)s AND stored_at < %(until)s AND result = 'refused'
          AND organization_id = ANY(%(organizations)s)
    ), grouped AS (
        SELECT endpoint.id AS endpoint_id, stored.organization_id, minute, smtp_user_id, ip, sum(count) AS count,
               min(first_at) AS first_at, max(last_at) AS last_at, max(username_given) AS username,
               jsonb_agg(DISTINCT reason) AS reasons, jsonb_agg(DISTINCT mechanism) AS mechanisms,
               max(reference) AS reference
        FROM stored JOIN webhook_endpoint endpoint ON endpoint.organization_id = stored.organization_id
        WHERE 'auth.failed' = ANY(endpoint.events) AND endpoint.disabled_at IS NULL AND endpoint.deleted_at IS NULL
          AND stored.minute >= date_trunc('minute', endpoint.enabled_at, 'UTC')
          AND (endpoint.smtp_user_ids = '{{}}' OR smtp_user_id = ANY(endpoint.smtp_user_ids))
        GROUP BY endpoint.id, stored.organization_id, minute, smtp_user_id, ip
    ), ranked AS (
        SELECT *, row_number() OVER (PARTITION BY endpoint_id, minute ORDER BY count DESC, ip, smtp_user_id) AS place
        FROM grouped
    ), told AS (
        SELECT endpoint_id, ranked.organization_id, minute, count, first_at, last_at, reasons, mechanisms,
               coalesce(smtp_user.username, ranked.username) AS username, host(ip) AS ip, reference, 1 AS addresses,
               concat_ws(' ', minute, ranked.organization_id, coalesce(smtp_user_id, 0), ip) AS name
        FROM ranked LEFT JOIN relay_smtpuser smtp_user ON smtp_user.id = ranked.smtp_user_id WHERE place <= %(most)s
        UNION ALL
        SELECT endpoint_id, organization_id, minute, sum(count), min(first_at), max(last_at),
               NULL, NULL, NULL, NULL, NULL, count(DISTINCT ip),
               concat_ws(' ', minute, organization_id, endpoint_id, 'others')
        FROM ranked WHERE place > %(most)s GROUP BY endpoint_id, organization_id, minute
    )
    SELECT md5('auth.failed ' || name)::uuid, endpoint_id, organization_id, 'auth.failed', last_at,
           jsonb_build_object('smtp_user', username, 'ip', ip, 'addresses', addresses, 'count', count,
               'reasons', reasons, 'mechanisms', mechanisms, 'first_at', first_at, 'last_at', last_at,
               'reference', reference),
           {FRESH}
    FROM told ON CONFLICT DO NOTHING
"""  # noqa: S608


def find_accepted(now: datetime | None = None) -> int:
    """How many events were written."""
    if not interest.current().of(Event.ACCEPTED):
        return 0
    now = now or timezone.now()
    with transaction.atomic():
        if not _is_alone(_LOCK_ACCEPTED):
            return 0
        soon = _since(MARK_SOON, now) - OVERLAP
        found = _execute(_ACCEPTED, {"since": soon, "until": now, "most": RECIPIENTS_MAX})
        set_mark(MARK_SOON, now)
        since = _since(MARK_SURE, now)
        until = max(since, _sure_until())
        if until - since >= timedelta(seconds=30):
            found += _execute(_ACCEPTED, {"since": since, "until": until, "most": RECIPIENTS_MAX})
            set_mark(MARK_SURE, until)
    return found


def find_failed_sign_ins(now: datetime | None = None) -> int:
    """Whole minutes alone, so that what one minute stored is told together."""
    organizations = interest.current().of(Event.AUTH_FAILED)
    if not organizations:
        return 0
    now = now or timezone.now()
    with transaction.atomic():
        if not _is_alone(_LOCK_AUTH):
            return 0
        since = _since(MARK_AUTH, now).replace(second=0, microsecond=0)
        until = next_mark(now).replace(second=0, microsecond=0)
        if until <= since:
            return 0
        values = {"since": since, "until": until, "organizations": list(organizations), "most": MOST}
        found = _execute(_FAILED, values)
        set_mark(MARK_AUTH, until)
    return found


def _since(mark: str, now: datetime) -> datetime:
    """Where nobody has looked for long, there was nobody to tell: endpoints are told of nothing before their time."""
    return max(mark_of(mark) or now - LOOKS_BACK, now - LOOKS_BACK)


def _sure_until() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees the same activity to its end
        cursor.execute(_SURE, {"late": LATE.total_seconds(), "open": OPEN.total_seconds()})
        until: datetime = cursor.fetchone()[0]
        return until


def _is_alone(lock: int) -> bool:
    rows: Sequence[Any]
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [lock])
        rows = cursor.fetchone()
    return bool(rows[0])


def _execute(statement: str, values: dict[str, Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)
