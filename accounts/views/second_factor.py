"""The page between password and panel for who has a second factor."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django_otp import login as otp_login
from django_otp.plugins.otp_static.models import StaticDevice

from accounts import duties, mfa
from accounts.access import UserRequest, mark_recent, next_url, signed_in_required
from accounts.forms import CodeForm


@never_cache
@signed_in_required
def second_factor(request: UserRequest) -> HttpResponse:
    if duties.duty_of(request) is not duties.SECOND_FACTOR:
        return redirect(next_url(request))
    form = CodeForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and accepted(request, form):
        return redirect(next_url(request))
    return render(request, "accounts/second_factor.html", {"form": form, "next": next_url(request, "")})


def accepted(request: UserRequest, form: CodeForm) -> bool:
    """Verified from here on, under a new session key; the form tells why not."""
    try:
        device = mfa.verify(request.user, form.cleaned_data["code"])
    except mfa.CodeRefused as refused:
        form.add_error("code", str(refused))
        return False
    otp_login(request, device)
    request.session.cycle_key()
    mark_recent(request)
    if isinstance(device, StaticDevice):
        _say_how_many_are_left(request)
    return True


def _say_how_many_are_left(request: UserRequest) -> None:
    left = mfa.recovery_codes_left(request.user)
    text = ngettext("This code is used up. %(left)d is left.", "This code is used up. %(left)d are left.", left)
    messages.warning(request, text % {"left": left})
