"""Webhooks: endpoints with their secrets (in the answers that make them, and nowhere else), their log, replays."""

import json
from datetime import datetime
from typing import Any, Literal

from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Field, Router, Status

from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.shapes import (
    PAGE,
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
from relay.webhooks import endpoints, log, outbox, replay
from relay.webhooks.kinds import Event
from relay.webhooks.models import Delivery, Endpoint
from relay.webhooks.posting import body_of, event_name

router = Router(tags=["Webhooks"])
DeliveryState = Literal["waiting", "delivered", "failed"]


class EndpointOut(Schema):
    id: int
    url: str
    description: str
    events: list[str] = Field(description=f"Of {', '.join(Event.values)}.")
    smtp_user_ids: list[int] = Field(description="Empty: all, and what concerns no SMTP user in particular.")
    state: Literal["active", "failing", "disabled"]
    disabled_at: datetime | None
    disabled_why: Literal["", "member", "gone", "failing"]
    failing_since: datetime | None = Field(description="Nothing was taken since then.")
    paused_until: datetime | None = Field(description="Nothing is posted before: it has failed too often.")
    last_problem: str
    last_success_at: datetime | None
    previous_secret_until: datetime | None = Field(description="Until then the secret before the last signs as well.")
    created_at: datetime


class EndpointMade(EndpointOut):
    secret: str = Field(description="Shown in this answer only. Keep it in the environment of the receiver.")


class EndpointNew(Body):
    url: Text = Field(max_length=1000, description="https, at a public address.")
    events: list[Event] = Field(min_length=1, max_length=len(Event))
    description: Text = Field(default="", max_length=200)
    smtp_user_ids: list[int] = Field(default=[], max_length=1000)


class EndpointChange(Body):
    """What is left out stays as it is."""

    url: Text | None = Field(default=None, max_length=1000)
    events: list[Event] | None = Field(default=None, min_length=1, max_length=len(Event))
    description: Text | None = Field(default=None, max_length=200)
    smtp_user_ids: list[int] | None = Field(default=None, max_length=1000)


class TryOut(Schema):
    at: datetime
    seconds: float
    status: int | None = Field(description="null: there was no answer.")
    words: str = Field(description="What went wrong; empty after a success.")
    response: str = Field(description="The first 1,024 octets of the answer.")


class WebhookDeliveryOut(Schema):
    id: int
    event_id: str = Field(description="webhook-id: the same at every try.")
    type: str
    occurred_at: datetime
    state: DeliveryState
    due_at: datetime | None = Field(description="The next try; null if there is none.")
    attempts: int
    last_status: int | None
    payload: dict[str, Any]
    tries: list[TryOut]


class ReplaySince(Body):
    since: Moment = Field(description="What was written from then on and has failed.")


class Replayed(Schema):
    count: int


@router.get("/webhooks", response=Listed[EndpointOut], summary="List endpoints", **needs(Scope.WEBHOOKS_READ))
def list_webhooks(request: ApiRequest) -> Any:
    """All of the organization."""
    return {"items": endpoints.endpoints_of(request.auth.organization_id)}


@router.post("/webhooks", response={201: EndpointMade}, summary="Make an endpoint", **needs(Scope.WEBHOOKS_WRITE))
def create_webhook(request: ApiRequest, data: EndpointNew) -> Any:
    """The answer holds the secret, which cannot be read again."""
    return _made(endpoints.create_endpoint(request.auth.organization, actor=actor_of(request), **data.dict()))


@router.get("/webhooks/{int:id}", response=EndpointOut, summary="Get an endpoint", **needs(Scope.WEBHOOKS_READ))
def get_webhook(request: ApiRequest, id: int) -> Any:
    return _own(request, id)


@router.patch("/webhooks/{int:id}", response=EndpointOut, summary="Change an endpoint", **needs(Scope.WEBHOOKS_WRITE))
def change_webhook(request: ApiRequest, id: int, data: EndpointChange) -> Any:
    """What waits already goes to the new address."""
    row = _own(request, id)
    present = {name: getattr(row, name) for name in ("url", "events", "description", "smtp_user_ids")}
    given = {name: value for name, value in data.dict(exclude_unset=True).items() if value is not None}
    endpoints.change_endpoint(row, actor=actor_of(request), **{**present, **given})
    return _own(request, id)


@router.post(
    "/webhooks/{int:id}/rotate-secret",
    response={201: EndpointMade},
    summary="Rotate the secret",
    **needs(Scope.WEBHOOKS_WRITE),
)
def rotate_webhook_secret(request: ApiRequest, id: int) -> Any:
    """Each post has two signatures for 24 hours, by the new secret and by the old one."""
    return _made(endpoints.rotate_secret(_own(request, id), actor=actor_of(request)))


@router.post(
    "/webhooks/{int:id}/end-overlap",
    response=EndpointOut,
    summary="End the old secret",
    **needs(Scope.WEBHOOKS_WRITE),
)
def end_webhook_overlap(request: ApiRequest, id: int) -> Any:
    """Before its 24 hours are over."""
    endpoints.end_overlap(_own(request, id), actor=actor_of(request))
    return _own(request, id)


@router.post(
    "/webhooks/{int:id}/disable", response=EndpointOut, summary="Disable an endpoint", **needs(Scope.WEBHOOKS_WRITE)
)
def disable_webhook(request: ApiRequest, id: int) -> Any:
    """What waits goes on waiting; what happens from now on is not written for it."""
    endpoints.disable_endpoint(_own(request, id), actor=actor_of(request))
    return _own(request, id)


@router.post(
    "/webhooks/{int:id}/enable", response=EndpointOut, summary="Enable an endpoint", **needs(Scope.WEBHOOKS_WRITE)
)
def enable_webhook(request: ApiRequest, id: int) -> Any:
    """What failed meanwhile can be replayed."""
    endpoints.enable_endpoint(_own(request, id), actor=actor_of(request))
    return _own(request, id)


@router.delete("/webhooks/{int:id}", response={204: None}, summary="Delete an endpoint", **needs(Scope.WEBHOOKS_WRITE))
def delete_webhook(request: ApiRequest, id: int) -> Any:
    """With its log. Nothing is posted to it any more."""
    endpoints.delete_endpoint(_own(request, id), actor=actor_of(request))
    return Status(204, None)


@router.post(
    "/webhooks/{int:id}/test",
    response={202: WebhookDeliveryOut},
    summary="Send a test",
    **needs(Scope.WEBHOOKS_WRITE),
)
def test_webhook(request: ApiRequest, id: int) -> Any:
    """An event of the type webhook.test, posted within a second or two; ask for its delivery to see the answer."""
    row = _own(request, id)
    if row.disabled_at is not None:
        raise replay.ReplayRefused("The endpoint is disabled. Enable it first.", code="disabled")
    return Status(202, _delivery(outbox.write_test(row)))


@router.post(
    "/webhooks/{int:id}/replay", response=Replayed, summary="Post again what failed", **needs(Scope.WEBHOOKS_WRITE)
)
def replay_webhook(request: ApiRequest, id: int, data: ReplaySince) -> Any:
    """Under the same event ids, with all tries anew."""
    return {"count": replay.replay_failed(_own(request, id), since=data.since, actor=actor_of(request))}


@router.get(
    "/webhooks/{int:id}/deliveries",
    response=Listed[WebhookDeliveryOut],
    summary="List what was posted",
    **needs(Scope.WEBHOOKS_READ),
)
def list_webhook_deliveries(
    request: ApiRequest, id: int, state: DeliveryState | None = None, limit: Limit = PAGE, cursor: CursorText = ""
) -> Any:
    """The newest first. What was taken is kept for 7 days, the others for 30."""
    page = log.page_of(_own(request, id), state=state or "", before=_before(cursor), limit=limit)
    more = cursor_of(page.older) if page.older is not None else None
    return {"items": [_delivery(row) for row in page.rows], "next_cursor": more}


@router.get(
    "/webhooks/{int:id}/deliveries/{int:delivery_id}",
    response=WebhookDeliveryOut,
    summary="Get a delivery",
    **needs(Scope.WEBHOOKS_READ),
)
def get_webhook_delivery(request: ApiRequest, id: int, delivery_id: int) -> Any:
    return _delivery(_own_delivery(request, id, delivery_id))


@router.post(
    "/webhooks/{int:id}/deliveries/{int:delivery_id}/replay",
    response={202: WebhookDeliveryOut},
    summary="Post it again",
    **needs(Scope.WEBHOOKS_WRITE),
)
def replay_webhook_delivery(request: ApiRequest, id: int, delivery_id: int) -> Any:
    """At once, under the same event id, with all tries anew."""
    replay.replay(_own_delivery(request, id, delivery_id), actor=actor_of(request))
    return Status(202, _delivery(_own_delivery(request, id, delivery_id)))


def _own(request: ApiRequest, id: int) -> Endpoint:
    return get_object_or_404(Endpoint, organization=request.auth.organization, deleted_at=None, pk=id)


def _own_delivery(request: ApiRequest, id: int, delivery_id: int) -> Delivery:
    mine = Delivery.objects.select_related("endpoint")
    return get_object_or_404(mine, endpoint=_own(request, id), pk=delivery_id)


def _made(made: endpoints.Made) -> Any:
    shown = EndpointOut.from_orm(made.endpoint).dict()
    return Status(201, EndpointMade.model_construct(**shown, secret=made.secret))


def _before(cursor: str) -> int | None:
    if not cursor:
        return None
    match place_of(cursor):
        case [int(before)] if before > 0:
            return before
        case _:
            raise bad_cursor()


def _delivery(row: Delivery) -> dict[str, Any]:
    columns = ("id", "type", "occurred_at", "state", "attempts", "last_status", "tries")
    body = body_of(event_id=row.event_id, type=row.type, occurred_at=row.occurred_at, data=json.dumps(row.data))
    return {
        **{name: getattr(row, name) for name in columns},
        "event_id": event_name(row.event_id),
        "due_at": max(row.due_at, timezone.now()) if row.state == Delivery.State.WAITING else None,
        "payload": json.loads(body),
    }
