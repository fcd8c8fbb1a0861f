"""Who may open a page: decorators for views, and what they put in place of the page.

Shapes  member_required(permission): signed in, nothing due (accounts.duties), a member, role allows.
        operator_required: an operator past the second factor. signed_in_required: any person, nothing due.
        recent_mfa_required: identified again within settings.RECENT_MFA_SECONDS.
        UserRequest, MemberRequest: what a view behind them may rely on.
Errors  Not signed in: redirect to sign-in with `next`. Not allowed: 403. Another's ids: 404, by the view.
        The operator's pages answer 404 to who is no operator: relay.views.ops.access, before operator_required.
        While an organization is suspended its pages can be read, and changes are 403: as by the API.
Source  docs/flow.md.
"""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from accounts import duties
from accounts.models import Membership, Organization, User
from accounts.roles import TEAM_SEE, can
from audit.changes import Actor

RECENT_SESSION_KEY = "recent_mfa_at"  # Unix seconds

View = Callable[..., HttpResponseBase]


class UserRequest(HttpRequest):
    """A request of somebody who is signed in."""

    user: User
    organization: Organization | None
    membership: Membership | None


class MemberRequest(HttpRequest):
    """A request of a member of the organization that is shown."""

    user: User
    organization: Organization
    membership: Membership


def signed_in_required(view: View) -> View:
    @wraps(view)
    def guarded(request: UserRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _stopped(request) or view(request, *args, **kwargs)

    return guarded


def member_required(permission: str) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: UserRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if stopped := _stopped(request):
                return stopped
            if request.membership is None:
                return _without_organization(request)
            if not can(request.membership, permission):
                raise PermissionDenied
            if _changes_while_suspended(request, permission):
                return render(request, "accounts/suspended.html", status=403)
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def operator_required(view: View) -> View:
    """403 for members, and for an operator whose second factor has not been asked."""

    @wraps(view)
    def guarded(request: UserRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if stopped := _stopped(request):
            return stopped
        if not request.user.is_operator or not request.user.is_verified():  # type: ignore[attr-defined]  # django-otp's
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


def recent_mfa_required(view: View) -> View:
    """A form that was sent too late is not lost silently: after the check its page opens again, to be sent anew."""

    @wraps(view)
    def guarded(request: UserRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if stopped := _stopped(request):
            return stopped
        if is_recent(request):
            return view(request, *args, **kwargs)
        return send_to(request, "accounts:confirm_identity")

    return guarded


def is_recent(request: HttpRequest) -> bool:
    """A time in the future (a clock that was set back) counts as old."""
    return 0 <= time.time() - float(request.session.get(RECENT_SESSION_KEY, 0)) < settings.RECENT_MFA_SECONDS


def mark_recent(request: HttpRequest) -> None:
    request.session[RECENT_SESSION_KEY] = time.time()


def actor_of(request: HttpRequest) -> Actor:
    assert isinstance(request.user.pk, int)
    return Actor(name=request.user.email, id=request.user.pk)


def send_to(request: HttpRequest, view_name: str) -> HttpResponse:
    """To the page that must come first; `next` leads back. An htmx request moves the whole page, not its fragment."""
    if request.method == "GET" and not _is_htmx(request):
        back = request.get_full_path()
    else:
        back = _page_of(request)
    url = f"{reverse(view_name)}?{urlencode({'next': back}, safe='/')}" if back else reverse(view_name)
    if _is_htmx(request):
        response = HttpResponse()
        response["HX-Redirect"] = url
        return response
    return HttpResponseRedirect(url)


def next_url(request: HttpRequest, default: str | None = None) -> str:
    """`next` of the form or the address, if it stays on this site; else the default."""
    target = request.POST.get("next") or request.GET.get("next") or ""
    if _is_ours(request, target):
        return target
    return default if default is not None else reverse(settings.LOGIN_REDIRECT_URL)


def _stopped(request: UserRequest) -> HttpResponse | None:
    if not request.user.is_authenticated:
        return send_to(request, settings.LOGIN_URL)
    duty = duties.duty_of(request)
    if duty is not None and not duties.allows(duty, request):
        return send_to(request, duty.view_name)
    return None


def _changes_while_suspended(request: UserRequest, permission: str) -> bool:
    """Leaving the team (TEAM_SEE) is a person's own affair."""
    assert request.organization is not None
    suspended = request.organization.state == Organization.State.SUSPENDED
    return suspended and request.method not in {"GET", "HEAD", "OPTIONS"} and permission != TEAM_SEE


def _without_organization(request: UserRequest) -> HttpResponse:
    if request.user.is_operator:
        return redirect("relay:ops_floor")
    return render(request, "accounts/no_organization.html", status=403)


def _page_of(request: HttpRequest) -> str:
    """The page a form or fragment belongs to: the browser's own word, used only if it is a page of ours."""
    referrer = request.headers.get("HX-Current-URL") or request.headers.get("Referer") or ""
    return referrer if _is_ours(request, referrer) else ""


def _is_ours(request: HttpRequest, url: str) -> bool:
    """A path or whole address of this site. A bare word would be taken for the name of a view by redirect()."""
    return url.startswith(("/", "http://", "https://")) and url_has_allowed_host_and_scheme(
        url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )


def _is_htmx(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"
