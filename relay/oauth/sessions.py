"""Ending what access tokens opened: sessions under way get 421, and nothing of theirs commits any more.

Shapes  SmtpUser.token_epoch goes up; smtpd compares it in the accepting transaction. App passwords are not touched.
Locks   The organization's limit row first, as the writer does (relay.credentials); rows of OAuth's tables before it.
"""

from django.db import transaction
from django.db.models import F

from relay import limits
from relay.changes import TOKEN_SESSIONS, announce
from relay.models import SmtpUser


@transaction.atomic
def end_token_sessions(organization_id: int, *, smtp_user_id: int | None = None) -> None:
    """Of one SMTP user, or of all of the organization."""
    limits.lock_organization(organization_id)
    concerned = SmtpUser.objects.filter(organization_id=organization_id)
    if smtp_user_id is not None:
        concerned = concerned.filter(pk=smtp_user_id)
    concerned.update(token_epoch=F("token_epoch") + 1)
    announce(organization_id, smtp_user_id=smtp_user_id, app_password_id=TOKEN_SESSIONS, ends_sessions=True)
