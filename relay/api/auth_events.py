"""The auth log: every attempt to sign in, with its true reason."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from ninja import Field, Query, Router

from audit.models import AuthEvent, Reason, Result
from audit.pages import SearchTooLong
from audit.queries import AuthFilters, Cursor, auth_events
from relay.api.keys import ApiRequest, Scope, needs
from relay.api.problems import ProblemError
from relay.api.shapes import PAGE, CursorText, Limit, Listed, Moment, Schema, Text, bad_cursor

router = Router(tags=["Auth log"])


class AuthEventOut(Schema):
    id: UUID
    at: datetime
    reference: str
    result: str
    reason: str = Field(description=f"One of {', '.join(Reason.values)}.")
    reason_text: str
    smtp_user_id: int | None
    app_password_id: int | None
    username_given: str
    mechanism: str
    ip: str
    tls_version: str
    tls_cipher: str
    client_name: str
    port: int
    count: int = Field(description="More than 1: a run of attempts folded into one row, until last_at.")
    first_at: datetime | None = Field(description="Of such a run, whose `at` is its minute; else null.")
    last_at: datetime
    samples: list[str] = Field(description="Some of the names of such a run.")

    @staticmethod
    def resolve_reason_text(row: AuthEvent) -> str:
        return row.get_reason_display()


class AuthEventFilters(Schema):
    result: Result | None = None
    reason: Reason | None = None
    smtp_user: int | None = Field(default=None, description="The id of an SMTP user.")
    username: Text = Field(default="", max_length=255, description="As the client gave it.")
    ip: Text = Field(default="", max_length=45)
    network: Text = Field(default="", max_length=49, description="A range: 192.0.2.0/24.")
    mechanism: Text = Field(default="", max_length=32)
    reference: Text = Field(default="", max_length=10)
    after: Moment | None = Field(default=None, description="At this time or later.")
    before: Moment | None = Field(default=None, description="Before this time.")


@router.get("/auth-events", response=Listed[AuthEventOut], summary="List attempts", **needs(Scope.AUTH_EVENTS_READ))
def list_auth_events(
    request: ApiRequest,
    filters: Annotated[AuthEventFilters, Query()],
    limit: Limit = PAGE,
    cursor: CursorText = "",
) -> Any:
    """The newest first."""
    place = _place(cursor) if cursor else None
    try:
        rows = auth_events(request.auth.organization_id, filters=_asked(filters), before=place, limit=limit + 1)
    except ValueError as error:  # an address or range that is none
        raise ProblemError("validation", str(error)) from None
    except SearchTooLong:
        detail = "Too much lies between what fits: ask for a shorter time (after, before), or with fewer filters."
        raise ProblemError("validation", detail) from None
    more = len(rows) > limit
    return {"items": rows[:limit], "next_cursor": str(Cursor.of(rows[limit - 1])) if more else None}


def _asked(filters: AuthEventFilters) -> AuthFilters:
    return AuthFilters(
        result=filters.result or "",
        reason=filters.reason or "",
        smtp_user_id=filters.smtp_user,
        username=filters.username,
        ip=filters.ip,
        cidr=filters.network,
        mechanism=filters.mechanism,
        reference=filters.reference,
        since=filters.after,
        until=filters.before,
    )


def _place(cursor: str) -> Cursor:
    try:
        return Cursor.parse(cursor)
    except ValueError:
        raise bad_cursor() from None
