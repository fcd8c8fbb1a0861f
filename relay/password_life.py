"""Between an app password's making and its end: replaced with an overlap, put to sleep, woken, and who still uses it.

Shapes  rotate_app_password() makes the one that takes over, and gives the old one an end; both work until then.
        uses_of() -> Use: from where and by which client it was used. state_of() -> the one word that lists show.
Units   OVERLAPS: whole days that a form offers. idle_before: a password unused since then may be put to sleep.
Errors  CredentialRefused (a ValidationError) with words for a form or an API answer.
Source  docs/flow.md, Rotation; docs/data.md, AppPassword.

Locks   As relay.credentials: what ends sessions (sleep) first locks the organization's limit row.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from audit.changes import SYSTEM, Actor
from audit.logins import logins
from relay import limits
from relay.changes import announce
from relay.credentials import (
    CredentialRefused,
    NewAppPassword,
    create_app_password,
    record_password,
    revoke_app_password,
)
from relay.models import AppPassword, Message, Network, SmtpUser

OVERLAPS: Final = (1, 7, 14, 30)
OVERLAP_MAX: Final = timedelta(days=366)
NAME_MAX: Final = 64
USES_MAX: Final = 50
_DATED = re.compile(r"(.*?)(?: \d{4}-\d{2}-\d{2})?")


@dataclass(frozen=True, slots=True)
class Use:
    """Accepted sign-ins from one address by one client; count: since that day, at least."""

    ip: str
    client_name: str
    count: int
    last_at: datetime


def live(now: datetime) -> Q:
    """App passwords that have not ended; a sleeping one lives."""
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))


def state_of(app_password: AppPassword, *, now: datetime) -> str:
    """revoked, expired, canary, asleep, ending (another takes over) or active. Ask of rows with their replacements."""
    if app_password.revoked_at is not None:
        return "revoked"
    if app_password.expires_at is not None and app_password.expires_at <= now:
        return "expired"
    if app_password.kind == AppPassword.Kind.CANARY:
        return "canary"
    if app_password.slept_at is not None:
        return "asleep"
    return "ending" if replacement_of(app_password, now=now) else "active"


def replacement_of(app_password: AppPassword, *, now: datetime) -> AppPassword | None:
    """The newest one that takes over from it and has not ended itself."""
    found = [each for each in app_password.replacements.all() if each.revoked_at is None]
    living = [each for each in found if each.expires_at is None or each.expires_at > now]
    return max(living, key=lambda each: (each.created_at, each.pk), default=None)


def suggested_name(name: str, *, now: datetime) -> str:
    """web-1 becomes web-1 2026-11-24, and that one later web-1 with another date."""
    matched = _DATED.fullmatch(name)
    stem = matched[1] if matched else name
    return f"{stem[: NAME_MAX - 11].rstrip()} {now:%Y-%m-%d}"


@transaction.atomic
def rotate_app_password(
    app_password: AppPassword,
    *,
    ends_at: datetime,
    actor: Actor,
    name: str = "",
    expires_at: datetime | None = None,
    created_by: User | None = None,
    now: datetime | None = None,
) -> NewAppPassword:
    """A new one with the old one's kind and networks. The old one ends at ends_at, if it would not have before."""
    now = now or timezone.now()
    _refuse_overlap(ends_at, now)
    # Of two rotations at once the second waits here, and finds the first one's.
    owner = SmtpUser.objects.select_for_update(no_key=True).get(pk=app_password.smtp_user_id)
    row = _locked(app_password)
    _refuse_rotation(row, now)
    made = create_app_password(
        owner,
        name=name.strip() or suggested_name(row.name, now=now),
        kind=row.kind,
        expires_at=expires_at,
        actor=actor,
        created_by=created_by,
        replaces=row,
    )
    _copy_networks(row, made.app_password)
    before, row.expires_at = row.expires_at, min(filter(None, (row.expires_at, ends_at)))
    row.save(update_fields=["expires_at"])
    announce(owner.organization_id, smtp_user_id=owner.pk, app_password_id=row.pk)
    values = {"replaced_by": made.app_password.name, "expires_at": [before, row.expires_at]}
    record_password("app_password.rotated", row, actor, values)
    app_password.expires_at = row.expires_at
    return made


def end_replaced(app_password: AppPassword, *, actor: Actor, now: datetime | None = None) -> None:
    """Ends at once one that has a replacement, before the end that its rotation gave it. Open sessions end with 421."""
    if replacement_of(app_password, now=now or timezone.now()) is None:
        raise CredentialRefused(_("Nothing takes over from it. Revoke it, or replace it first."), code="alone")
    revoke_app_password(app_password, actor=actor, because=AppPassword.Because.REPLACED)


@transaction.atomic
def put_to_sleep(app_password: AppPassword, *, idle_before: datetime, actor: Actor = SYSTEM) -> bool:
    """It signs in no more until it is woken. False if it has been used since, has ended, or sleeps already."""
    owner = app_password.smtp_user
    limits.lock_organization(owner.organization_id)
    row = _locked(app_password)
    now = timezone.now()
    if (
        state_of(row, now=now) not in ("active", "ending")
        or row.idle_since > idle_before
        or _sent_since(row, idle_before)
    ):
        return False
    row.slept_at = now
    row.save(update_fields=["slept_at"])
    announce(owner.organization_id, smtp_user_id=owner.pk, app_password_id=row.pk, ends_sessions=True)
    record_password("app_password.slept", row, actor, {"idle_since": row.idle_since})
    return True


@transaction.atomic
def wake_app_password(app_password: AppPassword, *, actor: Actor) -> None:
    """It signs in again, with the same secret. Waking twice changes nothing. Raises CredentialRefused if it ended."""
    row = _locked(app_password)
    now, owner = timezone.now(), app_password.smtp_user
    if state_of(row, now=now) in ("revoked", "expired"):
        raise CredentialRefused(_("It has ended, so it cannot be woken. Make a new one."), code="ended")
    if row.slept_at is not None:
        slept, row.slept_at, row.woken_at = row.slept_at, None, now
        row.save(update_fields=["slept_at", "woken_at"])
        announce(owner.organization_id, smtp_user_id=owner.pk, app_password_id=row.pk)
        record_password("app_password.woken", row, actor, {"slept_at": slept})
    app_password.slept_at, app_password.woken_at = row.slept_at, row.woken_at


def uses_of(app_password: AppPassword, *, since: datetime, now: datetime | None = None) -> list[Use]:
    """Who has signed in with it since then: one for each address and client name, the latest first."""
    found = logins(
        app_password.smtp_user.organization_id,
        since=since,
        smtp_user_id=app_password.smtp_user_id,
        app_password_id=app_password.pk,
        now=now,
    )
    return _summed((each.ip, each.client_name, each.count, each.last_at) for each in found if each.last_at >= since)


def _summed(rows: Iterable[tuple[str, str, int, datetime]]) -> list[Use]:
    """Mechanisms and TLS versions of one client are one use."""
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    last: dict[tuple[str, str], datetime] = {}
    for ip, client_name, count, last_at in rows:
        counts[ip, client_name] += count
        last[ip, client_name] = max(last_at, last.get((ip, client_name), last_at))
    uses = [Use(ip, client_name, count, last[ip, client_name]) for (ip, client_name), count in counts.items()]
    return sorted(uses, key=lambda use: use.last_at, reverse=True)[:USES_MAX]


def _refuse_overlap(ends_at: datetime, now: datetime) -> None:
    if ends_at <= now:
        raise CredentialRefused(_("The old one's end lies in the past."), code="ends_at")
    if ends_at > now + OVERLAP_MAX:
        raise CredentialRefused(_("The old one may go on for a year at most."), code="ends_at")


def _locked(app_password: AppPassword) -> AppPassword:
    return AppPassword.objects.select_for_update(no_key=True).get(pk=app_password.pk)


def _refuse_rotation(row: AppPassword, now: datetime) -> None:
    state = state_of(row, now=now)
    if state in ("revoked", "expired"):
        raise CredentialRefused(_("It has ended, so nothing can take over from it. Make a new one."), code="ended")
    if state == "canary":
        raise CredentialRefused(_("A canary is in use nowhere. Revoke it and make another."), code="canary")
    if row.slept_at is not None:
        raise CredentialRefused(_("It sleeps. Wake it first, or revoke it and make a new one."), code="asleep")
    if (other := replacement_of(row, now=now)) is not None:
        raise CredentialRefused(
            _("“%(name)s” takes over from it already."), code="replaced", params={"name": other.name}
        )


def _copy_networks(old: AppPassword, new: AppPassword) -> None:
    """What the old one may be used from, the new one may, and nothing else."""
    rows: QuerySet[Network] = old.networks.all()
    Network.objects.bulk_create(
        Network(
            organization_id=each.organization_id,
            smtp_user_id=each.smtp_user_id,
            app_password=new,
            cidr=each.cidr,
            label=each.label,
            ends_at=each.ends_at,
        )
        for each in rows
    )


def _sent_since(row: AppPassword, moment: datetime) -> bool:
    """A session may be older than its last sign-in: mail counts as use."""
    mine = Message.objects.filter(smtp_user=row.smtp_user_id, received_at__gt=moment, app_password=row.pk)
    return mine.exists()
