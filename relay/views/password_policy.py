"""How long app passwords may live, and what becomes of unused ones: set by owners, previewed before it is set."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay.forms import PasswordPolicyForm
from relay.password_policy import NOTICE_DAYS, NewEnd, Policy, new_ends, policy_of, set_policy

SHOWN = 50


@member_required(roles.ORGANIZATION_CHANGE)
@recent_mfa_required
def page(request: MemberRequest) -> HttpResponse:
    """A policy that ends some that exist is asked about first, with their names."""
    if request.method != "POST":
        policy = policy_of(request.organization.pk)
        form = PasswordPolicyForm(initial={name: getattr(policy, name) for name in PasswordPolicyForm.base_fields})
        return _show(request, form)
    form = PasswordPolicyForm(request.POST)
    if not form.is_valid():
        return _show(request, form)
    policy = form.policy()
    ends = new_ends(request.organization.pk, max_days=policy.max_days)
    if ends and request.POST.get("confirmed") != str(policy.max_days):  # of what was shown, not of another number
        return _show(request, form, ends)
    return _set(request, form, policy)


def _set(request: MemberRequest, form: PasswordPolicyForm, policy: Policy) -> HttpResponse:
    try:
        ended = set_policy(request.organization, policy=policy, actor=actor_of(request))
    except ValidationError as refused:
        form.add_error(None, refused)
        return _show(request, form)
    messages.success(request, _saved(len(ended)))
    return redirect("relay:smtp_users")


def _saved(ended: int) -> str:
    if not ended:
        return _("Saved.")
    return ngettext(
        "Saved. %(count)d app password got an end; a mail says which.",
        "Saved. %(count)d app passwords got an end; a mail says which.",
        ended,
    ) % {"count": ended}


def _show(request: MemberRequest, form: PasswordPolicyForm, ends: list[NewEnd] | None = None) -> HttpResponse:
    context = {
        "form": form,
        "ends": (ends or [])[:SHOWN],
        "count": len(ends or []),
        "confirmed": form.policy().max_days if ends else "",
        "notice_days": NOTICE_DAYS,
        "now": timezone.now(),
    }
    return render(request, "relay/password_policy.html", context)
