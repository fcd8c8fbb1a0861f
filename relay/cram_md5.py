"""CRAM-MD5: switched on for one SMTP user, and only where the installation allows it at all.

Shapes  enable(smtp_user, actor), disable(smtp_user, actor); kept(smtp_user, secret) -> what a new app password stores.
        forget_ended(): a sweep, for those that ended by their own date.
Errors  NotAllowed (a ValidationError): the installation does not offer it (GATEPOST_CRAM_MD5).
Source  RFC 2195. It needs the secret itself on the server, and its digest can be attacked by whoever reads it: so only
        app passwords made while it is on keep their secret, encrypted, and only until it is switched off.
"""

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.changes import Actor, record_change
from relay import sealed
from relay.changes import announce
from relay.models import AppPassword, SmtpUser

KEPT_AFTER_END: Final = timedelta(days=7)  # meanwhile the auth log can still say why a device fails


class NotAllowed(ValidationError):
    """The operator has not allowed it."""


def is_allowed() -> bool:
    """Whether this installation offers CRAM-MD5 at all."""
    allowed: bool = settings.GATEPOST_CRAM_MD5
    return allowed


def kept(smtp_user: SmtpUser, secret: str) -> bytes | None:
    """The sealed secret of a new app password; None if CRAM-MD5 is off for its SMTP user."""
    return sealed.sealed(secret) if smtp_user.cram_md5_enabled_at and is_allowed() else None


def names_of(smtp_user: SmtpUser) -> list[str]:
    """The app passwords that work with it."""
    kept = smtp_user.app_passwords.filter(revoked_at=None).exclude(cram_md5_secret=None)
    return list(kept.order_by("name").values_list("name", flat=True))


def unreadable() -> int:
    """How many kept secrets no key at hand opens: their devices are refused as if the app password were wrong."""
    kept = AppPassword.objects.exclude(cram_md5_secret=None).values_list("cram_md5_secret", flat=True)
    return sum(not sealed.opens(bytes(token)) for token in kept.iterator() if token is not None)


def forget_ended(*, now: datetime | None = None) -> int:
    """What ended need not be readable any more. How many secrets were forgotten."""
    ended = AppPassword.objects.filter(expires_at__lt=(now or timezone.now()) - KEPT_AFTER_END)
    return ended.exclude(cram_md5_secret=None).update(cram_md5_secret=None)


@transaction.atomic
def enable(smtp_user: SmtpUser, *, actor: Actor) -> None:
    """For app passwords made from now on: those that exist cannot be read. Raises NotAllowed."""
    if not is_allowed():
        raise NotAllowed(_("CRAM-MD5 is not offered here. The operator decides that."), code="not_allowed")
    row = SmtpUser.objects.select_for_update(no_key=True).get(pk=smtp_user.pk)
    if row.cram_md5_enabled_at is None:
        row.cram_md5_enabled_at = timezone.now()
        _save(row, "smtp_user.cram_md5_enabled", actor)
    smtp_user.cram_md5_enabled_at = row.cram_md5_enabled_at


@transaction.atomic
def disable(smtp_user: SmtpUser, *, actor: Actor) -> None:
    """Forgets the secrets that were kept for it. The app passwords work on, by every other mechanism."""
    row = SmtpUser.objects.select_for_update(no_key=True).get(pk=smtp_user.pk)
    if row.cram_md5_enabled_at is not None:
        row.cram_md5_enabled_at = None
        row.app_passwords.exclude(cram_md5_secret=None).update(cram_md5_secret=None)
        _save(row, "smtp_user.cram_md5_disabled", actor)
    smtp_user.cram_md5_enabled_at = None


def _save(row: SmtpUser, action: str, actor: Actor) -> None:
    row.save(update_fields=["cram_md5_enabled_at"])
    announce(row.organization_id, smtp_user_id=row.pk)
    record_change(
        action, organization_id=row.organization_id, actor=actor, subject=row.username, subject_id=str(row.pk)
    )
