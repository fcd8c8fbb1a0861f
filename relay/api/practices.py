"""The scorecard, old ways to sign in, and what the organization refuses of them."""

from datetime import datetime
from typing import Any, Literal

from django.conf import settings
from django.urls import reverse
from ninja import Field, Router

from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.shapes import Body, Schema, Text
from relay.deprecations import radar
from relay.scorecard.customers import customer_scorecard
from relay.sign_in_policy import MECHANISMS, Policy, policy_of, set_policy

router = Router(tags=["Practices"])

USES_MAX = 200


class PracticeOut(Schema):
    number: int
    title: str
    state: Literal["fulfilled", "not", "unmeasured"]
    evidence: str
    fix_url: str | None


class ScorecardOut(Schema):
    fulfilled: int
    practices: list[PracticeOut]


class WayUseOut(Schema):
    smtp_user_id: int | None
    username: str
    app_password: str = Field(description="Its name; empty for an access token.")
    ip: str
    client_name: str
    count: int
    last_at: datetime


class WayOut(Schema):
    key: str
    title: str
    is_off: bool
    days: int
    logins: int = Field(description="All sign-ins of these days.")
    would_refuse: int = Field(description="Those of them that switching it off would have refused.")
    uses: list[WayUseOut] = Field(description=f"Most first, {USES_MAX} at most.")


class PolicyOut(Schema):
    tls_least: Literal["TLSv1.2", "TLSv1.3"]
    refused_mechanisms: list[str]


class PolicyChange(Body):
    """Only what is sent changes."""

    tls_least: Literal["TLSv1.2", "TLSv1.3"] | None = None
    refused_mechanisms: list[Text] | None = Field(
        default=None, max_length=len(MECHANISMS), description=f"Of {', '.join(MECHANISMS)}."
    )


READ, WRITE = needs(Scope.SMTP_USERS_READ), needs(Scope.POLICIES_WRITE)


@router.get("/scorecard", response=ScorecardOut, summary="Get the scorecard", **READ)
def get_scorecard(request: ApiRequest) -> Any:
    """Thirteen practices, each fulfilled, not, or not measured; never fulfilled without evidence."""
    rows = customer_scorecard(request.auth.organization)
    practices = [
        {
            "number": row.practice.number,
            "title": str(row.practice.title),
            "state": row.state.value,
            "evidence": row.evidence,
            "fix_url": f"{settings.GATEPOST_WEB_URL}{reverse(row.fix.url_name)}" if row.fix else None,
        }
        for row in rows
    ]
    return {"fulfilled": sum(row.state == "fulfilled" for row in rows), "practices": practices}


@router.get("/old-sign-ins", response=list[WayOut], summary="List old sign-in methods", **READ)
def list_old_sign_ins(request: ApiRequest) -> Any:
    """Who still uses each, and what switching it off would have refused."""
    return [
        {
            "key": standing.way.key,
            "title": str(standing.way.title),
            "is_off": standing.is_off,
            "days": standing.days,
            "logins": standing.logins,
            "would_refuse": standing.would_refuse,
            "uses": standing.uses[:USES_MAX],
        }
        for standing in radar(request.auth.organization)
    ]


@router.get("/sign-in-policy", response=PolicyOut, summary="Get the sign-in policy", **READ)
def get_sign_in_policy(request: ApiRequest) -> Any:
    return _told(policy_of(request.auth.organization.pk))


@router.patch("/sign-in-policy", response=PolicyOut, summary="Change it", **WRITE)
def change_sign_in_policy(request: ApiRequest, data: PolicyChange) -> Any:
    """For all SMTP users of the organization, from their next sign-in on. Only an owner makes a key that may."""
    sent = {name: value for name, value in data.dict(exclude_unset=True).items() if value is not None}
    return _told(set_policy(request.auth.organization, actor=actor_of(request), **sent))


def _told(policy: Policy) -> dict[str, Any]:
    return {"tls_least": policy.tls_least, "refused_mechanisms": sorted(policy.refused_mechanisms)}
