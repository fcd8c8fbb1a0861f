"""What is deleted by age: the log of posts, and endpoints that were deleted, with theirs.

Units   KEPT_DAYS: by what became of it, after it was written or replayed.
Errors  Those of the database; batches are short transactions, and the next run goes on.
Source  docs/data.md, Retention.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from relay.webhooks.models import Delivery, Endpoint

KEPT_DAYS: Final = {Delivery.State.DELIVERED: 7, Delivery.State.FAILED: 30, Delivery.State.WAITING: 30}
BATCH: Final = 5000
_DELETE: Final = """
    DELETE FROM webhook_delivery WHERE id IN (
        SELECT id FROM webhook_delivery WHERE state = %s AND created_at < %s AND lease IS NULL LIMIT %s
        FOR UPDATE SKIP LOCKED)
"""
_CLEAR: Final = """
    DELETE FROM webhook_delivery WHERE id IN (
        SELECT id FROM webhook_delivery WHERE endpoint_id = %s LIMIT %s FOR UPDATE SKIP LOCKED)
"""


def delete_old(now: datetime | None = None) -> int:
    """How many deliveries."""
    now, deleted = now or timezone.now(), 0
    for state, days in KEPT_DAYS.items():
        deleted += _all_of(_DELETE, [str(state), now - timedelta(days=days), BATCH])
    for endpoint in Endpoint.objects.exclude(deleted_at=None):
        deleted += _all_of(_CLEAR, [endpoint.pk, BATCH])
        if not endpoint.deliveries.exists():  # one that is being posted is still there
            endpoint.delete()
    return deleted


def _all_of(statement: str, values: list[Any]) -> int:
    deleted = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(statement, values)
            if not cursor.rowcount:
                return deleted
            deleted += int(cursor.rowcount)
