"""The team: members with their roles, invitations that wait, and the changes to both."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import invitations, members
from accounts.access import MemberRequest, actor_of, member_required
from accounts.forms import InviteForm, roles_to_give
from accounts.models import Invitation, Membership, Role
from accounts.roles import TEAM_CHANGE, TEAM_SEE, can, may_give


@member_required(TEAM_SEE)
def team(request: MemberRequest) -> HttpResponse:
    return _page(request)


@require_POST
@member_required(TEAM_CHANGE)
def invite_member(request: MemberRequest) -> HttpResponse:
    form = InviteForm(request.membership, request.POST)
    if not form.is_valid():
        return _page(request, form, status=400)
    try:
        invitations.invite(
            **form.cleaned_data,
            organization=request.organization,
            invited_by=request.user,
            actor=actor_of(request),
        )
    except ValidationError as error:
        form.add_error("email", error)
        return _page(request, form, status=400)
    messages.success(request, _("An invitation is on its way to %(to)s.") % {"to": form.cleaned_data["email"]})
    return redirect("accounts:team")


@require_POST
@member_required(TEAM_CHANGE)
def withdraw_invitation(request: MemberRequest, invitation_id: int) -> HttpResponse:
    invitation = get_object_or_404(Invitation, pk=invitation_id, organization=request.organization, accepted_at=None)
    invitations.withdraw(invitation, actor=actor_of(request))
    messages.success(request, _("The invitation is withdrawn; its link no longer works."))
    return redirect("accounts:team")


@require_POST
@member_required(TEAM_CHANGE)
def change_role(request: MemberRequest, membership_id: int) -> HttpResponse:
    membership = get_object_or_404(Membership, pk=membership_id, organization=request.organization)
    role = request.POST.get("role", "")
    if role not in Role.values:
        messages.error(request, _("There is no such role."))
        return redirect("accounts:team")
    try:
        members.change_role(membership, role=role, by=request.membership, actor=actor_of(request))
        messages.success(request, _("The role is changed."))
    except members.MemberRefused as refused:
        messages.error(request, " ".join(refused.messages))
    return redirect("accounts:team")


@require_POST
@member_required(TEAM_SEE)
def remove_member(request: MemberRequest, membership_id: int) -> HttpResponse:
    """Everybody who sees the team may leave it; who manages it may remove others (members.remove_member decides)."""
    membership = get_object_or_404(Membership, pk=membership_id, organization=request.organization)
    leaves = membership.pk == request.membership.pk
    try:
        members.remove_member(membership, by=request.membership, actor=actor_of(request))
    except members.MemberRefused as refused:
        messages.error(request, " ".join(refused.messages))
        return redirect("accounts:team")
    messages.success(request, _("You have left the team.") if leaves else _("The member is removed."))
    return redirect("relay:overview" if leaves else "accounts:team")


def _page(request: MemberRequest, form: InviteForm | None = None, status: int = 200) -> HttpResponse:
    mine = request.membership
    changes = can(mine, TEAM_CHANGE)
    found = Membership.objects.filter(organization=request.organization).select_related("user").order_by("created_at")
    rows: list[dict[str, Any]] = [
        {"membership": m, "is_me": m.pk == mine.pk, "changeable": changes and may_give(mine, m.role)} for m in found
    ]
    context = {
        "rows": rows,
        "changes": changes,
        "roles": roles_to_give(mine),
        "invitations": invitations.open_invitations(request.organization) if changes else [],
        "form": form or (InviteForm(mine) if changes else None),
    }
    return render(request, "accounts/team.html", context, status=status)
