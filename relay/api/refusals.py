"""Refusals after a sign-in: of senders, sizes, limits. Refused sign-ins are in the auth log."""

from datetime import UTC, datetime
from typing import Annotated, Any

from django.db.models import Q
from ninja import Field, Query, Router

from relay.api.keys import ApiRequest, Scope, needs
from relay.api.shapes import PAGE, CursorText, Limit, Listed, Moment, Schema, Text, bad_cursor, cursor_of, place_of
from relay.models import Refusal
from relay.refusal_reasons import explain
from relay.refusals import reply_of

router = Router(tags=["Auth log"])


class RefusalOut(Schema):
    at: datetime
    reference: str
    smtp_user_id: int
    ip: str
    client_name: str
    code: int
    enhanced_code: str
    text: str
    about: str = Field(description="The address, or the cause, that the reply speaks of.")
    reverse_path: str
    cause: str = Field(description="In words.")
    fix: str

    @staticmethod
    def resolve_cause(row: Refusal) -> str:
        return str(explain(reply_of(row), from_door=True).cause)

    @staticmethod
    def resolve_fix(row: Refusal) -> str:
        return str(explain(reply_of(row), from_door=True).fix)


class RefusalFilters(Schema):
    reference: Text = Field(default="", max_length=10)
    smtp_user: int | None = Field(default=None, ge=1, lt=2**63, description="The id of an SMTP user.")
    code: int | None = Field(default=None, ge=400, le=599)
    after: Moment | None = Field(default=None, description="At this time or later.")
    before: Moment | None = Field(default=None, description="Before this time.")


@router.get("/refusals", response=Listed[RefusalOut], summary="List refusals", **needs(Scope.AUTH_EVENTS_READ))
def list_refusals(
    request: ApiRequest,
    filters: Annotated[RefusalFilters, Query()],
    limit: Limit = PAGE,
    cursor: CursorText = "",
) -> Any:
    """Of senders, sizes and limits, after a sign-in; the newest first."""
    rows = Refusal.objects.filter(_asked(filters), organization_id=request.auth.organization_id)
    if cursor:
        at, pk = _place(cursor)
        rows = rows.filter(Q(at__lte=at), Q(at__lt=at) | Q(pk__lt=pk))
    found = list(rows.order_by("-at", "-pk")[: limit + 1])
    last = found[limit - 1] if len(found) > limit else None
    return {
        "items": found[:limit],
        "next_cursor": cursor_of(last.at.astimezone(UTC).isoformat(), last.pk) if last else None,
    }


def _place(cursor: str) -> tuple[datetime, int]:
    try:
        at, pk = place_of(cursor)
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None or not isinstance(pk, int):
            raise bad_cursor()
    except (ValueError, TypeError):
        raise bad_cursor() from None
    return moment, pk


def _asked(filters: RefusalFilters) -> Q:
    asked = {
        "reference": filters.reference.upper() or None,
        "smtp_user_id": filters.smtp_user,
        "code": filters.code,
        "at__gte": filters.after,
        "at__lt": filters.before,
    }
    return Q(**{name: value for name, value in asked.items() if value is not None})
