"""Invitations: into an organization with a role, or, from an operator, to found one.

Shapes  The token (256 bits) is in the mail alone; the row holds its SHA-256. Inviting an address again replaces the
        open one. Who accepts proves the address by the token: a new account is confirmed from the start, an existing
        one must be signed in.
Units   7 days. At most 50 open ones an organization, and 100 mails a day, withdrawn ones included.
Errors  InvitationRefused (ValidationError) when made; InvitationClosed when it was used, has expired, or is gone.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.mail import link, send_mail
from accounts.members import add_member
from accounts.models import Invitation, Membership, Organization, Role, User
from accounts.organizations import create_organization
from accounts.plans import PlanFull, refuse_if_full
from audit.changes import Actor, record_change
from audit.models import ChangeEvent

LIVES: Final = timedelta(days=7)
OPEN_AT_MOST: Final = 50
SENT_A_DAY: Final = 100


class InvitationRefused(ValidationError):
    """The invitation cannot be made."""


class InvitationClosed(Exception):
    """Used, expired, or withdrawn."""


@dataclass(frozen=True, slots=True)
class NewInvitation:
    invitation: Invitation
    message_id: str | None  # of the mail in Gatepost's own queue


def invite(
    *,
    email: str,
    actor: Actor,
    organization: Organization | None = None,
    role: str = Role.DEVELOPER,
    invited_by: User | None = None,
    now: datetime | None = None,
) -> NewInvitation:
    """Without an organization: a new customer, who names and owns theirs. Views ask first who may give which role."""
    now, email, token = now or timezone.now(), email.strip().lower(), secrets.token_urlsafe(32)
    with transaction.atomic():
        _refuse_or_replace(email, organization, now)
        invitation = Invitation.objects.create(
            email=email,
            organization=organization,
            role=role if organization else Role.OWNER,
            token_digest=_digest(token),
            invited_by=invited_by,
            created_at=now,
            expires_at=now + LIVES,
        )
        _record("invitation.sent", invitation, actor)
        return NewInvitation(invitation, _send(invitation, token))


def withdraw(invitation: Invitation, *, actor: Actor) -> None:
    with transaction.atomic():
        deleted, _by_model = Invitation.objects.filter(pk=invitation.pk, accepted_at=None).delete()
        if deleted:
            _record("invitation.withdrawn", invitation, actor)


def open_invitations(organization: Organization, *, now: datetime | None = None) -> list[Invitation]:
    now = now or timezone.now()
    found = Invitation.objects.filter(organization=organization, accepted_at=None, expires_at__gt=now)
    return list(found.select_related("invited_by").order_by("created_at"))


def find_invitation(token: str, *, now: datetime | None = None) -> Invitation:
    found = Invitation.objects.select_related("organization", "invited_by").filter(token_digest=_digest(token)).first()
    if found is None or found.accepted_at is not None or found.expires_at <= (now or timezone.now()):
        raise InvitationClosed
    return found


def accept(
    invitation: Invitation, *, user: User, organization_name: str = "", now: datetime | None = None
) -> Organization:
    """For an account that exists and is signed in, under the address that was invited."""
    if user.email != invitation.email:
        raise InvitationClosed
    with transaction.atomic():
        _close(invitation, now or timezone.now())
        return _let_in(invitation, user, organization_name)


def accept_as_new(
    invitation: Invitation, *, password: str, name: str = "", organization_name: str = "", now: datetime | None = None
) -> User:
    """For an address without an account; IntegrityError if it got one meanwhile."""
    now = now or timezone.now()
    with transaction.atomic():
        _close(invitation, now)
        user = User.objects.create_user(invitation.email, password, name=name, email_confirmed_at=now)
        _let_in(invitation, user, organization_name)
    return user


def _let_in(invitation: Invitation, user: User, organization_name: str) -> Organization:
    actor = Actor(name=user.email, id=user.pk)
    if invitation.organization is None:
        return create_organization(name=organization_name, owner=user, actor=actor)
    add_member(invitation.organization, user=user, role=invitation.role, actor=actor)
    return invitation.organization


def _close(invitation: Invitation, now: datetime) -> None:
    """One UPDATE decides: of two that accept at once, one does."""
    still_open = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, expires_at__gt=now)
    if not still_open.update(accepted_at=now):
        raise InvitationClosed


def _refuse_or_replace(email: str, organization: Organization | None, now: datetime) -> None:
    if organization is None:
        if settings.GATEPOST_SIGNUP == "closed":
            raise InvitationRefused(_("Sign-up is closed on this installation (GATEPOST_SIGNUP)."), code="closed")
    else:
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)  # the count below must hold
        if Membership.objects.filter(organization=organization, user__email=email).exists():
            raise InvitationRefused(_("This person is a member already."), code="member")
    waiting = Invitation.objects.filter(organization=organization, accepted_at=None)
    waiting.filter(email=email).delete()
    if organization is not None:
        _refuse_beyond_plan(organization)
    if organization is not None and waiting.filter(expires_at__gt=now).count() >= OPEN_AT_MOST:
        raise InvitationRefused(_("Too many open invitations. Withdraw some first."), code="too_many")
    if organization is not None and _sent_within_a_day(organization, now) >= SENT_A_DAY:
        raise InvitationRefused(_("Too many invitations today. Send the others tomorrow."), code="too_many")


def _refuse_beyond_plan(organization: Organization) -> None:
    try:
        refuse_if_full(organization, "members")
    except PlanFull as full:
        raise InvitationRefused(full) from None


def _sent_within_a_day(organization: Organization, now: datetime) -> int:
    recent = ChangeEvent.objects.filter(organization_id=organization.pk, at__gt=now - timedelta(days=1))
    return int(recent.filter(action="invitation.sent").count())


def _send(invitation: Invitation, token: str) -> str | None:
    organization = invitation.organization
    subject = _("Join %(name)s on Gatepost") % {"name": organization.name} if organization else _("Join Gatepost")
    return send_mail(
        "invitation",
        to=invitation.email,
        subject=subject,
        context={"invitation": invitation, "link": link("accounts:accept_invitation", token)},
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _record(action: str, invitation: Invitation, actor: Actor) -> None:
    record_change(
        action,
        organization_id=invitation.organization_id or 0,
        actor=actor,
        subject=invitation.email,
        subject_id=str(invitation.pk),
        values={"role": str(invitation.role)},
    )
