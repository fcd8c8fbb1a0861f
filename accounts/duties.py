"""What a signed-in person must do before anything else opens, in this order.

Shapes  Duty: the page that fulfils it, and the few other pages open meanwhile. The first one due counts; while the
        second factor is due, the page that would replace that factor must stay shut, so the lists differ.
Source  docs/flow.md.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.http import HttpRequest
from django.utils import timezone

from accounts import mfa
from accounts.models import Membership, User
from accounts.password_policy import policy_for

_ALWAYS = frozenset({"accounts:sign_out", "accounts:sign_in", "accounts:sign_up_done", "relay:demo_mail"})


@dataclass(frozen=True, slots=True)
class Duty:
    view_name: str
    also: frozenset[str] = frozenset()


CONFIRM_EMAIL = Duty("accounts:confirm_needed", frozenset({"accounts:confirm_email", "accounts:resend_confirmation"}))
SECOND_FACTOR = Duty("accounts:second_factor")
ENROL = Duty("accounts:totp_enrol", frozenset({"accounts:confirm_identity"}))
CHANGE_PASSWORD = Duty("accounts:password_change")


def duty_of(request: HttpRequest) -> Duty | None:
    """The first thing due, asked once a request."""
    if not hasattr(request, "_duty"):
        request._duty = _first_due(request)  # type: ignore[attr-defined]  # a cache of this module alone
    return request._duty  # type: ignore[attr-defined, no-any-return]


def allows(duty: Duty, request: HttpRequest) -> bool:
    name = request.resolver_match.view_name if request.resolver_match else ""
    return name == duty.view_name or name in duty.also or name in _ALWAYS


def memberships_of(request: HttpRequest) -> list[Membership]:
    """Of who is signed in, oldest first, with organization and plan; asked once a request."""
    if not hasattr(request, "_memberships"):
        assert isinstance(request.user, User)
        found = Membership.objects.filter(user=request.user).order_by("created_at", "pk")
        request._memberships = list(found.select_related("organization__subscription__plan"))  # type: ignore[attr-defined]
    return request._memberships  # type: ignore[attr-defined, no-any-return]


def mfa_is_required(request: HttpRequest) -> bool:
    """Operators always; members of an organization whose owner says so."""
    assert isinstance(request.user, User)
    return request.user.is_operator or any(m.organization.mfa_required for m in memberships_of(request))


def _first_due(request: HttpRequest) -> Duty | None:
    user = request.user
    if not isinstance(user, User) or not user.is_authenticated:
        return None
    if user.email_confirmed_at is None:
        return CONFIRM_EMAIL
    if not user.is_verified():  # type: ignore[attr-defined]  # set by django-otp's middleware
        if mfa.is_enrolled(user):
            return SECOND_FACTOR
        if mfa_is_required(request):
            return ENROL
    return CHANGE_PASSWORD if _password_is_too_old(user, memberships_of(request)) else None


def _password_is_too_old(user: User, memberships: list[Membership]) -> bool:
    days = policy_for(membership.organization for membership in memberships).max_age_days
    return days is not None and timezone.now() - user.password_changed_at > timedelta(days=days)
