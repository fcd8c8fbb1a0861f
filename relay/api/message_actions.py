"""Mail that waits: hold, release, retry, cancel, one message or all that a search means; what the limit holds."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Field, Router, Status

from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.problems import ProblemError
from relay.api.shapes import PAGE, Body, CursorText, Limit, Listed, Schema, Text, bad_cursor, cursor_of, place_of
from relay.message_search import LENGTH_MAX
from relay.models import Message, QueueAction
from relay.waiting import actions
from relay.waiting.filters import STATES, FilterInvalid, WaitingFilter
from relay.waiting.forecast import forecast
from relay.waiting.verbs import By

router = Router(tags=["Messages"])

Verb = QueueAction.Verb
LEFT = (
    "How many recipients were left as they were, by cause: running (being delivered at that moment), gone (ended"
    " meanwhile), held, held already, not held, due, limit (held by the hourly limit, which releases them itself),"
    " operator (held by the operator), route (their route holds all mail)."
)


class ActedOut(Schema):
    changed: int = Field(description="Recipients.")
    left: dict[str, int] = Field(description=LEFT)


class ActionIn(Body):
    do: Literal["hold", "release", "retry", "cancel"]
    search: Text = Field(
        default="",
        max_length=LENGTH_MAX,
        description="As the panel's search line: `to:@example.org status:queued after:2h`. Empty: all that waits.",
    )


class PreviewOut(Schema):
    recipients: int = Field(description="How many wait and fit.")
    is_least: bool = Field(description="There are more: counting ends at 10,000, and after 1.5 s.")


class ActionOut(Schema):
    id: int
    do: str = Field(alias="verb")
    search: str
    state: str = Field(description="waiting, running, done or stopped.")
    total: int | None = Field(description="Recipients that it means; null until they are collected.")
    changed: int
    left: dict[str, int] = Field(alias="skipped", description=LEFT)
    actor: str
    created_at: datetime
    finished_at: datetime | None

    @staticmethod
    def resolve_search(row: QueueAction) -> str:
        return str(row.filters.get("search", ""))


class HeldOut(Schema):
    message_id: UUID
    reference: str
    recipients: int
    received_at: datetime
    release_at: datetime | None = Field(description="At the earliest; null: never, it has more than a limit allows.")


class HeldListOut(Schema):
    messages: int = Field(description="In all; the 100 oldest are listed.")
    recipients: int
    items: list[HeldOut]


@router.post("/messages/{uuid:id}/hold", response=ActedOut, summary="Hold a message", **needs(Scope.MESSAGES_WRITE))
def hold_message(request: ApiRequest, id: UUID) -> Any:
    """Its recipients that wait stay until they are released."""
    return _act(request, id, Verb.HOLD)


@router.post(
    "/messages/{uuid:id}/release", response=ActedOut, summary="Release a message", **needs(Scope.MESSAGES_WRITE)
)
def release_message(request: ApiRequest, id: UUID) -> Any:
    """What you held is due at once. What waits for the hourly limit goes on waiting for it."""
    return _act(request, id, Verb.RELEASE)


@router.post("/messages/{uuid:id}/retry", response=ActedOut, summary="Retry a message", **needs(Scope.MESSAGES_WRITE))
def retry_message(request: ApiRequest, id: UUID) -> Any:
    """The next attempt is made at once instead of at its time."""
    return _act(request, id, Verb.RETRY)


@router.post("/messages/{uuid:id}/cancel", response=ActedOut, summary="Cancel a message", **needs(Scope.MESSAGES_WRITE))
def cancel_message(request: ApiRequest, id: UUID) -> Any:
    """Its recipients that wait are never delivered. That cannot be undone."""
    return _act(request, id, Verb.CANCEL)


def _act(request: ApiRequest, id: UUID, verb: Verb) -> Mapping[str, Any]:
    message = get_object_or_404(Message, organization=request.auth.organization, pk=id)
    changed, left = actions.act_on_recipients(
        verb,
        list(message.recipients.filter(state__in=STATES).values_list("pk", flat=True)),
        by=By(actor_of(request), is_operator=False),
        organization_id=request.auth.organization_id,
        subject=message.reference,
        subject_id=str(message.pk),
    )
    return {"changed": changed, "left": dict(left)}


@router.post(
    "/message-actions/preview", response=PreviewOut, summary="Preview a message action", **needs(Scope.MESSAGES_READ)
)
def preview_message_action(request: ApiRequest, body: ActionIn) -> Any:
    """How many recipients an action would look at now. Nothing is changed."""
    return _counted(_asked(request, body))


@router.post(
    "/message-actions", response={202: ActionOut}, summary="Start a message action", **needs(Scope.MESSAGES_WRITE)
)
def start_message_action(request: ApiRequest, body: ActionIn) -> Any:
    """Done in batches beside this call, to what waits now; look at its state until it is done."""
    asked = _asked(request, body)
    _counted(asked)  # a search that cannot be understood is refused here
    organization = request.auth.organization
    return Status(202, actions.request_action(body.do, asked, actor=actor_of(request), organization=organization))


@router.get(
    "/message-actions", response=Listed[ActionOut], summary="List message actions", **needs(Scope.MESSAGES_READ)
)
def list_message_actions(request: ApiRequest, limit: Limit = PAGE, cursor: CursorText = "") -> Any:
    """The newest first."""
    found = QueueAction.objects.filter(organization=request.auth.organization).order_by("-pk")
    if cursor:
        place = place_of(cursor)
        if len(place) != 1 or not isinstance(place[0], int) or abs(place[0]) >= 2**63:
            raise bad_cursor()
        found = found.filter(pk__lt=place[0])
    rows = list(found[: limit + 1])
    return {"items": rows[:limit], "next_cursor": cursor_of(rows[limit - 1].pk) if len(rows) > limit else None}


@router.get(
    "/message-actions/{int:id}", response=ActionOut, summary="Get a message action", **needs(Scope.MESSAGES_READ)
)
def get_message_action(request: ApiRequest, id: int) -> Any:
    """How far it is."""
    return get_object_or_404(QueueAction, organization=request.auth.organization, pk=id)


@router.post(
    "/message-actions/{int:id}/stop",
    response=ActionOut,
    summary="Stop a message action",
    **needs(Scope.MESSAGES_WRITE),
)
def stop_message_action(request: ApiRequest, id: int) -> Any:
    """What is done stays done."""
    row = get_object_or_404(QueueAction, organization=request.auth.organization, pk=id)
    return actions.stop_action(row, actor=actor_of(request))


@router.get("/held-messages", response=HeldListOut, summary="List what the limit holds", **needs(Scope.MESSAGES_READ))
def list_held_messages(request: ApiRequest) -> Any:
    """The oldest first, each with the time of its release as things stand."""
    found = forecast(request.auth.organization)
    items = [
        HeldOut(
            message_id=row.message.pk,
            reference=row.message.reference,
            recipients=row.recipients,
            received_at=row.message.received_at,
            release_at=None if found.is_suspended else row.release_at,
        )
        for row in found.rows
    ]
    return {"messages": found.messages, "recipients": found.recipients, "items": items}


def _asked(request: ApiRequest, body: ActionIn) -> WaitingFilter:
    return WaitingFilter(organization_id=request.auth.organization_id, search=body.search.strip())


def _counted(asked: WaitingFilter) -> dict[str, Any]:
    try:
        counted = actions.count(asked, is_customers=True, as_of=timezone.now())
    except FilterInvalid as invalid:
        raise ProblemError("validation", f"search: {invalid.messages[0]}") from None
    return {"recipients": counted.number, "is_least": counted.is_least}
