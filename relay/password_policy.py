"""How long app passwords of an organization may live, and when an unused one is noticed and put to sleep.

Shapes  policy_of(organization_id) -> Policy. end_within() is asked at each making; new_ends() previews and set_policy()
        makes what a shorter life means for those that exist: an end, never sooner than NOTICE_DAYS from now.
Units   *_days: whole days, None for no rule.
Errors  PolicyRefused (a ValidationError): an end beyond the policy, or numbers that make no sense.
Source  docs/data.md, PasswordPolicy.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from audit.changes import Actor, record_change
from relay import notices
from relay.changes import announce
from relay.models import AppPassword, PasswordPolicy, SmtpUser
from relay.models.password_life import UNUSED_NOTICE_DAYS

NOTICE_DAYS: Final = 14  # what a new policy leaves to those that exist
DAYS_MAX: Final = 3650
RECORDED_AT_ONCE: Final = 200  # new ends in one record of the change log


class PolicyRefused(ValidationError):
    """Not as the organization's policy has it."""


@dataclass(frozen=True, slots=True)
class Policy:
    max_days: int | None = None
    unused_notice_days: int | None = UNUSED_NOTICE_DAYS
    sleep_days: int | None = None

    def latest_end(self, now: datetime) -> datetime | None:
        """The latest end that a password made now may have; None: it may live for ever."""
        return now + timedelta(days=self.max_days) if self.max_days is not None else None


@dataclass(frozen=True, slots=True)
class NewEnd:
    app_password: AppPassword
    before: datetime | None
    after: datetime


def policy_of(organization_id: int) -> Policy:
    row = PasswordPolicy.objects.filter(organization=organization_id).first()
    return Policy(row.max_days, row.unused_notice_days, row.sleep_days) if row else Policy()


def end_within(
    organization_id: int, wanted: datetime | None, *, kind: str = AppPassword.Kind.APP, now: datetime | None = None
) -> datetime | None:
    """The end that a new one gets: as wanted, or the policy's where none was. Raises PolicyRefused beyond it.

    A canary has none: it waits to be tried for as long as it takes.
    """
    if kind == AppPassword.Kind.CANARY:
        return None
    latest = policy_of(organization_id).latest_end(now or timezone.now())
    if latest is None:
        return wanted
    if wanted is not None and wanted > latest + timedelta(minutes=1):  # a form's "90 days" is some seconds old
        raise PolicyRefused(
            _("Your organization lets an app password live until %(day)s at most."),
            code="policy",
            params={"day": f"{latest:%Y-%m-%d}"},
        )
    return min(wanted or latest, latest)


def new_ends(organization_id: int, *, max_days: int | None, now: datetime | None = None) -> list[NewEnd]:
    """Whom a policy of so many days would give an earlier end, and which. The soonest first."""
    if max_days is None:
        return []
    now, life = now or timezone.now(), timedelta(days=max_days)
    found = []
    for row in _living(organization_id, now).select_related("smtp_user", "created_by"):
        after = max(row.created_at + life, now + timedelta(days=NOTICE_DAYS))
        if row.expires_at is None or row.expires_at > after:
            found.append(NewEnd(row, row.expires_at, after))
    return sorted(found, key=lambda each: (each.after, each.app_password.pk))


@transaction.atomic
def set_policy(
    organization: Organization, *, policy: Policy, actor: Actor, now: datetime | None = None
) -> list[NewEnd]:
    """Sets it and gives those that would live longer an end, of which the owners hear by mail. What got an end."""
    _refuse(policy)
    now = now or timezone.now()
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    # Each making holds its SMTP user's row: none is made by the old policy after this one has looked.
    list(SmtpUser.objects.filter(organization=organization).order_by("pk").select_for_update(no_key=True))
    before = policy_of(organization.pk)
    if policy == before:
        return []
    PasswordPolicy.objects.update_or_create(organization=organization, defaults=asdict(policy))
    ended = new_ends(organization.pk, max_days=policy.max_days, now=now)
    for each in ended:
        each.app_password.expires_at = each.after
    AppPassword.objects.bulk_update([each.app_password for each in ended], ["expires_at"], batch_size=1000)
    announce(organization.pk)
    _tell(organization, ended, policy)
    _record(organization, before, policy, ended, actor)
    return ended


def _living(organization_id: int, now: datetime) -> QuerySet[AppPassword]:
    ended = Q(revoked_at__isnull=False) | Q(expires_at__lte=now) | Q(kind=AppPassword.Kind.CANARY)
    return AppPassword.objects.filter(smtp_user__organization=organization_id).exclude(ended)


def _refuse(policy: Policy) -> None:
    for days in asdict(policy).values():
        if days is not None and not 1 <= days <= DAYS_MAX:
            raise PolicyRefused(_("Days are a number from 1 to %(most)d."), code="days", params={"most": DAYS_MAX})
    notice, sleep = policy.unused_notice_days, policy.sleep_days
    if sleep is not None and notice is not None and notice > sleep:
        raise PolicyRefused(_("The notice comes before the sleep: give it fewer days."), code="order")


def _tell(organization: Organization, ended: Sequence[NewEnd], policy: Policy) -> None:
    if ended:
        notices.write(
            organization,
            name="password_policy",
            subject=_("App passwords of %(organization)s got an end") % {"organization": organization.name},
            context={"ends": ended[: notices.LISTED_MAX], "count": len(ended), "max_days": policy.max_days},
            also={each.app_password.created_by_id for each in ended},
        )


def _record(organization: Organization, before: Policy, after: Policy, ended: Sequence[NewEnd], actor: Actor) -> None:
    old, new = asdict(before), asdict(after)
    changes = {name: [old[name], new[name]] for name in new if old[name] != new[name]}
    record_change(
        "password_policy.changed",
        organization_id=organization.pk,
        actor=actor,
        subject=organization.name,
        subject_id=str(organization.pk),
        values=changes,
    )
    for start in range(0, len(ended), RECORDED_AT_ONCE):
        some = ended[start : start + RECORDED_AT_ONCE]
        record_change(
            "app_password.ends_set",
            organization_id=organization.pk,
            actor=actor,
            subject=_("%(count)d app passwords, by the new policy") % {"count": len(some)},
            values={str(each.app_password.pk): [each.before, each.after] for each in some},
        )
