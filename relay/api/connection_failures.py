"""What failed before a username was known, by the address that connected."""

from datetime import datetime
from typing import Annotated, Any

from ninja import Field, Query, Router

from accounts.client_address import peer_address
from relay.api.keys import ApiRequest, Scope, needs
from relay.api.problems import ProblemError
from relay.api.shapes import Schema, Text
from relay.door_failures import Failure, failures_at, theirs
from relay.ops.asked import address_of

router = Router(tags=["Auth log"])


class ConnectionFailureOut(Schema):
    reference: str
    title: str
    cause: str = Field(description="In words.")
    fix: str
    place: str = Field(description="The address; in a flood the /24 or /64 around it.")
    port: int
    count: int
    first_at: datetime
    last_at: datetime
    detail: str


class ConnectionFailureFilters(Schema):
    ip: Text = Field(default="", max_length=64, description="Without it, the address that asks.")


class ConnectionFailuresOut(Schema):
    items: list[ConnectionFailureOut]


@router.get(
    "/connection-failures",
    response=ConnectionFailuresOut,
    summary="List connection failures",
    **needs(Scope.AUTH_EVENTS_READ),
)
def list_connection_failures(request: ApiRequest, filters: Annotated[ConnectionFailureFilters, Query()]) -> Any:
    """Of an address from which one of your SMTP users signed in within 30 days, or of the one that asks."""
    own = peer_address(request)
    address = address_of(filters.ip) if filters.ip else own
    if address is None:
        raise ProblemError("validation", "ip: that is no address.")
    if not theirs(request.auth.organization_id, address, own=own):
        raise ProblemError("validation", "ip: none of your SMTP users has signed in from it within 30 days.")
    return {"items": [_out(each) for each in failures_at(address)]}


def _out(each: Failure) -> dict[str, Any]:
    plain = ("reference", "place", "port", "count", "first_at", "last_at", "detail")
    words = {"title": each.title, "cause": each.explained.cause, "fix": each.explained.fix}
    return {name: getattr(each, name) for name in plain} | {name: str(text) for name, text in words.items()}
