"""Puts the organization on the request, and stops a person who has something to do first.

Shapes  request.organization, request.membership: of the signed-in member, None otherwise. Of several organizations the
        one chosen last (session), else the oldest membership.
        What is recorded of changes within a request came from its address, whoever the actor is.
        Programs' doors (API, health, metrics, static files) are left alone: they have no person.
Source  accounts.duties says what is due and what stays open meanwhile.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from accounts import duties
from accounts.access import send_to
from accounts.client_address import peer_address
from accounts.models import Membership
from audit.changes import came_from

SESSION_KEY = "organization_id"
_PROGRAMS = ("/api/", "/healthz", "/metrics", "/static/")


class OrganizationMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        membership = None if _is_program(request) else membership_of(request)
        request.membership = membership  # type: ignore[attr-defined]  # typed in accounts.access
        request.organization = membership.organization if membership else None  # type: ignore[attr-defined]
        with came_from(peer_address(request)):
            return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        if _is_program(request):
            return None
        duty = duties.duty_of(request)
        if duty is None or duties.allows(duty, request):
            return None
        return send_to(request, duty.view_name)


def membership_of(request: HttpRequest) -> Membership | None:
    if not request.user.is_authenticated:
        return None
    memberships = duties.memberships_of(request)
    chosen = request.session.get(SESSION_KEY)
    return next((m for m in memberships if m.organization_id == chosen), memberships[0] if memberships else None)


def _is_program(request: HttpRequest) -> bool:
    return request.path.startswith(_PROGRAMS)
