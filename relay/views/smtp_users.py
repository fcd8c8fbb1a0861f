"""SMTP users: the list, the organization's own networks, and the form that makes one."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from relay import credentials, queries
from relay.forms import NetworkForm, SmtpUserForm
from relay.networks import list_of
from relay.password_policy import policy_of


@member_required(roles.SMTP_USERS_SEE)
def page(request: MemberRequest) -> HttpResponse:
    return render(
        request,
        "relay/smtp_users.html",
        {
            "rows": queries.smtp_user_rows(request.organization.pk),
            "networks": list_of(request.organization),
            "network_form": NetworkForm(),
            "policy": policy_of(request.organization.pk),
            "may_set_policy": roles.can(request.membership, roles.ORGANIZATION_CHANGE),
            "may_change": roles.can(request.membership, roles.SMTP_USERS_CHANGE),
        },
    )


@member_required(roles.SMTP_USERS_CHANGE)
def create(request: MemberRequest) -> HttpResponse:
    form = SmtpUserForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = credentials.create_smtp_user(request.organization, actor=actor_of(request), **form.cleaned_data)
        except (credentials.NameInvalid, credentials.NameTaken) as refused:
            form.add_error("name", refused)
        except ValidationError as refused:
            form.add_error(None, refused)
        else:
            messages.success(request, _("%(user)s is made. Next: an app password.") % {"user": made.username})
            return redirect("relay:smtp_user", made.pk)
    return render(request, "relay/smtp_user_create.html", {"form": form})
