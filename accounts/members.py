"""Members of an organization: joining, roles, leaving.

Shapes  Every change locks the Organization's row first, so that of two last owners who leave at once one stays.
        `by` is the membership of who acts; it is read again under the lock, since it may have just been taken away.
Errors  MemberRefused: LastOwner (an organization keeps an owner) or NotYours (only an owner touches owners).
"""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Invitation, Membership, Organization, Role, User
from accounts.roles import TEAM_CHANGE, can, may_give
from audit.changes import Actor, record_change


class MemberRefused(ValidationError):
    """The change of a member is not allowed."""


class LastOwner(MemberRefused):
    """Nobody would be left to manage the organization."""


class NotYours(MemberRefused):
    """The one who acts has not the role for it."""


def members_of(organization_id: int) -> int:
    """How many count against the plan: members, and who is invited."""
    invited = Invitation.objects.filter(organization=organization_id, accepted_at=None, expires_at__gt=timezone.now())
    return Membership.objects.filter(organization=organization_id).count() + invited.count()


def add_member(organization: Organization, *, user: User, role: str, actor: Actor) -> Membership:
    """Who is a member already keeps the role."""
    with transaction.atomic():
        _lock(organization.pk)
        membership, is_new = Membership.objects.get_or_create(
            user=user, organization=organization, defaults={"role": role}
        )
        if is_new:
            _record("member.joined", membership, actor, {"role": str(role)})
    return membership


def change_role(membership: Membership, *, role: str, by: Membership, actor: Actor) -> None:
    with transaction.atomic():
        _lock(membership.organization_id)
        current, acting = _again(membership), _again(by)
        if not (may_give(acting, role) and may_give(acting, current.role)):
            raise NotYours(_("Only an owner can make or change owners."), code="role")
        if current.role == role:
            return
        _refuse_if_last_owner(current)
        before, current.role = current.role, role
        current.save(update_fields=["role"])
        _record("member.role_changed", current, actor, {"from": before, "to": str(role)})


def remove_member(membership: Membership, *, by: Membership, actor: Actor) -> None:
    """Anybody may leave; others are removed by who manages the team."""
    with transaction.atomic():
        _lock(membership.organization_id)
        current, acting = _again(membership), _again(by)
        leaves = current.pk == acting.pk
        if not leaves and not (can(acting, TEAM_CHANGE) and may_give(acting, current.role)):
            raise NotYours(_("Only an owner can remove an owner."), code="role")
        _refuse_if_last_owner(current)
        _record("member.left" if leaves else "member.removed", current, actor, {"role": current.role})
        current.delete()


def _lock(organization_id: int) -> None:
    Organization.objects.select_for_update(no_key=True).get(pk=organization_id)


def _again(membership: Membership) -> Membership:
    try:
        return Membership.objects.select_related("user").get(pk=membership.pk)
    except Membership.DoesNotExist:
        raise NotYours(_("This member has left meanwhile."), code="gone") from None


def _refuse_if_last_owner(membership: Membership) -> None:
    if membership.role != Role.OWNER:
        return
    others = Membership.objects.filter(organization_id=membership.organization_id, role=Role.OWNER)
    if not others.exclude(pk=membership.pk).exists():
        raise LastOwner(_("An organization keeps at least one owner. Make somebody else an owner first."), code="last")


def _record(action: str, membership: Membership, actor: Actor, values: dict[str, str]) -> None:
    record_change(
        action,
        organization_id=membership.organization_id,
        actor=actor,
        subject=membership.user.email,
        subject_id=str(membership.user_id),
        values=values,
    )
