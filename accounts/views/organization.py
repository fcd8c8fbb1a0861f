"""The organization's name and its rules for members, and the switch between organizations."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.access import (
    MemberRequest,
    UserRequest,
    actor_of,
    member_required,
    recent_mfa_required,
    signed_in_required,
)
from accounts.forms import OrganizationForm
from accounts.middleware import SESSION_KEY
from accounts.models import Membership
from accounts.organizations import update_organization
from accounts.roles import ORGANIZATION_CHANGE


@member_required(ORGANIZATION_CHANGE)
@recent_mfa_required
def organization_settings(request: MemberRequest) -> HttpResponse:
    if request.method == "POST":
        form = OrganizationForm(request.POST)
        if form.is_valid():
            update_organization(request.organization, actor=actor_of(request), **form.cleaned_data)
            messages.success(request, _("Saved."))
            return redirect("accounts:organization_settings")
    else:
        now = {name: getattr(request.organization, name) for name in OrganizationForm.base_fields}
        form = OrganizationForm(initial=now)
    return render(request, "accounts/organization_settings.html", {"form": form})


@require_POST
@signed_in_required
def switch_organization(request: UserRequest) -> HttpResponse:
    """Of another's organization nothing is said, not even that it exists."""
    wanted = request.POST.get("organization", "")
    membership = get_object_or_404(
        Membership, user=request.user, organization_id=int(wanted) if wanted.isdecimal() and len(wanted) < 19 else 0
    )
    request.session[SESSION_KEY] = membership.organization_id
    return redirect("relay:overview")
