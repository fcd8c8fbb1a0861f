"""Setting up, replacing and removing the authenticator app."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from django_otp import login as otp_login

from accounts import duties, mfa
from accounts.access import UserRequest, actor_of, mark_recent, next_url, recent_mfa_required
from accounts.forms import CodeForm


@never_cache
@recent_mfa_required
def totp_enrol(request: UserRequest) -> HttpResponse:
    """The first authenticator brings recovery codes with it, shown in the answer and nowhere else."""
    form = CodeForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and _confirmed(request, form):
        if mfa.recovery_codes_left(request.user):
            messages.success(request, _("The new authenticator is in use, the former one no longer works."))
            return redirect("accounts:security")
        codes = mfa.new_recovery_codes(request.user, actor=actor_of(request))
        return render(request, "accounts/recovery_codes.html", {"codes": "\n".join(codes), "next": next_url(request)})
    device = mfa.device_being_set_up(request.user)
    context = {
        "form": form,
        "qr": mfa.qr_of(device),
        "secret": mfa.secret_of(device),
        "forced": duties.duty_of(request) is duties.ENROL,
        "next": next_url(request, ""),
    }
    return render(request, "accounts/totp_enrol.html", context)


@require_POST
@recent_mfa_required
def totp_disable(request: UserRequest) -> HttpResponse:
    if duties.mfa_is_required(request):
        messages.error(request, _("You need a second factor here. You can replace the authenticator, not remove it."))
    else:
        mfa.disable(request.user, actor=actor_of(request))
        mark_recent(request)
        messages.success(request, _("The second factor is removed, with its recovery codes."))
    return redirect("accounts:security")


def _confirmed(request: UserRequest, form: CodeForm) -> bool:
    try:
        device = mfa.confirm(request.user, form.cleaned_data["code"], actor=actor_of(request))
    except mfa.CodeRefused as refused:
        form.add_error("code", str(refused))
        return False
    otp_login(request, device)
    request.session.cycle_key()
    mark_recent(request)
    return True
