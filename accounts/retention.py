"""What the account pages leave behind and nobody needs any more: sessions that have ended, and old failed sign-ins.

Shapes  Both are made by strangers too, so without this anybody could make the tables grow for ever.
Units   ATTEMPT_DAYS: after a failed sign-in; it counts for a quarter of an hour (AXES_COOLOFF_TIME).
Source  docs/data.md, Retention.
"""

from datetime import datetime, timedelta
from typing import Final

from axes.models import AccessAttempt
from django.contrib.sessions.models import Session
from django.utils import timezone

ATTEMPT_DAYS: Final = 1


def delete_ended_sessions(*, now: datetime | None = None) -> int:
    """Returns how many."""
    return int(Session.objects.filter(expire_date__lt=now or timezone.now()).delete()[0])


def delete_old_failures(*, now: datetime | None = None) -> int:
    """Returns how many."""
    long_ago = (now or timezone.now()) - timedelta(days=ATTEMPT_DAYS)
    return int(AccessAttempt.objects.filter(attempt_time__lt=long_ago).delete()[0])
