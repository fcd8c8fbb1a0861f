"""Mail to customers about their hourly limit, at 80, 90 and 100 %.

Shapes  wanted() -> organizations with anything in their window and mails not switched off; send() -> one mail for each
        of those who do the billing. relay.webhooks.limits looks at the windows and sees to it that none is told twice.
Units   percent of the plan's emails an hour.
Errors  Those of the database.
Source  docs/billing.md, What is counted.
"""

from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import connection
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from accounts.billing.mails import people_of
from accounts.mail import automatic
from accounts.models import Organization
from relay.limits import ORGANIZATION
from relay.windows import BUCKETS

_WANTED: Final = """
    SELECT held.owner_id FROM relay_limitwindow held
    JOIN accounts_organization customer ON customer.id = held.owner_id AND NOT customer.is_system
    LEFT JOIN accounts_billingprofile profile ON profile.organization_id = held.owner_id
    WHERE held.scope = %s AND held.minute > %s AND coalesce(profile.limit_mails, true)
"""


def wanted(now: datetime) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(_WANTED, [ORGANIZATION, int(now.timestamp()) // 60 - BUCKETS])
        return {row[0] for row in cursor.fetchall()}


def send(organization_id: int, *, percent: int, limit: int, used: int) -> None:
    """Within the caller's transaction, into Gatepost's own queue."""
    organization = Organization.objects.get(pk=organization_id)
    context = {
        "organization": organization, "percent": percent, "limit": limit, "used": used,
        "web_url": settings.GATEPOST_WEB_URL,
    }  # fmt: skip
    subject = _("%(percent)d %% of this hour's emails are used: %(name)s") % {
        "percent": percent,
        "name": organization.name,
    }
    body = render_to_string("relay/mail/limit.txt", context)
    for address in people_of(organization_id):
        automatic(to=address, subject=subject, body=body).send()
