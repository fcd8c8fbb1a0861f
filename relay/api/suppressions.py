"""Suppressed addresses: list, look up, add, add many, remove."""

from datetime import datetime
from typing import Any

from django.shortcuts import get_object_or_404
from ninja import Field, Router, Status

from relay import suppressions
from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.shapes import PAGE, Body, CursorText, Limit, Listed, Schema, Text, bad_cursor, cursor_of, place_of
from relay.models import Suppression

router = Router(tags=["Suppressions"])
MANY_MAX = 1000


class SuppressionOut(Schema):
    id: int
    address: str = Field(description="As it is compared: local part in lower case, domain in A-labels.")
    source: str = Field(description=f"One of {', '.join(Suppression.Source.values)}.")
    reason: str = Field(description="The next hop's words, or a note.")
    reference: str = Field(description="Of the message that bounced.")
    created_at: datetime
    created_by: str = Field(description="Empty: Gatepost itself, after a hard bounce.")


class SuppressionNew(Body):
    address: Text = Field(max_length=320)
    note: Text = Field(default="", max_length=200)


class SuppressionsNew(Body):
    addresses: list[Text] = Field(min_length=1, max_length=MANY_MAX)
    note: Text = Field(default="", max_length=200)


class Added(Schema):
    added: int
    known: int = Field(description="In the list before, or given twice.")
    malformed: int = Field(description="Without an address; they are left out.")


@router.get(
    "/suppressions",
    response=Listed[SuppressionOut],
    summary="List suppressed addresses",
    **needs(Scope.MESSAGES_READ),
)
def list_suppressions(
    request: ApiRequest,
    q: Text = "",
    source: Suppression.Source | None = None,
    limit: Limit = PAGE,
    cursor: CursorText = "",
) -> Any:
    """The newest first. q: an address, a part of one, or @domain."""
    found = suppressions.search(request.auth.organization_id, text=q[:320], source=str(source or ""))
    if cursor:
        match place_of(cursor):
            case [int(pk)] if 0 < pk < 2**63:
                found = found.filter(pk__lt=pk)
            case _:
                raise bad_cursor()
    rows = list(found[: limit + 1])
    return {"items": rows[:limit], "next_cursor": cursor_of(rows[limit - 1].pk) if len(rows) > limit else None}


@router.get(
    "/suppressions/{int:id}",
    response=SuppressionOut,
    summary="Get a suppressed address",
    **needs(Scope.MESSAGES_READ),
)
def get_suppression(request: ApiRequest, id: int) -> Any:
    return _own(request, id)


@router.post(
    "/suppressions", response={201: SuppressionOut}, summary="Suppress an address", **needs(Scope.MESSAGES_WRITE)
)
def add_suppression(request: ApiRequest, data: SuppressionNew) -> Any:
    """RCPT for it is refused from then on. 409 if it is suppressed already."""
    row = suppressions.add(request.auth.organization, address=data.address, note=data.note, actor=actor_of(request))
    return Status(201, row)


@router.post("/suppressions/import", response=Added, summary="Suppress many addresses", **needs(Scope.MESSAGES_WRITE))
def import_suppressions(request: ApiRequest, data: SuppressionsNew) -> Any:
    """What is known already, and what is no address, is counted and left out."""
    return suppressions.import_cells(
        request.auth.organization, enumerate(data.addresses, 1), note=data.note, actor=actor_of(request)
    )


@router.delete(
    "/suppressions/{int:id}",
    response={204: None},
    summary="Send to an address again",
    **needs(Scope.MESSAGES_WRITE),
)
def remove_suppression(request: ApiRequest, id: int) -> Any:
    row = _own(request, id)
    suppressions.remove(request.auth.organization, ids=[row.pk], actor=actor_of(request))
    return Status(204, None)


def _own(request: ApiRequest, id: int) -> Suppression:
    return get_object_or_404(Suppression, organization=request.auth.organization, pk=id)
