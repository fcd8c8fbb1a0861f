"""Sign-up and the confirmation of an e-mail address.

Shapes  sign_up makes User (unconfirmed), Organization (pending, on Trial), the owner's Membership, and sends the link.
        A link carries user and address, signed; it has done its work once the address is confirmed.
Units   A link lives 24 hours.
Errors  LinkInvalid, LinkExpired(user), LinkUsed(user). A known address is no error: it gets another mail.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.hashers import make_password
from django.core import signing
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.mail import link, send_mail
from accounts.models import User
from accounts.organizations import create_organization
from accounts.own_changes import record_own_change
from audit.changes import Actor

LINK_LIVES: Final = timedelta(hours=24)
_SALT: Final = "accounts.registration"


class LinkInvalid(Exception):
    """Cut off, altered, or of an account that is gone."""


class LinkExpired(LinkInvalid):
    """Older than LINK_LIVES, and not used."""


class LinkUsed(LinkInvalid):
    """The address is confirmed already."""


@dataclass(frozen=True, slots=True)
class SignUp:
    """What the page after it may know: in the demo, the mail."""

    message_id: str | None


def sign_up(*, email: str, password: str, organization_name: str) -> SignUp:
    """The same work for a known address as for a new one: one password hash, one mail."""
    email = email.strip().lower()
    hashed = make_password(password)
    with transaction.atomic():
        user = _insert(email, hashed)
        if user is None:
            return SignUp(_tell_the_owner(email))
        create_organization(name=organization_name, owner=user, actor=Actor(name=user.email, id=user.pk))
        return SignUp(send_confirmation(user))


def send_confirmation(user: User) -> str | None:
    token = signing.dumps({"user": user.pk, "email": user.email}, salt=_SALT)
    return send_mail(
        "confirm_email",
        to=user.email,
        subject=_("Confirm your e-mail address for Gatepost"),
        context={"link": link("accounts:confirm_email", token)},
    )


def resend_confirmation(email: str) -> str | None:
    """Only an unconfirmed account gets one; the page says the same in any case."""
    user = User.objects.filter(email=email.strip().lower(), is_active=True, email_confirmed_at=None).first()
    return send_confirmation(user) if user else None


def user_of_link(token: str) -> User:
    try:
        found = signing.loads(token, salt=_SALT, max_age=LINK_LIVES)
        expired = False
    except signing.SignatureExpired:
        found, expired = signing.loads(token, salt=_SALT), True
    except signing.BadSignature:
        raise LinkInvalid from None
    user = User.objects.filter(pk=found["user"], email=found["email"], is_active=True).first()
    if user is None:
        raise LinkInvalid
    if user.email_confirmed_at is not None:
        raise LinkUsed
    if expired:
        raise LinkExpired
    return user


def confirm_email(user: User, *, now: datetime | None = None) -> None:
    with transaction.atomic():
        if User.objects.filter(pk=user.pk, email_confirmed_at=None).update(email_confirmed_at=now or timezone.now()):
            record_own_change("email.confirmed", user=user, actor=Actor(name=user.email, id=user.pk))


def _insert(email: str, hashed: str) -> User | None:
    """None if the address is known, found out by the constraint: of two sign-ups at once one makes the account."""
    try:
        with transaction.atomic():
            return User.objects.create(email=email, password=hashed)
    except IntegrityError:
        return None


def _tell_the_owner(email: str) -> str | None:
    return send_mail(
        "account_exists",
        to=email,
        subject=_("You have a Gatepost account already"),
        context={"sign_in": link("accounts:sign_in"), "reset": link("accounts:password_reset")},
    )
