"""Whether what binds the limit is what was accepted: every organization's window against its messages.

Shapes  Account: what the window counts, and the least and the most that the messages of its time can amount to.
        differences() -> the accounts that do not agree. An accept is debited at the commit and dated at its receipt,
        so a message within BORDER of the window's beginning may be in it or not: least leaves those out, most counts
        them. Where none is, least and most are one number, and a difference of one email is found.
Units   emails (accepted recipients). BORDER: longer than any accept takes from receipt to commit.
Errors  Those of the database.
Source  relay/windows.py: the running minute and the sixty before it; docs/billing.md.

Held mail counts when it is released, by the event that is written in the same transaction. Gatepost's own mail has no
SMTP user and is not debited.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog
from django.db import connection

from relay.limits import ORGANIZATION
from relay.windows import BUCKETS

BORDER: Final = timedelta(seconds=90)
# One statement is one snapshot: an accept is in both sums or in none.
_ACCOUNTS: Final = """
WITH clock AS (
    SELECT floor(extract(epoch FROM clock_timestamp()) / 60)::bigint - %(minutes)s + 1 AS first
), span AS (
    SELECT first, to_timestamp(first * 60) - %(border)s AS since, to_timestamp(first * 60) + %(border)s AS surely
    FROM clock
), counted AS (
    SELECT held.owner_id AS organization_id, sum(bucket.emails) AS used
    FROM span, relay_limitwindow held CROSS JOIN LATERAL unnest(held.buckets) WITH ORDINALITY AS bucket (emails, place)
    WHERE held.scope = %(scope)s AND held.minute >= span.first
      AND held.minute - mod(held.minute - (bucket.place - 1), %(minutes)s) >= span.first
    GROUP BY 1
), released AS (
    SELECT event.message_id, max(event.at) AS at FROM span, relay_messageevent event
    WHERE event.kind = 'released' AND event.actor = '' AND event.at >= span.since GROUP BY 1
), dated AS (
    SELECT message.organization_id, message.recipient_count AS emails, coalesce(released.at, message.received_at) AS at
    FROM span, relay_message message LEFT JOIN released ON released.message_id = message.id
    WHERE message.smtp_user_id IS NOT NULL AND (message.received_at >= span.since OR released.at >= span.since)
      AND NOT EXISTS (SELECT FROM relay_recipient held WHERE held.message_id = message.id AND held.state = 'held'
                      AND held.due_at < '9999-01-01 00:00+00')
), sent AS (
    SELECT dated.organization_id, sum(emails) FILTER (WHERE at >= span.surely) AS least, sum(emails) AS most
    FROM span, dated WHERE at >= span.since GROUP BY 1
)
SELECT coalesce(counted.organization_id, sent.organization_id), coalesce(used, 0)::bigint, coalesce(least, 0)::bigint,
       coalesce(most, 0)::bigint
FROM counted FULL JOIN sent ON sent.organization_id = counted.organization_id ORDER BY 1
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    organization_id: int
    used: int
    least: int
    most: int

    @property
    def agrees(self) -> bool:
        return self.least <= self.used <= self.most


def accounts() -> list[Account]:
    """Of every organization with anything in its window, or with messages that should be."""
    words: dict[str, Any] = {"minutes": BUCKETS, "border": BORDER, "scope": ORGANIZATION}
    with connection.cursor() as cursor:
        cursor.execute(_ACCOUNTS, words)
        return [Account(*row) for row in cursor.fetchall()]


def differences() -> list[Account]:
    """What does not agree, each written to the log as an error."""
    found = [account for account in accounts() if not account.agrees]
    for account in found:
        log.error(
            "limits.difference",
            organization=account.organization_id,
            used=account.used,
            least=account.least,
            most=account.most,
        )
    return found
