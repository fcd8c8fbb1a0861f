"""The senders that an SMTP user may write into From."""

from datetime import datetime
from typing import Any

from django.shortcuts import get_object_or_404
from ninja import Field, Router, Status

from relay import domains
from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.shapes import Body, Listed, Schema, Text
from relay.api.smtp_users import own_smtp_user
from relay.models import SenderAddress

router = Router(tags=["Senders"])


class SenderOut(Schema):
    id: int
    smtp_user_id: int
    pattern: str
    created_at: datetime


class SenderNew(Body):
    pattern: Text = Field(max_length=320, description="An address, or @example.com for all of exactly that domain.")


@router.get(
    "/smtp-users/{int:id}/senders",
    response=Listed[SenderOut],
    summary="List what an SMTP user may send as",
    **needs(Scope.SMTP_USERS_READ),
)
def list_senders(request: ApiRequest, id: int) -> Any:
    return {"items": list(own_smtp_user(request, id).senders.order_by("pattern"))}


@router.post(
    "/smtp-users/{int:id}/senders",
    response={201: SenderOut},
    summary="Let it send as an address or domain",
    **needs(Scope.SMTP_USERS_WRITE),
)
def add_sender(request: ApiRequest, id: int, data: SenderNew) -> Any:
    """Of a domain that the organization has added."""
    return Status(201, domains.add_sender(own_smtp_user(request, id), pattern=data.pattern, actor=actor_of(request)))


@router.delete("/senders/{int:id}", response={204: None}, summary="Take a sender away", **needs(Scope.SMTP_USERS_WRITE))
def remove_sender(request: ApiRequest, id: int) -> Any:
    mine = SenderAddress.objects.select_related("smtp_user")
    row = get_object_or_404(mine, smtp_user__organization=request.auth.organization, pk=id)
    domains.remove_sender(row, actor=actor_of(request))
    return Status(204, None)
