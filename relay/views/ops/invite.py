"""Inviting a new customer: a mail with a link, by which one address founds one organization."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.access import UserRequest, actor_of
from accounts.invitations import invite as send_invitation
from accounts.models import Invitation
from relay.views.ops.access import operator_action
from relay.views.ops.forms import InviteForm


@require_http_methods(["GET", "HEAD", "POST"])
@operator_action
def invite(request: UserRequest) -> HttpResponse:
    form = InviteForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        email = form.cleaned_data["email"]
        try:
            send_invitation(email=email, actor=actor_of(request), invited_by=request.user)
        except ValidationError as refused:
            form.add_error("email", refused)
        else:
            messages.success(request, _("The invitation to %(email)s is on its way.") % {"email": email})
            return redirect("relay:ops_invite")
    waiting = Invitation.objects.filter(organization=None, accepted_at=None, expires_at__gt=timezone.now())
    context = {"form": form, "waiting": waiting.select_related("invited_by").order_by("-created_at")}
    return render(request, "ops/invite.html", context)
