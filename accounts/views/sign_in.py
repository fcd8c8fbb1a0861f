"""Signing in with e-mail address and password, signing out, and the page of a lockout."""

import math
from datetime import timedelta
from typing import Any

import structlog
from axes.helpers import get_cool_off
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth import login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from accounts.access import mark_recent, next_url
from accounts.client_address import client_address
from accounts.forms import SignInForm

log = structlog.get_logger("accounts.sign_in")


@never_cache
@sensitive_post_parameters("password")
def sign_in(request: HttpRequest) -> HttpResponse:
    """The session gets a new key (login does that); what is due next, the middleware says on the next page."""
    if request.user.is_authenticated:
        return redirect(next_url(request))
    form = SignInForm(request, request.POST if request.method == "POST" else None)
    if form.is_valid() and form.user is not None:
        login(request, form.user)
        mark_recent(request)  # opens nothing to who has a second factor: that is asked first on every page
        log.info("signed_in", user=form.user.pk, ip=client_address(request))
        return redirect(next_url(request))
    context = {"form": form, "next": next_url(request, ""), "signup": settings.GATEPOST_SIGNUP}
    return render(request, "accounts/sign_in.html", context)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect(settings.LOGOUT_REDIRECT_URL)


def locked_out(request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None) -> HttpResponse:
    """django-axes calls it once one name and address together have failed too often; it says how long that lasts."""
    seconds = _seconds_left(str((credentials or {}).get("username", "")), client_address(request))
    log.warning("locked_out", ip=client_address(request), seconds=seconds)
    page = render(request, "accounts/locked_out.html", {"minutes": max(1, math.ceil(seconds / 60))}, status=429)
    page["Retry-After"] = str(seconds)
    return page


def _seconds_left(username: str, ip: str) -> int:
    last = AccessAttempt.objects.filter(username=username, ip_address=ip).order_by("-attempt_time").first()
    if last is None:
        return 60
    until = last.attempt_time + (get_cool_off() or timedelta())
    left: float = (until - timezone.now()).total_seconds()
    return max(1, math.ceil(left))
