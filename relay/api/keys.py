"""Who asks: bearer keys and their scopes.

Shapes  `**needs(Scope.X)` on a route: the key must hold the scope, and the reference page says so.
        request.auth is the ApiKey, with its organization.
Errors  401 for a key that is none or has ended, 403 for a scope that it does not hold. Cookies are never looked at.
Source  RFC 6750.
"""

from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from accounts.api_keys import find_api_key
from accounts.models import ApiKey, Organization
from audit.changes import Actor
from relay.api.problems import ProblemError

Scope = ApiKey.Scope
WRITES = {
    Scope.SMTP_USERS_WRITE.value,
    Scope.POLICIES_WRITE.value,
    Scope.ALERTS_WRITE.value,
    Scope.WEBHOOKS_WRITE.value,
    Scope.MESSAGES_WRITE.value,
}


class ApiRequest(HttpRequest):
    """What a route gets once Bearer has let it pass."""

    auth: ApiKey


class Bearer(HttpBearer):
    """One for each scope; the class name is the security scheme's name in the schema."""

    def __init__(self, scope: str) -> None:
        super().__init__()
        self._scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> ApiKey | None:
        key = find_api_key(token.strip())
        if key is None:
            return None
        if self._scope not in key.scopes:
            challenge = f'Bearer realm="Gatepost", error="insufficient_scope", scope="{self._scope}"'
            raise ProblemError("scope", f"This key lacks the scope {self._scope}.", WWW_Authenticate=challenge)
        if self._scope in WRITES and key.organization.state == Organization.State.SUSPENDED:
            raise ProblemError("suspended", key.organization.state_reason or "An operator suspended the organization.")
        return key


PROBLEM = {
    "description": "A problem document (RFC 9457)",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": {"type": "string", "format": "uri"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "reference": {"type": "string"},
                    "errors": {"type": "array", "items": {"type": "object"}},
                },
            }
        }
    },
}


def needs(scope: str, **answers: Any) -> dict[str, Any]:
    """answers: responses of the schema that no pydantic model describes, by name like http200."""
    known: dict[int | str, Any] = {int(name.removeprefix("http")): answer for name, answer in answers.items()}
    responses = known | {"default": PROBLEM}
    return {"auth": Bearer(str(scope)), "openapi_extra": {"x-scope": str(scope), "responses": responses}}


def actor_of(request: ApiRequest) -> Actor:
    """For the change log: the key, which has no person behind it at this moment."""
    return Actor(name=f"api:{request.auth.prefix}")
