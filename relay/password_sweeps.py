"""What is told of app passwords, and done to them, by the clock: ends that come near, disuse, sleep.

Shapes  warn_of_ends(), tell_of_disuse(), put_unused_to_sleep(): each may run twice, late, or beside itself. A mail and
        the notice that it was written are one transaction for each organization, and the notice is there once.
Units   STEPS: how long before its end a password is warned of; only those shorter than the life it was given count.
        SLEEP_NOTICE: nothing sleeps that was not announced for so long. AT_ONCE: rows of one run; the next has more.
Errors  Those of the database; the next run does what this one did not.
Source  docs/flow.md, App passwords by the clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Greatest
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from relay import notices
from relay.models import AppPassword, PasswordNotice, PasswordPolicy
from relay.models.password_life import UNUSED_NOTICE_DAYS
from relay.password_life import Use, put_to_sleep, replacement_of, uses_of
from relay.password_policy import Policy, policy_of

AT_ONCE: Final = 5000
STEPS: Final = (timedelta(hours=1), timedelta(days=1), timedelta(days=7))  # the nearest first
IN_USE: Final = timedelta(days=30)  # of one that nothing takes over from
SLEEP_NOTICE: Final = timedelta(days=7)
_ONCE = """
    INSERT INTO relay_passwordnotice (app_password_id, about, key, at)
    SELECT app_password_id, %s, key, now() FROM unnest(%s::bigint[], %s::text[]) AS new (app_password_id, key)
    ON CONFLICT DO NOTHING RETURNING app_password_id, key
"""


@dataclass(frozen=True, slots=True)
class Ending:
    """One that ends soon and is still used, by whom, and what takes over."""

    app_password: AppPassword
    replacement: AppPassword | None
    uses: Sequence[Use]
    key: str


@dataclass(frozen=True, slots=True)
class Idle:
    """One that nothing has used for long. sleeps_at: when it will be put to sleep, if it will."""

    app_password: AppPassword
    idle_since: datetime
    sleeps_at: datetime | None
    key: str


def warn_of_ends(*, now: datetime | None = None) -> int:
    """Mails about those still in use that end within a step. How many app passwords were told of."""
    now = now or timezone.now()
    near = _working().filter(expires_at__gt=now, expires_at__lte=now + STEPS[-1], slept_at=None)
    used = near.exclude(last_used_at=None).prefetch_related("replacements")
    rows = used.order_by("smtp_user__organization", "expires_at", "pk")[:AT_ONCE]
    return sum(_warned(organization, list(mine), now) for organization, mine in _by_organization(rows))


def _warned(organization: Organization, rows: Sequence[AppPassword], now: datetime) -> int:
    with transaction.atomic():
        wanted = [ending for row in rows if (ending := _ending(row, now)) is not None]
        fresh = _first_time(PasswordNotice.About.ENDING, wanted)
        if fresh:
            notices.write(
                organization,
                name="ending",
                subject=_ending_subject(fresh),
                context={"endings": fresh[: notices.LISTED_MAX], "count": len(fresh)},
                also={each.app_password.created_by_id for each in fresh},
            )
    return len(fresh)


def _ending(row: AppPassword, now: datetime) -> Ending | None:
    """None if nobody uses it any more, or its life was too short for the step."""
    assert row.expires_at is not None
    replacement = replacement_of(row, now=now)
    given_at = replacement.created_at if replacement else row.created_at
    used_since = replacement.created_at if replacement else now - IN_USE
    step = next(step for step in STEPS if row.expires_at - now <= step)
    if step >= row.expires_at - given_at or row.last_used_at is None or row.last_used_at < used_since:
        return None
    key = f"{row.expires_at:%Y-%m-%dT%H:%M}:{int(step.total_seconds())}"
    return Ending(row, replacement, uses_of(row, since=used_since, now=now)[:10], key)


def _ending_subject(endings: Sequence[Ending]) -> str:
    first = endings[0].app_password
    if len(endings) > 1:
        return _("%(count)d app passwords end soon and are still used") % {"count": len(endings)}
    return _("The app password “%(name)s” of %(user)s ends soon and is still used") % {
        "name": first.name,
        "user": first.smtp_user.username,
    }


def tell_of_disuse(*, now: datetime | None = None) -> int:
    """Mails about those that nothing has used for as long as the policy says. How many were told of."""
    now = now or timezone.now()
    told = 0
    for organization, mine in _by_organization(_idle_rows(now)):
        told += _told(organization, list(mine), now)
    return told


def _told(organization: Organization, rows: Sequence[Any], now: datetime) -> int:
    policy = policy_of(organization.pk)
    with transaction.atomic():
        wanted = [idle for row in rows for idle in _idles(row, policy, now)]
        fresh = _first_time(PasswordNotice.About.UNUSED, wanted)
        listed = {each.app_password.pk: each for each in fresh}  # the later one, which knows of the sleep, if both
        if fresh:
            notices.write(
                organization,
                name="unused",
                subject=_("App passwords of %(organization)s are not used") % {"organization": organization.name},
                context={"idles": list(listed.values())[: notices.LISTED_MAX], "count": len(listed)},
                also={each.app_password.created_by_id for each in fresh},
            )
    return len(listed)


def _idles(row: Any, policy: Policy, now: datetime) -> Iterator[Idle]:
    since: datetime = row.unused_since
    if policy.unused_notice_days is not None and since <= now - timedelta(days=policy.unused_notice_days):
        yield Idle(row, since, None, f"{since:%Y-%m-%dT%H:%M}:unused")
    if policy.sleep_days is not None:
        due = since + timedelta(days=policy.sleep_days)
        if due - SLEEP_NOTICE <= now:
            yield Idle(row, since, max(due, now + SLEEP_NOTICE), _sleep_key(since))


def put_unused_to_sleep(*, now: datetime | None = None) -> int:
    """Those of organizations that want it, a week after the notice at the soonest. How many fell asleep."""
    now = now or timezone.now()
    slept = 0
    for policy in PasswordPolicy.objects.exclude(sleep_days=None).order_by("pk"):
        assert policy.sleep_days is not None
        before = now - timedelta(days=policy.sleep_days)
        mine = _unused(_working()).filter(smtp_user__organization=policy.organization_id, unused_since__lte=before)
        for row in mine.order_by("pk")[:AT_ONCE]:
            if _was_announced(row, now):
                slept += put_to_sleep(row, idle_before=before)
    return slept


def _was_announced(row: Any, now: datetime) -> bool:
    about = PasswordNotice.objects.filter(app_password=row, about=PasswordNotice.About.UNUSED)
    return about.filter(key=_sleep_key(row.unused_since), at__lte=now - SLEEP_NOTICE).exists()


def _sleep_key(since: datetime) -> str:
    return f"{since:%Y-%m-%dT%H:%M}:sleep"


def _working() -> QuerySet[AppPassword]:
    """What could sign in: of active customers and SMTP users, not ended, not a canary."""
    return (
        AppPassword.objects.filter(revoked_at=None, smtp_user__disabled_at=None)
        .exclude(kind=AppPassword.Kind.CANARY)
        .exclude(smtp_user__organization__state=Organization.State.SUSPENDED)
        .select_related("smtp_user__organization", "created_by")
    )


def _unused(rows: QuerySet[AppPassword]) -> QuerySet[Any]:
    """PostgreSQL's GREATEST leaves out what is null."""
    return rows.filter(slept_at=None).annotate(unused_since=Greatest(F("created_at"), F("last_used_at"), F("woken_at")))


def _idle_rows(now: datetime) -> Iterable[AppPassword]:
    """Those of which a notice may be due: by the shortest time that any policy has, then judged one by one."""
    days = [UNUSED_NOTICE_DAYS]
    for policy in PasswordPolicy.objects.all():
        sleep = policy.sleep_days - SLEEP_NOTICE.days if policy.sleep_days is not None else None
        days += [each for each in (policy.unused_notice_days, sleep) if each is not None]
    alive = Q(expires_at=None) | Q(expires_at__gt=now)
    rows = _unused(_working()).filter(alive, unused_since__lte=now - timedelta(days=max(0, min(days))))
    return rows.order_by("smtp_user__organization", "pk").iterator(chunk_size=2000)


def _by_organization(rows: Iterable[AppPassword]) -> Iterator[tuple[Organization, Iterator[AppPassword]]]:
    """Rows come in its order."""
    for _id, mine in groupby(rows, key=lambda row: row.smtp_user.organization_id):
        some = list(mine)
        yield some[0].smtp_user.organization, iter(some)


def _first_time(about: str, wanted: Sequence[Any]) -> list[Any]:
    """Of these, what was never told: another run that is at the same thing waits here, and then finds it told."""
    if not wanted:
        return []
    ids, keys = [each.app_password.pk for each in wanted], [each.key for each in wanted]
    with connection.cursor() as cursor:
        cursor.execute(_ONCE, [about, ids, keys])
        new = set(cursor.fetchall())
    return [each for each in wanted if (each.app_password.pk, each.key) in new]
