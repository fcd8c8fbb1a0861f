"""What every page of the panel shows around its content: navigation, meter, organizations, theme.

Shapes  shell(request) is the context processor; its parts are computed when a template first asks for them.
Errors  None of its own: error pages are made with it too, so it must not fail on a request without a session.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from accounts import roles
from accounts.models import Membership, Organization
from relay.limits import Usage, usage_of

THEMES = (("auto", gettext_lazy("Auto")), ("light", gettext_lazy("Light")), ("dark", gettext_lazy("Dark")))
THEME_COOKIE = "gatepost_theme"


@dataclass(frozen=True, slots=True)
class NavigationItem:
    label: str
    url: str
    icon: str
    current: bool
    group: str = ""


# (url name, icon, word, permission), in the order of the whole product: later pages take their places between these.
CUSTOMER_PAGES: Sequence[tuple[str, str, Any, str]] = (
    ("relay:overview", "overview", gettext_lazy("Overview"), ""),
    ("relay:smtp_users", "key", gettext_lazy("SMTP users"), roles.SMTP_USERS_SEE),
    ("relay:networks", "network", gettext_lazy("Networks"), roles.SMTP_USERS_SEE),
    ("relay:messages", "mail", gettext_lazy("Messages"), roles.MESSAGES_SEE),
    ("relay:auth_log", "log", gettext_lazy("Auth log"), roles.AUTH_LOG_SEE),
    ("relay:why", "why", gettext_lazy("Why was I refused?"), roles.AUTH_LOG_SEE),
    ("relay:connection_tests", "plug", gettext_lazy("Test my connection"), roles.AUTH_LOG_SEE),
    ("relay:bans", "ban", gettext_lazy("Bans"), roles.AUTH_LOG_SEE),
    ("relay:domains", "domain", gettext_lazy("Domains"), roles.SMTP_USERS_SEE),
    ("relay:alerts", "bell", gettext_lazy("Alerts"), roles.ALERTS_SEE),
    ("relay:suppressions", "cross", gettext_lazy("Suppressions"), roles.MESSAGES_SEE),
    ("accounts:team", "people", gettext_lazy("Team"), roles.TEAM_SEE),
    ("accounts:security", "shield", gettext_lazy("Security"), ""),
    ("relay:scorecard", "score", gettext_lazy("Scorecard"), roles.SMTP_USERS_SEE),
    ("relay:change_log", "changes", gettext_lazy("Change log"), roles.CHANGE_LOG_SEE),
    ("relay:plan", "plan", gettext_lazy("Plan"), roles.PLAN_SEE),
    ("accounts:api_keys", "code", gettext_lazy("API keys"), roles.API_KEYS_CHANGE),
    ("relay:oauth_clients", "consent", gettext_lazy("OAuth clients"), roles.API_KEYS_CHANGE),
    ("relay:outside_issuers", "issuer", gettext_lazy("Outside issuers"), roles.API_KEYS_CHANGE),
    ("relay:webhooks", "hook", gettext_lazy("Webhooks"), roles.API_KEYS_CHANGE),
)
OPERATOR_PAGES: Sequence[tuple[str, str, Any, str]] = (
    ("relay:ops_floor", "floor", gettext_lazy("Floor"), ""),
    ("relay:ops_customers", "people", gettext_lazy("Customers"), ""),
    ("relay:ops_auth_review", "log", gettext_lazy("Auth review"), ""),
    ("relay:ops_alerts", "bell", gettext_lazy("Alerts"), ""),
    ("relay:ops_bans", "ban", gettext_lazy("Bans"), ""),
    ("relay:ops_queue", "queue", gettext_lazy("Queue"), ""),
    ("relay:ops_messages", "mail", gettext_lazy("Messages"), ""),
    ("relay:ops_routes", "route", gettext_lazy("Routes"), ""),
    ("relay:ops_plans", "plan", gettext_lazy("Plans"), ""),
    ("relay:ops_billing", "billing", gettext_lazy("Billing"), ""),
    ("relay:ops_health", "check", gettext_lazy("Health"), ""),
    ("relay:ops_scorecard", "score", gettext_lazy("Scorecard"), ""),
    ("relay:ops_changes", "changes", gettext_lazy("Change log"), ""),
    ("relay:ops_reference", "search", gettext_lazy("Find a reference"), ""),
)


class Shell:
    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.organization: Organization | None = getattr(request, "organization", None)
        self.membership: Membership | None = getattr(request, "membership", None)
        self.themes = THEMES

    @cached_property
    def theme(self) -> str:
        chosen = self.request.COOKIES.get(THEME_COOKIE, "auto")
        return chosen if chosen in {value for value, _label in THEMES} else "auto"

    @cached_property
    def is_operator(self) -> bool:
        return bool(getattr(getattr(self.request, "user", None), "is_operator", False))

    @cached_property
    def is_floor(self) -> bool:
        """The operator's half; an operator without an organization has no other."""
        return self.is_operator and (self.organization is None or self.request.path.startswith("/ops/"))

    @cached_property
    def organizations(self) -> list[Organization]:
        user = getattr(self.request, "user", None)
        if user is None or not user.is_authenticated:
            return []
        return list(Organization.objects.filter(memberships__user=user).order_by("name"))

    @cached_property
    def usage(self) -> Usage | None:
        return None if self.organization is None or self.is_floor else usage_of(self.organization.pk)

    @cached_property
    def sees_messages(self) -> bool:
        return roles.can(self.membership, roles.MESSAGES_SEE)

    @cached_property
    def security_url(self) -> str:
        return reverse("accounts:security")

    @cached_property
    def navigation(self) -> list[NavigationItem]:
        pages = OPERATOR_PAGES if self.is_floor else CUSTOMER_PAGES
        return [self._item(name, icon, label) for name, icon, label, needed in pages if self._may(needed)]

    def _may(self, permission: str) -> bool:
        if not permission:
            return True
        return self.membership is not None and roles.can(self.membership, permission)

    def _item(self, name: str, icon: str, label: Any) -> NavigationItem:
        url = reverse(name)
        path = self.request.path
        home = name in {"relay:overview", "relay:ops_floor"}
        return NavigationItem(str(label), url, icon, path == url if home else path.startswith(url))


def shell(request: HttpRequest) -> dict[str, Any]:
    return {"shell": Shell(request)}


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Remember the theme in a cookie, so that the server sends each page in it: no flash, no script."""
    following = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(following, allowed_hosts={request.get_host()}):
        following = "/"
    response = redirect(following)
    if request.POST.get("theme") in {value for value, _label in THEMES}:
        response.set_cookie(
            THEME_COOKIE, request.POST["theme"], max_age=365 * 24 * 3600, httponly=True, samesite="Lax",
            secure=request.is_secure(),
        )  # fmt: skip
    return response
