"""Secrets of ours that somebody found where they should not be: taken in, looked up, ended, and told to their owner.

Shapes  tokens_in(text) -> what in it may be a secret. report() stores each alike, whether it is ours or not: its time
        and its answer tell nothing. handle() does what follows, in the sweep; of an organization's own, told() says
        at once what happened: "revoked", "ended" (it had before), "canary" (it works nowhere; its owner is told).
Units   TOKENS_MAX: of one report. REPORTS_AN_HOUR: from one address and web process.
Errors  None of a text's making.
Source  docs/security.md, When one has leaked, For secret scanners.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import api_keys, checksum
from accounts.models import ApiKey, Organization
from audit.anomalies.models import Kind
from audit.changes import Actor
from audit.record import printable
from relay import alarms, app_passwords, notices
from relay.credentials import revoke_app_password
from relay.models import AppPassword, LeakReport

TOKENS_MAX: Final = 100
TOKEN_LENGTH_MAX: Final = 300
REPORTS_AN_HOUR: Final = 60
AT_ONCE: Final = 500
REPORTER: Final = Actor("leak report")
_MARKED: Final = re.compile(r"gpk?_[0-9A-Za-z]{28,36}")


@dataclass(frozen=True, slots=True)
class Found:
    """A secret, and the reporter's words for where it was."""

    token: str
    found_at: str = ""


def tokens_in(text: str) -> list[str]:
    """Each text of the form of our secrets, once; where there is none, all of it: a device password has no mark."""
    marked = list(dict.fromkeys(_MARKED.findall(text)))
    whole = text.strip().strip("'\"`")
    return marked[:TOKENS_MAX] or ([whole[:TOKEN_LENGTH_MAX]] if whole else [])


def report(found: Sequence[Found], *, reporter: str) -> list[LeakReport]:
    """The same work for every text. Nothing is looked up here."""
    return LeakReport.objects.bulk_create(
        LeakReport(
            digests=_digests(each.token),
            hint=_hint(each.token),
            found_at=printable(each.found_at, 500),
            reporter=printable(reporter, 64),
        )
        for each in found[:TOKENS_MAX]
    )


def told(reports: Iterable[LeakReport], organization: Organization) -> list[str]:
    """What became of each, if it is this organization's; "received" for all others, which the sweep looks at later."""
    return [handle(each) if _is_theirs(each, organization) else "received" for each in reports]


def handle_waiting(*, most: int = AT_ONCE) -> int:
    """Every report that nobody has looked at, oldest first. How many; two at once share them."""
    done = 0
    waiting = LeakReport.objects.filter(handled_at=None).order_by("at", "pk")
    for pk in waiting.values_list("pk", flat=True)[:most]:
        done += bool(_handle(pk))
    return done


def handle(each: LeakReport) -> str:
    return _handle(each.pk) or LeakReport.objects.values_list("outcome", flat=True).get(pk=each.pk)


@transaction.atomic
def _handle(pk: int) -> str:
    """Empty if another has it, or had it."""
    row = LeakReport.objects.select_for_update(no_key=True, skip_locked=True).filter(pk=pk, handled_at=None).first()
    if row is None:
        return ""
    row.app_password, row.api_key = _password_of(row), _key_of(row)
    if row.app_password is not None:
        row.outcome = _end_password(row.app_password, row)
    elif row.api_key is not None:
        row.outcome = _end_key(row.api_key, row)
    else:
        row.outcome = "unknown"
    row.handled_at = timezone.now()
    LeakReport.objects.filter(pk=pk).update(
        app_password=row.app_password, api_key=row.api_key, outcome=row.outcome, handled_at=row.handled_at
    )
    return row.outcome


def _end_password(app_password: AppPassword, row: LeakReport) -> str:
    if app_password.revoked_at is not None:
        return "ended"
    owner = app_password.smtp_user
    if app_password.kind == AppPassword.Kind.CANARY:
        alarms.raise_for(
            app_password, kind=Kind.CANARY, evidence={"where": row.found_at or _("reported, without saying where")}
        )
        return "canary"
    why = {"found_at": row.found_at, "reporter": row.reporter}
    if not revoke_app_password(app_password, actor=REPORTER, because=AppPassword.Because.LEAKED, **why):
        return "ended"  # another report of the same was quicker
    _tell(owner.organization, row, name=app_password.name, user=owner.username, also=[app_password.created_by_id])
    return "revoked"


def _end_key(api_key: ApiKey, row: LeakReport) -> str:
    ended = api_keys.revoke_api_key(
        api_key, actor=REPORTER, because="leaked", found_at=row.found_at, reporter=row.reporter
    )
    if not ended:
        return "ended"
    _tell(api_key.organization, row, name=api_key.name, user="", also=[api_key.created_by_id])
    return "revoked"


def _tell(organization: Organization, row: LeakReport, *, name: str, user: str, also: Iterable[int | None]) -> None:
    what = f"{user}: {name}" if user else name
    notices.write(
        organization,
        name="leaked",
        subject=_("Revoked, because it was found in the open: %(what)s") % {"what": what},
        context={"report": row, "secret_name": name, "username": user},
        also=also,
    )


def delete_old(*, now: datetime | None = None) -> int:
    """Reports of what was none of ours after a month, the others after a year."""
    now = now or timezone.now()
    foreign = Q(outcome="unknown", handled_at__lt=now - timedelta(days=30))
    old = LeakReport.objects.filter(foreign | Q(handled_at__lt=now - timedelta(days=365)))
    deleted = 0
    while some := list(old.values_list("pk", flat=True)[:AT_ONCE]):
        deleted += LeakReport.objects.filter(pk__in=some).delete()[0]
    return deleted


def _is_theirs(row: LeakReport, organization: Organization) -> bool:
    passwords = _passwords(row).filter(smtp_user__organization=organization)
    keys = ApiKey.objects.filter(digest__in=row.digests, organization=organization)
    return passwords.exists() or keys.exists()


def _passwords(row: LeakReport) -> QuerySet[AppPassword]:
    return AppPassword.objects.filter(digest__in=row.digests)


def _password_of(row: LeakReport) -> AppPassword | None:
    return _passwords(row).select_related("smtp_user__organization").order_by("pk").first()


def _key_of(row: LeakReport) -> ApiKey | None:
    return ApiKey.objects.filter(digest__in=row.digests).select_related("organization").first()


def _digests(token: str) -> list[bytes]:
    """Of both kinds and every pepper: always as many, always the same work."""
    token = token.strip()[:TOKEN_LENGTH_MAX]
    return app_passwords.digests(token) + api_keys.digests(token)


def _hint(token: str) -> str:
    return f"{token[:8]}…" if checksum.SECRET.fullmatch(token) else ""
