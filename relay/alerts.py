"""Alerts for people: which an organization has, whom they concern, and the two answers to them.

Shapes  AlertRow: a case with its words, SMTP users and links. A case is of one organization, or (None) of operators.
        this_was_me() teaches; revoke() ends app passwords of the SMTP users concerned and closes the case.
Errors  AlertRefused (a ValidationError): closed already, or nothing to revoke.
Source  audit/anomalies for the cases; docs/operations.md, Alerts.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import Organization
from audit.anomalies import teaching
from audit.anomalies.models import Anomaly, Severity, State
from audit.anomalies.words import Told, told
from audit.changes import Actor
from relay import credentials
from relay.models import AppPassword, SmtpUser

NAMES_SHOWN = 3


class AlertRefused(ValidationError):
    """The answer cannot be taken, and why."""


@dataclass(frozen=True, slots=True)
class AlertRow:
    anomaly: Anomaly
    told: Told
    smtp_users: Sequence[SmtpUser]
    organization: Organization | None

    @property
    def who(self) -> str:
        return who_of(self.smtp_users)


def alerts_of(organization_id: int | None, *, everywhere: bool = False) -> QuerySet[Anomaly]:
    """An organization's, or with None those of no customer in particular; everywhere: all, for operators."""
    found = Anomaly.objects.all() if everywhere else Anomaly.objects.filter(organization_id=organization_id)
    return found.order_by("-last_at", "-pk")


def gravest_first(alerts: QuerySet[Anomaly]) -> QuerySet[Anomaly]:
    rank = Case(
        *(When(severity=each, then=Value(each.rank)) for each in Severity),
        default=Value(0),
        output_field=IntegerField(),
    )
    return alerts.order_by(rank.desc(), "-last_at", "-pk")


def open_alerts(organization_id: int) -> int:
    return Anomaly.objects.filter(organization_id=organization_id, state=State.OPEN).count()


def rows_of(anomalies: Iterable[Anomaly]) -> list[AlertRow]:
    """With words; SMTP users and organizations are read once for all. Another customer's are never named."""
    listed = list(anomalies)
    users = SmtpUser.objects.in_bulk({pk for each in listed for pk in each.smtp_user_ids})
    organizations = Organization.objects.in_bulk({each.organization_id for each in listed if each.organization_id})
    rows = []
    for each in listed:
        mine = [
            users[pk]
            for pk in each.smtp_user_ids
            if pk in users and each.organization_id in {None, users[pk].organization_id}
        ]
        organization = organizations.get(each.organization_id) if each.organization_id else None
        rows.append(AlertRow(each, told(each, who_of(mine)), mine, organization))
    return rows


def who_of(smtp_users: Sequence[SmtpUser]) -> str:
    names = [each.username for each in smtp_users[:NAMES_SHOWN]]
    if len(smtp_users) <= NAMES_SHOWN:
        return ", ".join(names)
    more = len(smtp_users) - NAMES_SHOWN
    and_more = ngettext("and %(more)d more", "and %(more)d more", more) % {"more": more}
    return f"{', '.join(names)} {and_more}"


def revocable(anomaly: Anomaly) -> list[AppPassword]:
    """The live app passwords of the SMTP users concerned; those that the case names come first."""
    named = set(anomaly.app_password_ids)
    found = AppPassword.objects.filter(
        smtp_user__in=anomaly.smtp_user_ids,
        smtp_user__organization=anomaly.organization_id,
        revoked_at=None,
    ).select_related("smtp_user")
    return sorted(found, key=lambda each: (each.pk not in named, each.smtp_user.username, each.name))


def this_was_me(anomaly: Anomaly, *, actor: Actor) -> None:
    if not teaching.dismiss(anomaly, actor=actor):
        raise AlertRefused(_("This alert is closed already."), code="closed")


@transaction.atomic
def revoke(anomaly: Anomaly, *, app_password_ids: Collection[int], actor: Actor) -> list[AppPassword]:
    """Ends these of the revocable app passwords now, within a second everywhere, and closes the case."""
    chosen = [each for each in revocable(anomaly) if each.pk in set(app_password_ids)]
    if not chosen:
        raise AlertRefused(_("Choose at least one app password to revoke."), code="none")
    for each in chosen:
        credentials.revoke_app_password(each, actor=actor)
    values: dict[str, Any] = {"app_passwords": [each.name for each in chosen]}
    if not teaching.revoked(anomaly, actor=actor, values=values):
        raise AlertRefused(_("This alert is closed already."), code="closed")
    return chosen
