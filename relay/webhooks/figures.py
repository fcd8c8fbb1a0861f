"""What an operator watches: endpoints by state, and whether posts come when they are due.

Shapes  figures(now) -> Figures, for relay.metrics.
Units   late_seconds: of what is due and may be posted, the one that has waited longest; 0 if nothing waits.
Errors  Those of the database.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection
from django.db.models import Count, Q

from relay.webhooks.models import Endpoint

# One step in the index for each endpoint that may be posted to now.
_LATE: Final = """
    SELECT min(first.due_at)
    FROM webhook_endpoint endpoint
    JOIN accounts_organization customer ON customer.id = endpoint.organization_id AND customer.state <> 'suspended'
    CROSS JOIN LATERAL (
        SELECT due_at FROM webhook_delivery
        WHERE endpoint_id = endpoint.id AND state = 'waiting' AND lease IS NULL AND due_at <= %(now)s
        ORDER BY due_at LIMIT 1
    ) first
    WHERE endpoint.disabled_at IS NULL AND endpoint.deleted_at IS NULL AND endpoint.failures = 0
"""


@dataclass(frozen=True, slots=True)
class Figures:
    endpoints: Mapping[str, int]  # by state
    late_seconds: float


def figures(now: datetime) -> Figures:
    off, failing = Q(disabled_at__isnull=False), Q(failing_since__isnull=False)
    counts = Endpoint.objects.filter(deleted_at=None).aggregate(
        active=Count("pk", filter=~off & ~failing),
        failing=Count("pk", filter=~off & failing),
        disabled=Count("pk", filter=off),
    )
    with connection.cursor() as cursor:
        cursor.execute(_LATE, {"now": now})
        (due_at,) = cursor.fetchone()
    return Figures(counts, max(0.0, (now - due_at).total_seconds()) if due_at else 0.0)
