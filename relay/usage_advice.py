"""Advice on plans from what was really sent: made each night, read by the page of the plan.

Shapes  make_advice() walks the organizations that sent anything in the last days; each gets one row of UsageAdvice,
        with what every limit on sale, and its own, would have refused.
Units   emails; DAYS before now. A minute is one of UTC, as at the door.
Errors  Those of the database; each organization is stored by itself.
Source  accounts/billing/advice.py for the walk; docs/billing.md.
"""

from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

from accounts.billing.advice import peak_of, refused_under
from accounts.billing.models import UsageAdvice
from accounts.models import Subscription
from accounts.plans import plans_on_sale
from relay.models import Refusal
from relay.smtp.replies import OVER_LIMIT

DAYS: Final = 30
_SENDERS: Final = """
    SELECT DISTINCT organization_id FROM relay_message
    WHERE received_at >= %s AND received_at < %s AND smtp_user_id IS NOT NULL
"""
_BY_MINUTE: Final = """
    SELECT floor(extract(epoch FROM received_at) / 60)::bigint, sum(recipient_count)::bigint FROM relay_message
    WHERE organization_id = %s AND received_at >= %s AND received_at < %s AND smtp_user_id IS NOT NULL GROUP BY 1
"""


def make_advice(now: datetime | None = None) -> int:
    """For how many organizations; whoever sent nothing has none any more."""
    now = now or timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_SENDERS, [now - timedelta(days=DAYS), now])
        organizations = [row[0] for row in cursor.fetchall()]
    UsageAdvice.objects.exclude(organization__in=organizations).delete()
    for organization_id in organizations:
        advise_one(organization_id, now=now)
    return len(organizations)


def advise_one(organization_id: int, *, now: datetime) -> UsageAdvice:
    since = now - timedelta(days=DAYS)
    with connection.cursor() as cursor:
        cursor.execute(_BY_MINUTE, [organization_id, since, now])
        minutes = dict(cursor.fetchall())
    own = Subscription.objects.select_related("plan").get(organization_id=organization_id).plan
    limits = {plan.recipients_per_hour for plan in [own, *plans_on_sale()]}
    over = Refusal.objects.filter(
        organization_id=organization_id, at__gte=since, code=OVER_LIMIT.code, enhanced_code=OVER_LIMIT.enhanced
    ).filter(text__startswith="The limit of")
    values = {
        "made_at": now,
        "emails": sum(minutes.values()),
        "peak": peak_of(minutes),
        "over_limit": over.count(),
        "refused": {str(limit): refused_under(minutes, limit) for limit in sorted(limits)},
    }
    return UsageAdvice.objects.update_or_create(organization_id=organization_id, defaults=values)[0]
