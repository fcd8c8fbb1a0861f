"""The link of an invitation: a new account, or a further organization for an existing one."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts import invitations
from accounts.access import mark_recent, send_to
from accounts.forms import FoundForm, JoinForm
from accounts.middleware import SESSION_KEY
from accounts.models import Invitation, User


@never_cache
@sensitive_post_parameters("password")
def accept_invitation(request: HttpRequest, token: str) -> HttpResponse:
    try:
        invitation = invitations.find_invitation(token)
        user = User.objects.filter(email=invitation.email).first()
        if user is None:
            return _join(request, invitation)
        if not request.user.is_authenticated:
            messages.info(request, _("Sign in to accept the invitation."))
            return send_to(request, settings.LOGIN_URL)
        if request.user.pk != user.pk:
            return render(request, "accounts/invitation_other.html", {"invitation": invitation}, status=403)
        return _accept(request, invitation, user)
    except invitations.InvitationClosed:
        return render(request, "accounts/invitation_closed.html", status=410)


def _join(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    """Somebody signed in as another person stays that: the new account signs in by itself."""
    if request.user.is_authenticated:
        return render(request, "accounts/invitation_other.html", {"invitation": invitation}, status=403)
    data = request.POST if request.method == "POST" else None
    form = JoinForm(invitation.email, invitation.organization, data)
    if form.is_valid():
        try:
            user = invitations.accept_as_new(invitation, **form.cleaned_data)
        except IntegrityError:  # the address signed up while this page was open
            return redirect(request.path)
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        mark_recent(request)
        return redirect(settings.LOGIN_REDIRECT_URL)
    return render(request, "accounts/invitation_join.html", {"form": form, "invitation": invitation})


def _accept(request: HttpRequest, invitation: Invitation, user: User) -> HttpResponse:
    founds = invitation.organization is None
    form = FoundForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and (not founds or form.is_valid()):
        name = form.cleaned_data["organization_name"] if founds else ""
        organization = invitations.accept(invitation, user=user, organization_name=name)
        request.session[SESSION_KEY] = organization.pk
        messages.success(request, _("Welcome to %(name)s.") % {"name": organization.name})
        return redirect(settings.LOGIN_REDIRECT_URL)
    context = {"form": form if founds else None, "invitation": invitation}
    return render(request, "accounts/invitation_accept.html", context)
