"""Leak reports: anybody who found a secret of ours sends it here, a program that scans for secrets above all.

Shapes  One document, or a list of them, as secret-scanning partners send it: token, and if known url and source.
        Without a key the answer is "received", for every text alike. With a key that holds smtp_users:write, results
        say what became of each: those of the key's own organization "revoked", "ended" or "canary", others "received".
Units   relay.leaks.REPORTS_AN_HOUR from one address; TOKENS_MAX of one report.
Errors  401 for a key that is none; 429 with Retry-After.
"""

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Router, Status
from pydantic import ConfigDict

from accounts.api_keys import find_api_key
from accounts.client_address import client_address
from accounts.models import ApiKey
from accounts.strangers import may_ask
from relay import leaks
from relay.api.keys import PROBLEM, Scope
from relay.api.problems import KINDS, ProblemError
from relay.api.shapes import Schema

router = Router(tags=["Leaks"])
HOUR = 3600
Outcome = Literal["revoked", "ended", "canary", "received"]


class Leak(Schema):
    """What else a scanner says of it (type, say) is left out."""

    model_config = ConfigDict(extra="ignore")
    token: str = Field(
        min_length=1, max_length=leaks.TOKEN_LENGTH_MAX, description="What was found, as it stood there."
    )
    url: str = Field(default="", max_length=500, description="Where; its owner reads it.")
    source: str = Field(default="", max_length=100, description="What found it.")


class LeaksReceived(Schema):
    status: Literal["received"] = "received"
    received: int
    results: list[Outcome] | None = Field(
        default=None, description="With a key of smtp_users:write only: what became of each, in order."
    )


Leaks = Leak | Annotated[list[Leak], Field(min_length=1, max_length=leaks.TOKENS_MAX)]


@router.post(
    "/leaks",
    response={202: LeaksReceived},
    summary="Report a found secret",
    auth=None,
    openapi_extra={"responses": {"default": PROBLEM}},
)
def report_leak(request: HttpRequest, data: Leaks) -> Any:
    """It is revoked if it is one of this service, and its owner told. No key is needed; the answer tells no stranger
    whether it was one."""
    address, key = client_address(request), _key_of(request)
    if not may_ask(address, what="leak", most=leaks.REPORTS_AN_HOUR):
        raise ProblemError("too-often", KINDS["too-often"].meaning, Retry_After=str(HOUR))
    found = [leaks.Found(each.token, " ".join(filter(None, (each.url, each.source)))) for each in _listed(data)]
    reports = leaks.report(found, reporter=f"api:{key.prefix}" if key else address)
    results = leaks.told(reports, key.organization) if key and Scope.SMTP_USERS_WRITE in key.scopes else None
    return Status(202, {"received": len(reports), "results": results})


def _listed(data: Leak | list[Leak]) -> list[Leak]:
    return data if isinstance(data, list) else [data]


def _key_of(request: HttpRequest) -> ApiKey | None:
    """The key that was sent. One that is not valid is refused: nobody should take its silence for an answer."""
    scheme, _space, token = request.headers.get("Authorization", "").partition(" ")
    if not scheme:
        return None
    key = find_api_key(token.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        raise ProblemError(
            "key", "The key is missing, unknown, revoked or expired.", WWW_Authenticate='Bearer realm="Gatepost"'
        )
    return key
