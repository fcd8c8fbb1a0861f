"""The mail about alerts: one for each case at most, several cases of an organization in one mail.

Shapes  on_anomaly() is a hook of audit.anomalies.hooks: it writes when the mail of a new case is due, in the case's own
        transaction. send_due_alert_mails() makes one mail of all that an organization has waiting, when the first is
        due, to the members whose role has the duty (ALERTS_CHANGE, or the roles that the organization chose).
        Operators get those of no customer in particular.
Units   GATHER: what happens within it goes into one mail. APART: between two mails to one organization, unless the
        case is critical. DAILY_HOUR: UTC.
        HOURLY: mails to one organization in an hour; what comes beyond them waits, and is told together.
Errors  A mail that cannot be queued leaves its cases waiting; the next run sends them.
Source  docs/operations.md, Alerts.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Max, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import mail
from accounts.models import Organization, User
from accounts.roles import ALERTS_CHANGE, roles_with
from audit.anomalies.hooks import AnomalyEvent
from audit.anomalies.models import AlertMail, AlertPreference, Anomaly, Severity, State
from relay.alerts import AlertRow, gravest_first, rows_of
from relay.logs import get_logger

log = get_logger(__name__)

GATHER: Final = timedelta(minutes=2)
APART: Final = timedelta(minutes=15)
DAILY_HOUR: Final = 7
HOURLY: Final = 6
CASES_MAX: Final = 20  # told in one mail; the page has the rest
OPERATORS: Final = 0


def on_anomaly(event: AnomalyEvent) -> None:
    """A new case, or one that has only now become grave enough. Its row is never written twice."""
    if event.what == "closed":
        return
    preference = preference_of(event.anomaly.organization_id)
    if preference.mail == AlertPreference.Mail.NEVER:
        return
    if Severity(event.anomaly.severity).rank < Severity(preference.least).rank:
        return
    due_at = _due_at(event.anomaly, preference)
    AlertMail.objects.bulk_create([AlertMail(anomaly=event.anomaly, due_at=due_at)], ignore_conflicts=True)


def preference_of(organization_id: int | None) -> AlertPreference:
    owner = organization_id or OPERATORS
    return AlertPreference.objects.filter(pk=owner).first() or AlertPreference(pk=owner)


def recipients_of(organization_id: int | None) -> list[User]:
    """Whose duty it is, with a confirmed address."""
    people = User.objects.filter(is_active=True, email_confirmed_at__isnull=False)
    if organization_id is None:
        return list(people.filter(is_operator=True).order_by("pk"))
    able = set(roles_with(ALERTS_CHANGE))
    roles = able & set(preference_of(organization_id).roles) or able
    found: QuerySet[User] = people.filter(memberships__organization=organization_id, memberships__role__in=roles)
    return list(found.distinct().order_by("pk"))


def send_due_alert_mails(now: datetime | None = None) -> int:
    """How many mails went. Cases that were closed meanwhile are no news any more."""
    now = now or timezone.now()
    sent = 0
    for owner in _owners_due(now):
        with transaction.atomic():
            waiting = AlertMail.objects.select_for_update(skip_locked=True, of=("self",)).filter(sent_at=None)
            rows = list(waiting.filter(anomaly__organization_id=owner).select_related("anomaly"))
            open_ones = [row.anomaly_id for row in rows if row.anomaly.state == State.OPEN]
            if open_ones and _mails_in_the_hour(owner, now) >= HOURLY:
                continue
            sent += _send(owner, open_ones) if open_ones else 0
            AlertMail.objects.filter(pk__in=[row.pk for row in rows]).update(sent_at=now)
    return sent


def _mails_in_the_hour(owner: int | None, now: datetime) -> int:
    """Cases that were told together have the same moment."""
    told = AlertMail.objects.filter(anomaly__organization_id=owner, sent_at__gt=now - timedelta(hours=1))
    return told.values("sent_at").distinct().count()


def _owners_due(now: datetime) -> set[int | None]:
    due = AlertMail.objects.filter(sent_at=None, due_at__lte=now)
    return set(due.values_list("anomaly__organization_id", flat=True))


def _due_at(anomaly: Anomaly, preference: AlertPreference) -> datetime:
    now = anomaly.updated_at
    if preference.mail == AlertPreference.Mail.DAILY:
        today = now.replace(hour=DAILY_HOUR, minute=0, second=0, microsecond=0)
        return today if today > now else today + timedelta(days=1)
    soon = now + GATHER
    if anomaly.severity == Severity.CRITICAL:
        return soon
    earlier = AlertMail.objects.filter(anomaly__organization_id=anomaly.organization_id)
    last = earlier.aggregate(last=Max("sent_at"))["last"]
    return max(soon, last + APART) if last else soon


def _send(owner: int | None, anomaly_ids: Iterable[int]) -> int:
    """Within the caller's transaction, as the mark that it was sent: neither is without the other."""
    rows = rows_of(gravest_first(Anomaly.objects.filter(pk__in=list(anomaly_ids))))
    people = recipients_of(owner)
    if not people:
        log.warning("alert_mail_without_recipient", organization_id=owner, alerts=len(rows))
        return 0  # and nobody to wait for
    organization = Organization.objects.filter(pk=owner).first() if owner else None
    context = {
        "organization": organization,
        "alerts": [(row, mail.link(*_page_of(row))) for row in rows[:CASES_MAX]],
        "more": max(0, len(rows) - CASES_MAX),
        "all_link": mail.link("relay:alerts" if owner else "relay:ops_alerts"),
        "settings_link": mail.link("relay:alert_settings" if owner else "relay:ops_alerts"),
    }
    subject = _subject(rows, organization)
    body = render_to_string("accounts/mail/alerts.txt", context)
    for person in people:
        mail.automatic(to=person.email, subject=subject, body=body).send()
    return len(people)


def _page_of(row: AlertRow) -> tuple[str, int]:
    return ("relay:alert" if row.anomaly.organization_id else "relay:ops_alert"), row.anomaly.pk


def _subject(rows: list[AlertRow], organization: Organization | None) -> str:
    name = organization.name if organization else "Gatepost"
    if len(rows) == 1:
        return _("%(title)s: %(name)s") % {"title": rows[0].told.title, "name": name}
    count = len(rows)
    return ngettext("%(count)d alert: %(name)s", "%(count)d alerts: %(name)s", count) % {"count": count, "name": name}
