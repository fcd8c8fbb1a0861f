"""Every error of the API as a problem document.

Shapes  application/problem+json: type, title, status, detail; errors[] where single values are at fault; reference with
        a 500, which finds the row in the log.
Errors  This is where they end: exceptions of the core become documents here, and nowhere else.
Source  RFC 9457; RFC 6750 3 (WWW-Authenticate); RFC 6901 (pointer).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import ninja.errors
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI

from audit.record import new_reference
from relay.logs import get_logger

log = get_logger(__name__)

RETRY_SECONDS = 10
# Refusals of the core that the same request would not have met at another time, or after another change.
CONFLICTS = {
    "changed",
    "taken", "duplicate", "covered", "covers", "plan", "full", "disabled", "allowlist",
    "waiting", "too_often", "no_rotation",
    "ended", "asleep", "canary", "replaced", "alone",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    status: int
    title: str
    meaning: str


KINDS = {
    "malformed": Kind(400, "The request cannot be read", "The body is not the JSON that it should be."),
    "key": Kind(401, "A valid API key is needed", "Send Authorization: Bearer with a key that is not ended."),
    "scope": Kind(403, "The key may not do this", "The detail names the scope that is missing."),
    "suspended": Kind(403, "The organization is suspended", "It can be read, and nothing can be changed."),
    "not-found": Kind(404, "Not found", "No such address, or nothing of your organization has this id."),
    "method": Kind(405, "Method not allowed", "The header Allow names the methods of this address."),
    "conflict": Kind(409, "It does not fit what is there", "A name is taken, the plan is full, a list has it already."),
    "gone": Kind(410, "No longer kept", "The content of the message has passed its retention."),
    "validation": Kind(422, "Values are not right", "errors names each one with a pointer or parameter."),
    "too-often": Kind(429, "Too many requests", "Try again after the seconds in Retry-After."),
    "internal": Kind(500, "Something went wrong", "Tell the operator the reference: it finds the cause in the log."),
    "unavailable": Kind(503, "Not available right now", "Try again after the seconds in Retry-After."),
}


class ProblemError(Exception):
    """A refusal that a view has in words already."""

    def __init__(self, kind: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def problem(
    kind: str,
    detail: str,
    *,
    errors: Iterable[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    **more: str,
) -> HttpResponse:
    known = KINDS[kind]
    body: dict[str, Any] = {
        "type": f"{settings.GATEPOST_WEB_URL}/api/v1/docs#problem-{kind}",
        "title": known.title,
        "status": known.status,
        "detail": detail,
        **more,
    }
    if listed := list(errors):
        body["errors"] = listed
    response = JsonResponse(body, status=known.status, content_type="application/problem+json")
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def add_handlers(api: NinjaAPI) -> None:
    handlers: dict[type[Exception], Any] = {  # Any: ninja's types allow for classes that are raised without being made
        ProblemError: lambda _request, error: problem(error.kind, error.detail, headers=error.headers),
        ninja.errors.AuthenticationError: _no_key,
        ninja.errors.ValidationError: _not_valid,
        ninja.errors.HttpError: _http,
        ValidationError: _refused,
        Http404: lambda _request, _error: not_found(),
        OperationalError: _unavailable,
        InterfaceError: _unavailable,
        Exception: _unexpected,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def not_found() -> HttpResponse:
    return problem("not-found", KINDS["not-found"].meaning)


def not_allowed(response: HttpResponse) -> HttpResponse:
    """Ninja's own 405 in our form."""
    return problem("method", KINDS["method"].meaning, headers={"Allow": response["Allow"]})


def _no_key(request: HttpRequest, error: Exception) -> HttpResponse:
    """One answer for none, unknown, revoked and expired keys."""
    detail = "The key is missing, unknown, revoked or expired."
    return problem("key", detail, headers={"WWW-Authenticate": 'Bearer realm="Gatepost"'})


def _not_valid(request: HttpRequest, error: ninja.errors.ValidationError) -> HttpResponse:
    errors = [_place(each) for each in error.errors]
    return problem("validation", "; ".join(each["detail"] for each in errors[:5]), errors=errors)


def _place(error: Mapping[str, Any]) -> dict[str, str]:
    """Where a value stands: a JSON pointer in the body, or the name of a parameter."""
    source, *path = error["loc"]
    detail = str(error["msg"]).removeprefix("Value error, ")
    if source == "body":
        names = path[1:]  # the first one is the name of a view's argument
        return {
            "detail": f"{'.'.join(map(str, names)) or 'body'}: {detail}",
            "pointer": "#" + "".join(map(_token, names)),
        }
    name = str(path[-1]) if path else source
    return {"detail": f"{name}: {detail}", "parameter": name}


def _token(name: object) -> str:
    return "/" + str(name).replace("~", "~0").replace("/", "~1")


def _http(request: HttpRequest, error: ninja.errors.HttpError) -> HttpResponse:
    """Ninja raises 400 itself where a body cannot be parsed."""
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return problem("malformed", "The body is not JSON.")
    return _unexpected(request, error)


def _refused(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """What the core refuses, in its own words."""
    code = str(getattr(error, "code", None) or "")
    kind = "conflict" if code in CONFLICTS else "validation"
    return problem(kind, " ".join(error.messages), errors=[{"detail": each} for each in error.messages])


def _unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    log.warning("database_unreachable", path=request.path, error=str(error))
    return problem("unavailable", "The database does not answer.", headers={"Retry-After": str(RETRY_SECONDS)})


def _unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    reference = new_reference()
    log.error("api_request_failed", path=request.path, reference=reference, exc_info=error)
    return problem("internal", f"This is a fault of the service. [ref {reference}]", reference=reference)
