"""One's own sign-in: password, authenticator, recovery codes."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import duties, mfa
from accounts.access import UserRequest, signed_in_required
from accounts.password_policy import policy_of


@never_cache
@signed_in_required
def security(request: UserRequest) -> HttpResponse:
    context = {
        "device": TOTPDevice.objects.filter(user=request.user, confirmed=True).first(),
        "codes_left": mfa.recovery_codes_left(request.user),
        "required": duties.mfa_is_required(request),
        "policy": policy_of(request.user),
    }
    return render(request, "accounts/security.html", context)
