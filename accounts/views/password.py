"""A new password: by who is signed in, or by the link of a reset mail."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth import views as auth_views
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts import duties, passwords
from accounts.access import UserRequest, actor_of, next_url, signed_in_required
from accounts.forms import AskForMailForm, ChangePasswordForm, SetPasswordForm
from accounts.password_policy import policy_of
from accounts.strangers import for_strangers
from accounts.views import check_mail


@never_cache
@sensitive_post_parameters()
@signed_in_required
def password_change(request: UserRequest) -> HttpResponse:
    """Every other session of the person ends: Django binds each to the password."""
    form = ChangePasswordForm(request, request.user, request.POST if request.method == "POST" else None)
    if form.is_valid():
        passwords.change_password(request.user, password=form.cleaned_data["password"], actor=actor_of(request))
        update_session_auth_hash(request, request.user)
        messages.success(request, _("Your password is changed. Other devices were signed out."))
        return redirect(next_url(request, str(reverse_lazy("accounts:security"))))
    context = {
        "form": form,
        "policy": policy_of(request.user),
        "forced": duties.duty_of(request) is duties.CHANGE_PASSWORD,
        "next": next_url(request, ""),
    }
    return render(request, "accounts/password_change.html", context)


@never_cache
@for_strangers
def password_reset(request: HttpRequest) -> HttpResponse:
    form = AskForMailForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        email = form.cleaned_data["email"]
        check_mail.remember(request, address=email, message_id=passwords.send_reset_link(email))
        return redirect("accounts:password_reset_done")
    return render(request, "accounts/password_reset.html", {"form": form})


@never_cache
def password_reset_done(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/password_reset_done.html", {"sent": check_mail.recalled(request)})


@never_cache
def password_reset_complete(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/password_reset_complete.html")


class PasswordResetConfirm(auth_views.PasswordResetConfirmView):
    """Django's view moves the token from the address into the session, so that it is in no Referer and no history."""

    template_name = "accounts/password_reset_confirm.html"
    success_url = reverse_lazy("accounts:password_reset_complete")
    form_class = SetPasswordForm  # type: ignore[assignment]  # the view asks of it what SetPasswordForm has

    def form_valid(self, form: Any) -> HttpResponse:
        passwords.reset_password(form.user, password=form.cleaned_data["password"])
        del self.request.session[auth_views.INTERNAL_RESET_SESSION_TOKEN]
        return redirect(str(self.success_url))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        if not context.get("validlink"):
            context["form"] = AskForMailForm()
        return context
