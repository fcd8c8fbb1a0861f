"""What is kept of reports and late bounces goes after a while; suppressions stay until somebody removes them.

Units   REPORT_DAYS: longer than any message is tried, and than reports come late.
Source  docs/data.md, Retention.
"""

from datetime import datetime, timedelta

from django.utils import timezone

from relay.models import LateBounce, Report

REPORT_DAYS = 90
BATCH = 10_000


def delete_old_reports(*, now: datetime | None = None) -> int:
    """In short batches. What waits to be told is not old."""
    before = (now or timezone.now()) - timedelta(days=REPORT_DAYS)
    deleted = 0
    for old in (Report.objects.filter(written_at__lt=before), LateBounce.objects.filter(at__lt=before)):
        while ids := list(old.values_list("pk", flat=True)[:BATCH]):
            deleted += old.model._default_manager.filter(pk__in=ids).delete()[0]
    return deleted
