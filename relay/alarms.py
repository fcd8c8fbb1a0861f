"""A canary was tried, or a live secret was seen where none belongs: the alert, and the mail to those who answer for it.

Shapes  raise_for() opens the case among the alerts, or brings it up to date. Where no mail of the case is due (nobody
        wants mails of alerts), owners and admins get one all the same, once for each case.
        handle_waiting(): what smtpd wrote, one alarm for each secret, within seconds.
Units   AT_ONCE: rows of one sweep. KEPT: how long rows stay that were told.
Errors  Those of the database; what was not told is told by the next sweep.
Source  docs/security.md, Canaries and secrets in the open.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import ApiKey
from audit.anomalies.cases import raise_alert
from audit.anomalies.models import AlertMail, Anomaly, Kind, Severity
from relay import notices
from relay.models import AppPassword, CredentialAlarm

AT_ONCE: Final = 2000
KEPT: Final = timedelta(days=30)
ADDRESSES_MAX: Final = 20
KINDS: Final = {CredentialAlarm.Kind.CANARY: Kind.CANARY, CredentialAlarm.Kind.SEEN: Kind.LEAKED}


@transaction.atomic
def raise_for(
    secret: AppPassword | ApiKey,
    *,
    kind: Kind,
    evidence: Mapping[str, Any],
    first_at: datetime | None = None,
    last_at: datetime | None = None,
) -> Anomaly:
    organization, user = _owner_of(secret), secret.smtp_user if isinstance(secret, AppPassword) else None
    known = {"name": secret.name, "username": user.username if user else ""}
    before = timezone.now()
    anomaly = raise_alert(
        kind,
        organization_id=organization.pk,
        key=f"{kind}:{'key' if user is None else 'password'}:{secret.pk}",
        severity=Severity.CRITICAL,
        evidence={**known, **evidence},
        smtp_user_ids=[user.pk] if user else [],
        app_password_ids=[secret.pk] if user else [],
        first_at=first_at,
        last_at=last_at,
    )
    if anomaly.opened_at >= before and not AlertMail.objects.filter(anomaly=anomaly).exists():
        notices.write(
            organization,
            name="alarm",
            subject=_subject(kind) % {"name": secret.name},
            context={"kind": kind, "secret_name": secret.name, "user": user, "evidence": evidence, "at": before},
            also=[secret.created_by_id],
        )
    return anomaly


def handle_waiting(*, most: int = AT_ONCE) -> int:
    """How many alarms were told. Of two sweeps at once each takes what the other has not."""
    waiting = CredentialAlarm.objects.filter(handled_at=None).order_by("at")[:most]
    groups = sorted(set(waiting.values_list("kind", "app_password_id", "api_key_id")), key=str)
    return sum(_handle(*group) for group in groups)


@transaction.atomic
def _handle(kind: str, app_password_id: int | None, api_key_id: int | None) -> bool:
    same = CredentialAlarm.objects.filter(
        handled_at=None, kind=kind, app_password=app_password_id, api_key=api_key_id
    ).order_by("at")
    rows = list(same.select_for_update(skip_locked=True, no_key=True)[:AT_ONCE])
    if not rows:
        return False
    CredentialAlarm.objects.filter(pk__in=[row.pk for row in rows]).update(handled_at=timezone.now())
    secret: AppPassword | ApiKey
    if app_password_id is not None:
        secret = AppPassword.objects.select_related("smtp_user__organization").get(pk=app_password_id)
    else:
        assert api_key_id is not None
        secret = ApiKey.objects.select_related("organization").get(pk=api_key_id)
    evidence = _evidence(rows, _owner_of(secret).pk, secret)
    raise_for(
        secret, kind=KINDS[CredentialAlarm.Kind(kind)], evidence=evidence, first_at=rows[0].at, last_at=rows[-1].at
    )
    return True


def _evidence(rows: Sequence[CredentialAlarm], organization_id: int, secret: AppPassword | ApiKey) -> dict[str, Any]:
    """Of a session that another customer had signed in to, nothing but that there was one."""
    known: dict[str, Any] = {"count": sum(row.count for row in rows), "where": _places(rows)}
    open_to_them = [row for row in rows if row.session_organization_id in (None, organization_id)]
    if not open_to_them:
        return known | {"of_another_customer": True}
    last = open_to_them[-1]
    filters = {"ip": last.ip}
    if isinstance(secret, AppPassword) and last.kind == CredentialAlarm.Kind.CANARY:
        filters["user"] = secret.smtp_user.username
    return known | {
        "ip": last.ip,
        "ips": _each(row.ip for row in open_to_them)[:ADDRESSES_MAX],
        "client": last.client_name,
        "reference": last.reference,
        "filters": [filters],
    }


def _places(rows: Sequence[CredentialAlarm]) -> str:
    words = {
        "password": _("as a password"),
        "username": _("as the username"),
        "client name": _("as the client's name"),
        "sender": _("in the sender's address"),
        "message": _("in the subject or another header of a message"),
    }
    return ", ".join(_each(words.get(row.place, row.place) for row in rows))


def _each(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _owner_of(secret: AppPassword | ApiKey) -> Any:
    return secret.smtp_user.organization if isinstance(secret, AppPassword) else secret.organization


def _subject(kind: Kind) -> str:
    if kind == Kind.CANARY:
        return _("Somebody tried your canary “%(name)s”")
    return _("Your secret “%(name)s” was seen in the open")


def delete_told(*, now: datetime | None = None) -> int:
    """In batches, so that no lock is held for long."""
    old = CredentialAlarm.objects.filter(handled_at__lt=(now or timezone.now()) - KEPT)
    deleted = 0
    while some := list(old.values_list("pk", flat=True)[:AT_ONCE]):
        deleted += CredentialAlarm.objects.filter(pk__in=some).delete()[0]
    return deleted
