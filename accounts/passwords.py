"""Changing a person's password: by themselves, or by the link of a reset mail.

Shapes  Every earlier hash goes to PasswordHistory, so that an organization may ask for a history at any time.
        Sessions end by themselves: Django binds each to the password's hash; the changing one is renewed by the view.
Units   24 earlier hashes are kept.
Source  docs/data.md, PasswordHistory.
"""

from datetime import datetime
from typing import Final

from axes.utils import reset as forget_failures
from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext as _

from accounts.mail import link, send_mail
from accounts.models import PasswordHistory, User
from accounts.own_changes import record_own_change
from audit.changes import Actor

KEPT: Final = 24


def change_password(user: User, *, password: str, actor: Actor, now: datetime | None = None) -> None:
    """The password was validated by the form."""
    with transaction.atomic():
        _store(user, password, now or timezone.now())
        record_own_change("password.changed", user=user, actor=actor)


def reset_password(user: User, *, password: str, now: datetime | None = None) -> None:
    """Who read the mail owns the address: it counts as confirmed, and failed guesses no longer lock its owner out."""
    now = now or timezone.now()
    with transaction.atomic():
        _store(user, password, now)
        if user.email_confirmed_at is None:
            user.email_confirmed_at = now
            user.save(update_fields=["email_confirmed_at"])
        record_own_change("password.reset", user=user, actor=Actor(name=user.email, id=user.pk))
    forget_failures(username=user.email)


def send_reset_link(email: str) -> str | None:
    """Nothing is said about whether the address is known; the message id is for the demo's page alone."""
    user = User.objects.filter(email=email.strip().lower(), is_active=True).first()
    if user is None:
        return None
    key = urlsafe_base64_encode(force_bytes(user.pk))
    return send_mail(
        "password_reset",
        to=user.email,
        subject=_("Set a new password for Gatepost"),
        context={"link": link("accounts:password_reset_confirm", key, default_token_generator.make_token(user))},
    )


def _store(user: User, password: str, now: datetime) -> None:
    current = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if current.has_usable_password():
        PasswordHistory.objects.create(user=current, password=current.password, replaced_at=now)
        kept = user.password_history.order_by("-replaced_at", "-pk").values_list("pk", flat=True)[:KEPT]
        user.password_history.exclude(pk__in=list(kept)).delete()
    user.set_password(password)
    user.password_changed_at = now
    user.save(update_fields=["password", "password_changed_at"])
