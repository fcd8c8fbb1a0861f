"""Allowlists: of the organization, of one SMTP user, of one app password."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Status

from relay import networks
from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.problems import ProblemError
from relay.api.shapes import (
    PAGE_MAX,
    Body,
    CursorText,
    Limit,
    Listed,
    Moment,
    Schema,
    Text,
    bad_cursor,
    cursor_of,
    place_of,
)
from relay.api.smtp_users import own_smtp_user
from relay.models import AppPassword, Network

router = Router(tags=["Networks"])


class NetworkOut(Schema):
    id: int
    cidr: str
    label: str
    smtp_user_id: int | None = Field(description="null: the list of the organization.")
    app_password_id: int | None
    ends_at: datetime | None
    created_at: datetime


class NetworkNew(Body):
    """Of the organization's list, unless smtp_user_id or app_password_id names another."""

    cidr: Text = Field(max_length=64, description="An address or range: 192.0.2.7, 192.0.2.0/24, 2001:db8::/48.")
    smtp_user_id: int | None = None
    app_password_id: int | None = None
    label: Text = Field(default="", max_length=64)
    ends_at: Moment | None = None


@router.get("/networks", response=Listed[NetworkOut], summary="List networks", **needs(Scope.SMTP_USERS_READ))
def list_networks(
    request: ApiRequest, smtp_user: int | None = None, limit: Limit = PAGE_MAX, cursor: CursorText = ""
) -> Any:
    """All of the organization, or with smtp_user those of one SMTP user and its app passwords."""
    found: QuerySet[Network] = Network.objects.filter(organization=request.auth.organization).order_by("pk")
    if smtp_user is not None:
        found = found.filter(smtp_user=own_smtp_user(request, smtp_user))
    if cursor:
        match place_of(cursor):
            case [int(after)]:
                found = found.filter(pk__gt=after)
            case _:
                raise bad_cursor()
    rows = list(found[: limit + 1])
    return {"items": rows[:limit], "next_cursor": cursor_of(rows[limit - 1].pk) if len(rows) > limit else None}


@router.post("/networks", response={201: NetworkOut}, summary="Allow a network", **needs(Scope.SMTP_USERS_WRITE))
def add_network(request: ApiRequest, data: NetworkNew) -> Any:
    """The first range of a list closes it to every other address; an address must pass every list that has ranges."""
    smtp_user = own_smtp_user(request, data.smtp_user_id) if data.smtp_user_id is not None else None
    app_password = own_app_password(request, data.app_password_id) if data.app_password_id is not None else None
    if app_password is not None:
        if smtp_user is not None and smtp_user.pk != app_password.smtp_user_id:
            raise ProblemError("validation", "app_password_id: it belongs to another SMTP user.")
        smtp_user = app_password.smtp_user
    row = networks.add_network(
        request.auth.organization,
        cidr=data.cidr,
        actor=actor_of(request),
        smtp_user=smtp_user,
        app_password=app_password,
        label=data.label,
        ends_at=data.ends_at,
    )
    return Status(201, row)


@router.delete("/networks/{int:id}", response={204: None}, summary="Remove it", **needs(Scope.SMTP_USERS_WRITE))
def remove_network(request: ApiRequest, id: int) -> Any:
    """If it was the last of its list, any address is allowed again."""
    row = get_object_or_404(Network, organization=request.auth.organization, pk=id)
    networks.remove_network(row, actor=actor_of(request))
    return Status(204, None)


def own_app_password(request: ApiRequest, id: int) -> AppPassword:
    mine = AppPassword.objects.select_related("smtp_user")
    return get_object_or_404(mine, smtp_user__organization=request.auth.organization, pk=id)
