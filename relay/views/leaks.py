"""Where anybody pastes a secret of ours that they found: it is ended, and its owner told.

Shapes  A stranger hears that it was received, and nothing else, whatever it was. A member who may change SMTP users
        hears what happened to those of the organization that is shown.
Units   relay.leaks.REPORTS_AN_HOUR from one address.
Errors  429 for who asks too often.
"""

from collections import Counter
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from accounts import duties, roles
from accounts.client_address import client_address
from accounts.models import Organization
from accounts.strangers import may_ask
from relay import leaks
from relay.forms import LeakForm

HOUR = 3600


@never_cache
def page(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return _show(request, LeakForm())
    address = client_address(request)
    if not may_ask(address, what="leak", most=leaks.REPORTS_AN_HOUR):
        answer = render(request, "accounts/asked_too_often.html", status=429)
        answer["Retry-After"] = str(HOUR)
        return answer
    form = LeakForm(request.POST)
    tokens = leaks.tokens_in(form.cleaned_data["text"]) if form.is_valid() else []
    if not tokens:
        return _show(request, form)
    organization = _organization_of(request)
    found = [leaks.Found(token, form.cleaned_data["found_at"]) for token in tokens]
    reports = leaks.report(found, reporter=request.user.email if organization else address)  # type: ignore[union-attr]
    outcomes = Counter(leaks.told(reports, organization)) if organization else Counter(received=len(reports))
    return _show(request, LeakForm(), outcomes=dict(outcomes), count=len(reports))


def _organization_of(request: HttpRequest) -> Organization | None:
    """Of a member with nothing left to do first (a second factor, say) who may change SMTP users."""
    membership = getattr(request, "membership", None)
    if not request.user.is_authenticated or duties.duty_of(request) is not None:
        return None
    if membership is None or not roles.can(membership, roles.SMTP_USERS_CHANGE):
        return None
    organization: Organization = membership.organization
    return organization


def _show(request: HttpRequest, form: LeakForm, **more: Any) -> HttpResponse:
    return render(request, "relay/leaks.html", {"form": form, **more})
