"""/api/v1/: the routers of `relay.api` put together, and everything that is not theirs as a problem document.

Shapes  Keys in `Authorization: Bearer`; no cookie, no session. Schema at openapi.json, its page at docs.
Errors  RFC 9457, for addresses and methods that do not exist too.
Source  docs/flow.md.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, re_path
from ninja import NinjaAPI
from ninja.operation import Operation

from relay.api import (
    alerts,
    app_passwords,
    auth_events,
    bans,
    changes,
    connection_failures,
    domains,
    leaks,
    learning,
    message_actions,
    messages,
    networks,
    oauth,
    practices,
    refusals,
    senders,
    smtp_users,
    suppressions,
    webhooks,
)
from relay.api.problems import add_handlers, not_allowed, not_found
from relay.api.reference import Reference

View = Callable[..., HttpResponse]


class Api(NinjaAPI):
    """Ninja's own 404 and 405 are not problem documents, and only its views would answer at all."""

    def get_openapi_operation_id(self, operation: Operation) -> str:
        return operation.view_func.__name__  # what generated clients call their methods

    @property
    def urls(self) -> tuple[list[URLResolver | URLPattern], str, str]:
        patterns, app_name, namespace = super().urls
        for pattern in patterns:
            if isinstance(pattern, URLPattern):
                pattern.callback = _guarded(pattern.callback)
        return [*patterns, re_path(r"", _guarded(_unknown))], app_name, namespace


def _guarded(view: View) -> View:
    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response = view(request, *args, **kwargs)
        except Http404:
            response = not_found()
        if response.status_code == 405:
            response = not_allowed(response)
        response["Cache-Control"] = "no-store"  # some answers hold a secret, all belong to one customer
        return response

    answer.csrf_exempt = True  # type: ignore[attr-defined]  # keys are sent on purpose, never by a browser on its own
    return answer


def _unknown(request: HttpRequest) -> HttpResponse:
    return not_found()


api = Api(
    title="Gatepost",
    version=settings.GATEPOST_VERSION,
    description="SMTP users, app passwords, networks, messages and the auth log of one organization.",
    docs=Reference(),
    urls_namespace="api",
)
add_handlers(api)
for noun in (
    smtp_users,
    app_passwords,
    networks,
    learning,
    practices,
    domains,
    senders,
    oauth,
    messages,
    message_actions,
    auth_events,
    bans,
    refusals,
    leaks,
    changes,
    connection_failures,
    alerts,
    suppressions,
    webhooks,
):
    api.add_router("", noun.router)
