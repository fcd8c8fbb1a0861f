"""How much each SMTP user sends by the hour, for the detection of anomalies.

Shapes  SendingHour from Message: each accepted message is counted once, in the hour in which it was received. A run
        counts from where the last one ended to three minutes ago; no accept takes longer from receipt to commit
        (60 s, and 10 s to look a broken commit up), and what is still open holds the mark back.
Units   recipients: accepted ones. Kept as long as the detection looks back, and ten days.
Errors  Those of the database; nothing is half done then, the next run does it all.
Source  docs/data.md, SendingHour; docs/flow.md.
"""

from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction
from django.utils import timezone

from audit.anomalies.models import SendingHour
from audit.anomalies.volume import HISTORY
from audit.marks import mark_of, set_mark

MARK: Final = "sending_hours"
KEPT: Final = HISTORY + timedelta(days=10)
_LOCK: Final = 0x6761_7465_0007  # advisory: of two runs at once, one goes home
_UNTIL = """
    SELECT least(
        least(%s, clock_timestamp()) - interval '3 minutes',
        (SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()
         AND pid <> pg_backend_pid()) - interval '2 minutes'
    )
"""
_COUNT = """
    INSERT INTO audit_sendinghour AS old (hour, organization_id, smtp_user_id, recipients, messages)
    SELECT date_trunc('hour', received_at, 'UTC'), organization_id, smtp_user_id, sum(recipient_count), count(*)
    FROM relay_message WHERE received_at >= %(since)s AND received_at < %(until)s AND smtp_user_id IS NOT NULL
    GROUP BY 1, 2, 3
    ON CONFLICT (smtp_user_id, hour) DO UPDATE
    SET recipients = old.recipients + excluded.recipients, messages = old.messages + excluded.messages
"""


def count_sending_hours(now: datetime | None = None) -> datetime | None:
    """Until when it is counted now; None if another run is at it."""
    now = now or timezone.now()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return None
        since = mark_of(MARK) or now - HISTORY
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees the same activity to its end
        cursor.execute(_UNTIL, [now])
        until: datetime = max(since, cursor.fetchone()[0])
        cursor.execute(_COUNT, {"since": since, "until": until})
        set_mark(MARK, until)
        return until


def forget_old_hours(now: datetime | None = None) -> int:
    return SendingHour.objects.filter(hour__lt=(now or timezone.now()) - KEPT).delete()[0]
