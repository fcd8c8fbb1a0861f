"""Founding an organization, where GATEPOST_SIGNUP lets everybody do so."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts import registration
from accounts.forms import AskForMailForm, SignUpForm
from accounts.strangers import for_strangers
from accounts.views import check_mail


@never_cache
@sensitive_post_parameters("password")
@for_strangers
def sign_up(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect(settings.LOGIN_REDIRECT_URL)
    if settings.GATEPOST_SIGNUP != "open":
        return render(request, "accounts/sign_up_closed.html", {"signup": settings.GATEPOST_SIGNUP}, status=403)
    form = SignUpForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        made = registration.sign_up(**form.cleaned_data)
        check_mail.remember(request, address=form.cleaned_data["email"], message_id=made.message_id)
        return redirect("accounts:sign_up_done")
    return render(request, "accounts/sign_up.html", {"form": form})


@never_cache
def sign_up_done(request: HttpRequest) -> HttpResponse:
    sent = check_mail.recalled(request)
    again = AskForMailForm(initial={"email": sent.address})
    return render(request, "accounts/sign_up_done.html", {"sent": sent, "form": again})
