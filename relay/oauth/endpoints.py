"""The addresses that programs ask: token, revocation, metadata. The consent page is relay.views.oauth_consent.

Shapes  Answers as RFC 6749 5, RFC 7009 2.2 and RFC 8414 3.2 say; the work is django-oauth-toolkit's.
Units   ASKED_A_MINUTE: requests from one address and web process, before 429 with Retry-After.
Errors  JSON with `error`; nothing that PostgreSQL would not take gets as far as a query.
"""

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe
from oauth2_provider.oauth2_backends import get_oauthlib_core

from accounts.client_address import client_address
from audit.record import printable
from relay.logs import get_logger

log = get_logger(__name__)

ASKED_A_MINUTE = 120
PARAMETER_LENGTH_MAX = 4096
GRANTS = ("authorization_code", "client_credentials", "refresh_token")
METHODS = ("client_secret_basic", "client_secret_post")

View = Callable[..., HttpResponse]


def _for_programs(view: View) -> View:
    """No cookies, no cache, and not too often."""

    @csrf_exempt
    @require_POST
    @sensitive_post_parameters("client_secret", "code", "code_verifier", "refresh_token", "token")
    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        if not _may_ask(client_address(request)):
            log.warning("oauth.asked_too_often", ip=client_address(request), path=request.path)
            response: HttpResponse = _error("temporarily_unavailable", "Too many requests from this address.", 429)
            response["Retry-After"] = "60"
        elif not _is_plain(request):
            response = _error("invalid_request", "A parameter cannot be read.", 400)
        else:
            response = view(request)
        response["Cache-Control"] = "no-store"
        response["Pragma"] = "no-cache"
        return response

    return answer


@_for_programs
def token(request: HttpRequest) -> HttpResponse:
    """One transaction, so that a code or refresh token that is used twice at once is used once; errors commit too."""
    if request.POST.get("grant_type") not in GRANTS:
        return _error("unsupported_grant_type", f"Use one of: {', '.join(GRANTS)}.", 400)
    with transaction.atomic():
        _url, headers, body, status = get_oauthlib_core().create_token_response(request)
    client_id = printable(request.POST.get("client_id", ""), 100)  # a secret in the wrong field is taken out
    log.info("oauth.token", client_id=client_id, grant=request.POST["grant_type"], status=status)
    return _answer(headers, body, status)


@_for_programs
def revoke(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        _url, headers, body, status = get_oauthlib_core().create_revocation_response(request)
    return _answer(headers, body or "", status)


@require_safe
def metadata(request: HttpRequest) -> HttpResponse:
    """RFC 8414: what a client library reads instead of a manual."""
    issuer = settings.GATEPOST_WEB_URL
    response = JsonResponse(
        {
            "issuer": issuer,
            "authorization_endpoint": issuer + reverse("relay:oauth_authorize"),
            "token_endpoint": issuer + reverse("relay:oauth_token"),
            "revocation_endpoint": issuer + reverse("relay:oauth_revoke"),
            "scopes_supported": ["smtp.send"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": list(GRANTS),
            "token_endpoint_auth_methods_supported": [*METHODS, "none"],
            "revocation_endpoint_auth_methods_supported": [*METHODS, "none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
    )
    response["Cache-Control"] = "public, max-age=3600"
    return response


def _answer(headers: dict[str, str], body: str, status: int) -> HttpResponse:
    response = HttpResponse(body, status=status, content_type="application/json")
    for name, value in headers.items():
        response[name] = value
    return response


def _error(error: str, description: str, status: int) -> JsonResponse:
    return JsonResponse({"error": error, "error_description": description}, status=status)


def _is_plain(request: HttpRequest) -> bool:
    """RFC 6749 3.2: each parameter once, and none that no text column takes. Scopes are parted by spaces alone."""
    return not request.GET and all(
        len(values) == 1 and name.isprintable() and values[0].isprintable() and len(values[0]) <= PARAMETER_LENGTH_MAX
        for name, values in request.POST.lists()
    )


def _may_ask(address: str) -> bool:
    key = f"oauth:{address}"
    cache.add(key, 0, timeout=60)
    try:
        return int(cache.incr(key)) <= ASKED_A_MINUTE
    except ValueError:  # it expired between the two calls
        return True
