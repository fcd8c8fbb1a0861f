"""Confirming an e-mail address: the link of the mail, the wait for it, and another link.

The link alone is not enough: who confirms is signed in with the account's password. Otherwise somebody could make
an account for another's address, and its owner, following the link, would confirm one whose password a stranger knows.
"""

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts import registration
from accounts.access import UserRequest, send_to, signed_in_required
from accounts.forms import AskForMailForm
from accounts.strangers import for_strangers
from accounts.views import check_mail


@never_cache
@signed_in_required
def confirm_needed(request: UserRequest) -> HttpResponse:
    if request.user.email_confirmed_at is not None:
        return redirect(settings.LOGIN_REDIRECT_URL)
    return render(request, "accounts/confirm_needed.html", {"sent": check_mail.recalled(request)})


@require_POST
@for_strangers
def resend_confirmation(request: HttpRequest) -> HttpResponse:
    """To one's own address when signed in, else to the one typed; the page after it is always the same."""
    if request.user.is_authenticated:
        email = request.user.email
    else:
        form = AskForMailForm(request.POST)
        if not form.is_valid():
            return _refused(request, "invalid", form)
        email = form.cleaned_data["email"]
    message_id = registration.resend_confirmation(email)
    check_mail.remember(request, address=email, message_id=message_id)
    return redirect("accounts:sign_up_done")


@never_cache
def confirm_email(request: HttpRequest, token: str) -> HttpResponse:
    """A click on a button, not the visit, confirms: mail scanners visit links."""
    try:
        user = registration.user_of_link(token)
    except registration.LinkUsed:
        return _refused(request, "used")
    except registration.LinkExpired:
        return _refused(request, "expired")
    except registration.LinkInvalid:
        return _refused(request, "invalid")
    if not request.user.is_authenticated:
        messages.info(request, _("Sign in with the password you chose to confirm your address."))
        return send_to(request, settings.LOGIN_URL)
    if request.user.pk == user.pk and request.method == "POST":
        registration.confirm_email(user)
        messages.success(request, _("Your address is confirmed."))
        return redirect(settings.LOGIN_REDIRECT_URL)
    return render(request, "accounts/confirm_email.html", {"address": user.email, "mine": request.user.pk == user.pk})


def _refused(request: HttpRequest, why: str, form: AskForMailForm | None = None) -> HttpResponse:
    context = {"why": why, "form": form or AskForMailForm()}
    return render(request, "accounts/confirm_refused.html", context, status=410 if why != "invalid" else 400)
