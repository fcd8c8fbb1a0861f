"""Learning mode of allowlists: record, propose, edit, preview, enforce."""

from datetime import datetime
from typing import Any

from django.shortcuts import get_object_or_404
from ninja import Field, Router, Status

from relay import learning
from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.networks import NetworkOut, own_app_password
from relay.api.problems import ProblemError
from relay.api.shapes import Body, Moment, Schema, Text
from relay.api.smtp_users import own_smtp_user
from relay.learning import DraftRange
from relay.models import NetworkLearning
from relay.networks import NETWORKS_MAX, Allowlist, Preview, parse_network, preview

router = Router(tags=["Networks"])

REFUSED_MAX = 200


class RefusedOut(Schema):
    username: str
    app_password: str = Field(description="Its name; empty for an access token.")
    ip: str
    client_name: str
    count: int
    last_at: datetime


class PreviewOut(Schema):
    """Of the last days' logins, those that the ranges would have refused."""

    days: int
    logins: int
    refused_logins: int
    refused: list[RefusedOut] = Field(description=f"Most first, {REFUSED_MAX} at most.")


class EvidenceOut(Schema):
    logins: int
    addresses: int = Field(description="So many of the range signed in.")
    share: float = Field(description="Which part of the range that is, 0 to 1.")
    last_at: datetime


class RangeOut(Schema):
    cidr: str
    label: str
    ends_at: datetime | None
    evidence: EvidenceOut | None = Field(description="null: a range that somebody wrote.")


class LearningOut(Schema):
    id: int
    smtp_user_id: int | None
    app_password_id: int | None
    since: datetime = Field(description="Sign-ins from then on count.")
    started_at: datetime
    planned_until: datetime
    over: bool


class LearningDetail(LearningOut):
    edited: bool
    scattered: bool = Field(description="The addresses have little in common: an allowlist may not suit.")
    ranges: list[RangeOut]
    preview: PreviewOut
    seen: str = Field(description="Names exactly these ranges; enforce takes it.")


class Owner(Body):
    smtp_user_id: int | None = None
    app_password_id: int | None = None


class LearningNew(Owner):
    """Of the organization's list, unless smtp_user_id or app_password_id names another."""

    days: int = Field(ge=0, le=learning.DAYS_MOST, description="To record from now on. 0: propose at once.")
    history_days: int = Field(default=0, ge=0, le=learning.DAYS_MOST, description="Of what the log holds already.")


class RangeIn(Body):
    cidr: Text = Field(max_length=64)
    label: Text = Field(default="", max_length=64)
    ends_at: Moment | None = None


class Ranges(Body):
    ranges: list[RangeIn] | None = Field(max_length=NETWORKS_MAX, description="null: back to what is proposed.")


class PreviewAsked(Owner):
    """Of the organization's list, unless smtp_user_id or app_password_id names another."""

    ranges: list[Text] = Field(max_length=NETWORKS_MAX, description="None refuse nobody.")
    days: int = Field(default=30, ge=1, le=learning.DAYS_MOST)


class Enforced(Body):
    seen: Text = Field(max_length=64)


READ, WRITE = needs(Scope.SMTP_USERS_READ), needs(Scope.SMTP_USERS_WRITE)


@router.get("/network-learnings", response=list[LearningOut], summary="List what is being learned", **READ)
def list_network_learnings(request: ApiRequest) -> Any:
    """One for each allowlist at most."""
    return [_head(each) for each in learning.learnings_of(request.auth.organization)]


@router.post("/network-learnings", response={201: LearningDetail}, summary="Learn an allowlist", **WRITE)
def start_network_learning(request: ApiRequest, data: LearningNew) -> Any:
    """It refuses nothing. Together, days and history_days are as many as the plan keeps the log."""
    owner = _owner(request, data)
    made = learning.start(owner, days=data.days, history_days=data.history_days, actor=actor_of(request))
    return Status(201, _detail(made))


@router.get("/network-learnings/{int:id}", response=LearningDetail, summary="Get proposal and preview", **READ)
def get_network_learning(request: ApiRequest, id: int) -> Any:
    """The ranges with their evidence, and what they would have refused."""
    return _detail(_own(request, id))


@router.put("/network-learnings/{int:id}/ranges", response=LearningDetail, summary="Edit its ranges", **WRITE)
def edit_network_learning(request: ApiRequest, id: int, data: Ranges) -> Any:
    """Nothing is enforced by it; the answer holds the preview."""
    found = _own(request, id)
    rows = None if data.ranges is None else [_draft_range(each) for each in data.ranges]
    learning.save_draft(found, rows)
    return _detail(found)


@router.post("/network-learnings/{int:id}/stop", response=LearningDetail, summary="End its recording", **WRITE)
def stop_network_learning(request: ApiRequest, id: int) -> Any:
    """The proposal stays."""
    found = _own(request, id)
    learning.stop(found, actor=actor_of(request))
    return _detail(found)


@router.post("/network-learnings/{int:id}/enforce", response=list[NetworkOut], summary="Enforce it", **WRITE)
def enforce_network_learning(request: ApiRequest, id: int, data: Enforced) -> Any:
    """The list becomes its ranges, and the learning ends. 409 if they have changed since `seen` was told."""
    return list(learning.enforce(_own(request, id), seen=data.seen, actor=actor_of(request)).rows)


@router.delete("/network-learnings/{int:id}", response={204: None}, summary="Give it up", **WRITE)
def give_up_network_learning(request: ApiRequest, id: int) -> Any:
    """The list stays as it is."""
    learning.give_up(_own(request, id), actor=actor_of(request))
    return Status(204, None)


@router.post("/networks/preview", response=PreviewOut, summary="Preview an allowlist", **READ)
def preview_networks(request: ApiRequest, data: PreviewAsked) -> Any:
    """Which accepted sign-ins of the last days these ranges would have refused. It changes nothing."""
    days = min(data.days, learning.days_most(request.auth.organization))
    return _preview(preview(_owner(request, data), [parse_network(text) for text in data.ranges], days=days))


def _own(request: ApiRequest, id: int) -> NetworkLearning:
    return get_object_or_404(learning.learnings_of(request.auth.organization), pk=id)


def _owner(request: ApiRequest, data: Owner) -> Allowlist:
    smtp_user = own_smtp_user(request, data.smtp_user_id) if data.smtp_user_id is not None else None
    app_password = own_app_password(request, data.app_password_id) if data.app_password_id is not None else None
    if app_password is not None:
        if smtp_user is not None and smtp_user.pk != app_password.smtp_user_id:
            raise ProblemError("validation", "app_password_id: it belongs to another SMTP user.")
        smtp_user = app_password.smtp_user
    return Allowlist(request.auth.organization, smtp_user, app_password)


def _draft_range(each: RangeIn) -> DraftRange:
    return DraftRange(parse_network(each.cidr), each.label.strip(), each.ends_at)


def _head(found: NetworkLearning) -> dict[str, Any]:
    names = ("id", "smtp_user_id", "app_password_id", "since", "started_at", "planned_until")
    return {name: getattr(found, name) for name in names} | {"over": learning.is_over(found)}


def _detail(found: NetworkLearning) -> dict[str, Any]:
    draft = learning.draft_of(found)
    return _head(found) | {
        "edited": draft.edited,
        "scattered": draft.proposal.scattered,
        "ranges": draft.ranges,
        "preview": _preview(draft.preview),
        "seen": draft.digest,
    }


def _preview(found: Preview) -> dict[str, Any]:
    return {
        "days": found.days,
        "logins": found.logins,
        "refused_logins": found.refused_logins,
        "refused": found.refused[:REFUSED_MAX],
    }
