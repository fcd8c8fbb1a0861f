"""Messages: search, one with its recipients and attempts, its content."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router

from relay import content
from relay.api.keys import ApiRequest, Scope, needs
from relay.api.problems import KINDS, ProblemError
from relay.api.shapes import PAGE, CursorText, Limit, Listed, Moment, Schema, Text, bad_cursor, cursor_of, place_of
from relay.message_search import MessageSearch, apply
from relay.models import DeliveryAttempt, Message, Recipient
from relay.queue import message_state

router = Router(tags=["Messages"])

CONTENT = {"description": "The octets as relayed", "content": {"message/rfc822": {"schema": {"type": "string"}}}}


class MessageOut(Schema):
    id: UUID
    reference: str
    state: str = Field(description="queued, held, delivered, partly delivered, failed or cancelled.")
    route: str = Field(description="Where it goes next: sandbox keeps it in Gatepost.")
    smtp_user_id: int | None
    app_password_id: int | None
    reverse_path: str
    header_from: str
    header_message_id: str
    subject: str
    size_octets: int
    received_at: datetime
    client_ip: str | None
    tls_version: str
    mechanism: str
    recipient_count: int
    recipient_states: dict[str, int] = Field(description="How many recipients are in which state.")


class AttemptOut(Schema):
    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    route: str
    next_hop: str
    next_hop_ip: str | None
    tls_version: str
    code: int | None
    enhanced_code: str
    text: str


class RecipientOut(Schema):
    address: str
    state: str
    due_at: datetime | None = Field(description="When the next attempt is due; null once it is settled.")
    settled_at: datetime | None
    reply: str
    possibly_delivered: bool
    attempts: list[AttemptOut]

    @staticmethod
    def resolve_due_at(row: Recipient) -> datetime | None:
        return row.due_at if row.state == Recipient.State.QUEUED else None

    @staticmethod
    def resolve_attempts(row: Recipient) -> list[DeliveryAttempt]:
        return list(row.attempt_rows.all())


class MessageDetail(MessageOut):
    recipients: list[RecipientOut]


class MessageFilters(Schema):
    to: Text = Field(default="", max_length=320, description="A recipient's address, or a part of it.")
    sender: Text = Field(default="", alias="from", max_length=320, description="The return path or From, or a part.")
    status: Literal["", "queued", "held", "delivered", "failed", "cancelled"] = Field(
        default="", description="The state of at least one recipient; with `to`, of that one."
    )
    after: Moment | None = Field(default=None, description="Received at this time or later.")
    before: Moment | None = Field(default=None, description="Received before this time.")
    smtp_user: int | None = Field(default=None, description="The id of an SMTP user.")
    reference: Text = Field(default="", max_length=10)


@router.get("/messages", response=Listed[MessageOut], summary="Search messages", **needs(Scope.MESSAGES_READ))
def list_messages(
    request: ApiRequest,
    filters: Annotated[MessageFilters, Query()],
    limit: Limit = PAGE,
    cursor: CursorText = "",
) -> Any:
    """The newest first."""
    found = _filtered(Message.objects.filter(organization=request.auth.organization), filters)
    if cursor:
        at, pk = _place(cursor)
        # The first condition says what the second implies, in the form that the index serves.
        found = found.filter(Q(received_at__lte=at), Q(received_at__lt=at) | Q(pk__lt=pk))
    rows = list(found.order_by("-received_at", "-pk")[: limit + 1])
    last = rows[limit - 1] if len(rows) > limit else None
    return {
        "items": _with_states(rows[:limit]),
        "next_cursor": cursor_of(last.received_at.astimezone(UTC).isoformat(), str(last.pk)) if last else None,
    }


@router.get("/messages/{uuid:id}", response=MessageDetail, summary="Get a message", **needs(Scope.MESSAGES_READ))
def get_message(request: ApiRequest, id: UUID) -> Any:
    """With every recipient's state and the attempts to deliver to it."""
    attempts = Prefetch("attempt_rows", DeliveryAttempt.objects.order_by("number"))
    recipients = Prefetch("recipients", Recipient.objects.order_by("pk").prefetch_related(attempts))
    mine = Message.objects.filter(organization=request.auth.organization).prefetch_related(recipients)
    message = get_object_or_404(mine, pk=id)
    states = [recipient.state for recipient in message.recipients.all()]
    return _document(message, states) | {"recipients": list(message.recipients.all())}


@router.get(
    "/messages/{uuid:id}/content",
    summary="Get a message's content",
    **needs(Scope.MESSAGES_READ, http200=CONTENT),
)
def get_content(request: ApiRequest, id: UUID) -> HttpResponse:
    """message/rfc822: the octets as they are relayed, our trace header first."""
    message = get_object_or_404(Message, organization=request.auth.organization, pk=id)
    try:
        octets = content.load(message.pk)
    except content.ContentGoneError:
        raise ProblemError("gone", KINDS["gone"].meaning) from None
    response = HttpResponse(octets, content_type="message/rfc822")
    response["Content-Disposition"] = f'attachment; filename="{message.reference}.eml"'
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


def _filtered(messages: QuerySet[Message], filters: MessageFilters) -> QuerySet[Message]:
    search = MessageSearch(
        to=filters.to,
        sender=filters.sender,
        status=filters.status,
        ref=filters.reference.upper(),
        after=filters.after,
        before=filters.before,
    )
    found = apply(search, messages)
    return found if filters.smtp_user is None else found.filter(smtp_user=filters.smtp_user)


def _place(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, pk = place_of(cursor)
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None or not 1970 <= moment.year < 9999:
            raise bad_cursor()
        return moment, UUID(pk)
    except (ValueError, TypeError, AttributeError):
        raise bad_cursor() from None


def _with_states(messages: list[Message]) -> list[dict[str, Any]]:
    """One further query, whatever their number."""
    states: dict[UUID, list[str]] = {message.pk: [] for message in messages}
    for message_id, state in Recipient.objects.filter(message__in=messages).values_list("message_id", "state"):
        states[message_id].append(state)
    return [_document(message, states[message.pk]) for message in messages]


def _document(message: Message, states: Iterable[str]) -> dict[str, Any]:
    counts = Counter(states)
    plain = {name: getattr(message, name) for name in MessageOut.model_fields if hasattr(message, name)}
    return plain | {"state": message_state(counts), "recipient_states": dict(sorted(counts.items()))}
