"""Bans that hit the organization's own addresses, and lifting them."""

from datetime import datetime
from typing import Any

from django.http import Http404
from django.utils import timezone
from ninja import Field, Router, Status

from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.problems import ProblemError
from relay.api.shapes import Schema
from relay.guessing.bans import LiftedLately, OwnBan, lift_own_ban, own_bans

router = Router(tags=["Bans"])


class BanOut(Schema):
    id: int
    range: str = Field(description="An address, a /24 or a /64.")
    addresses: list[str] = Field(description="From these your SMTP users signed in within the last 30 days.")
    failures: int = Field(description="Different failed logins that led to the ban.")
    began_at: datetime
    ends_at: datetime

    @classmethod
    def of(cls, own: OwnBan) -> "BanOut":
        return cls(
            id=own.ban.pk,
            range=own.ban.cidr,
            addresses=list(own.addresses),
            failures=own.ban.evidence.get("failures", 0),
            began_at=own.ban.began_at,
            ends_at=own.ban.ends_at,
        )


class BansOut(Schema):
    items: list[BanOut]


@router.get("/bans", response=BansOut, summary="List bans of your addresses", **needs(Scope.AUTH_EVENTS_READ))
def list_bans(request: ApiRequest) -> Any:
    """Those that are in force, the newest first."""
    return {"items": [BanOut.of(own) for own in own_bans(request.auth.organization)]}


@router.post("/bans/{int:id}/lift", response={204: None}, summary="Lift a ban", **needs(Scope.SMTP_USERS_WRITE))
def lift_ban(request: ApiRequest, id: int) -> Any:
    """The addresses that are yours may connect again within a second. Of a range, the others stay banned.

    The same range once a day at most: then 429, with the wait.
    """
    own = next((each for each in own_bans(request.auth.organization) if each.ban.pk == id), None)
    if own is None:
        raise Http404
    try:
        lift_own_ban(own.ban, organization=request.auth.organization, actor=actor_of(request))
    except LiftedLately as refused:
        wait = max(1, round((refused.again_at - timezone.now()).total_seconds()))
        raise ProblemError("too-often", refused.messages[0], Retry_After=str(wait)) from None
    return Status(204, None)
