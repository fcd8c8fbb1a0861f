"""What is deleted by age.

Shapes  A message's content goes after its organization's plan's retention; the message's row stays, as history.
        Content of mail that still waits is never deleted, however old. Refusals go after the same days.
        CredentialChange is a message to smtpd, not history (that is audit.ChangeEvent): a day is more than enough.
Units   retention_days: days after the message was received, or the refusal given.
Source  docs/data.md, Retention.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.utils import timezone

from accounts.models import Subscription
from relay.ids import uuid7_floor
from relay.models import Worker

DEFAULT_RETENTION_DAYS = 30
BATCH = 500
SMALL_ROWS_BATCH = 10_000  # without content: each batch is still a short transaction
DEAD_WORKER_DAYS = 1
CREDENTIAL_CHANGE_DAYS = 1
DOOR_FAILURE_DAYS = 7

# Content is found by its key, which is a time (UUIDv7): the walk sees what is there, not the history behind it.
_DELETE = """
DELETE FROM relay_messagedata WHERE message_id IN (
    SELECT old.message_id FROM relay_messagedata old
    JOIN relay_message message ON message.id = old.message_id
    LEFT JOIN accounts_subscription bought ON bought.organization_id = message.organization_id
    LEFT JOIN accounts_plan plan ON plan.id = bought.plan_id
    WHERE old.message_id < %(floor)s
      AND message.received_at < %(now)s - coalesce(plan.retention_days, %(days)s) * interval '1 day'
      AND NOT EXISTS (SELECT 1 FROM relay_recipient waiting
                      WHERE waiting.message_id = message.id AND waiting.state IN ('queued', 'held'))
    ORDER BY old.message_id LIMIT %(batch)s FOR UPDATE OF old SKIP LOCKED)
"""

_DELETE_REFUSALS = """
DELETE FROM relay_refusal WHERE id IN (
    SELECT old.id FROM relay_refusal old
    LEFT JOIN accounts_subscription bought ON bought.organization_id = old.organization_id
    LEFT JOIN accounts_plan plan ON plan.id = bought.plan_id
    WHERE old.at < %(now)s - coalesce(plan.retention_days, %(days)s) * interval '1 day'
    LIMIT %(batch)s FOR UPDATE OF old SKIP LOCKED)
"""
_DELETE_DOOR_FAILURES = """
DELETE FROM relay_doorfailure WHERE reference IN (
    SELECT reference FROM relay_doorfailure WHERE last_at < %(now)s - %(days)s * interval '1 day'
    LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
"""
_DELETE_CREDENTIAL_CHANGES = """
DELETE FROM relay_credentialchange WHERE id IN (
    SELECT id FROM relay_credentialchange WHERE at < %(now)s - %(days)s * interval '1 day'
    LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
"""


def retention_days() -> dict[int, int]:
    """Of each organization, by its plan."""
    return dict(Subscription.objects.values_list("organization_id", "plan__retention_days"))


def days_kept(organization_id: int) -> int | None:
    """Of one organization; None if it has no plan."""
    plans = Subscription.objects.filter(organization_id=organization_id)
    return plans.values_list("plan__retention_days", flat=True).first()


def delete_expired_content(*, now: datetime | None = None) -> int:
    """Deletes the content of mail past its retention, in short transactions. Returns how many messages lost theirs."""
    now = now or timezone.now()
    deleted = 0
    while done := _delete_batch(now):
        deleted += done
    return deleted


def _delete_batch(now: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT least(min(retention_days), %s) FROM accounts_plan", [DEFAULT_RETENTION_DAYS])
        (days,) = cursor.fetchone()
        parameters: dict[str, UUID | datetime | int] = {
            "floor": uuid7_floor(now - timedelta(days=days)),
            "now": now,
            "days": DEFAULT_RETENTION_DAYS,
            "batch": BATCH,
        }
        cursor.execute(_DELETE, parameters)
        return int(cursor.rowcount)


def forget_dead_workers(*, now: datetime | None = None) -> int:
    """Removes heartbeats that stopped long ago: those of processes that could not say good-bye."""
    long_ago = (now or timezone.now()) - timedelta(days=DEAD_WORKER_DAYS)
    return Worker.objects.filter(seen_at__lt=long_ago).delete()[0]


def delete_expired_refusals(*, now: datetime | None = None) -> int:
    """Deletes refusals past their organization's plan's retention. Returns how many."""
    return _delete_small_rows(_DELETE_REFUSALS, days=DEFAULT_RETENTION_DAYS, now=now)


def delete_old_door_failures(*, now: datetime | None = None) -> int:
    """Deletes what failed at the door before a name was known. Returns how many rows."""
    return _delete_small_rows(_DELETE_DOOR_FAILURES, days=DOOR_FAILURE_DAYS, now=now)


def delete_old_credential_changes(*, now: datetime | None = None) -> int:
    """Deletes word of changes that every smtpd has long read. Returns how many."""
    return _delete_small_rows(_DELETE_CREDENTIAL_CHANGES, days=CREDENTIAL_CHANGE_DAYS, now=now)


def _delete_small_rows(statement: str, *, days: int, now: datetime | None) -> int:
    """Batch after batch, each its own transaction where the caller has none."""
    parameters: dict[str, datetime | int] = {"now": now or timezone.now(), "days": days, "batch": SMALL_ROWS_BATCH}
    deleted = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(statement, parameters)
            if not (done := int(cursor.rowcount)):
                return deleted
            deleted += done
