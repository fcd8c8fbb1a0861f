"""Recovery codes: how many are left, and new ones."""

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from accounts import mfa
from accounts.access import UserRequest, actor_of, recent_mfa_required


@never_cache
@recent_mfa_required
def recovery_codes(request: UserRequest) -> HttpResponse:
    if not mfa.is_enrolled(request.user):
        return redirect("accounts:totp_enrol")
    codes = mfa.new_recovery_codes(request.user, actor=actor_of(request)) if request.method == "POST" else []
    context = {
        "codes": "\n".join(codes),
        "left": mfa.recovery_codes_left(request.user),
        "next": reverse("accounts:security"),
    }
    return render(request, "accounts/recovery_codes.html", context)
