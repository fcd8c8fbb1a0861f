"""The change log: who changed what, from where, and whether the log is whole."""

from datetime import datetime
from typing import Annotated, Any

from ninja import Field, Query, Router

from audit.anchors import anchors_in, verify
from audit.change_log import Change, changes_of
from relay.api.keys import ApiRequest, Scope, needs
from relay.api.problems import ProblemError
from relay.api.shapes import PAGE, CursorText, Limit, Listed, Schema, Text, bad_cursor, cursor_of, place_of

router = Router(tags=["Change log"])


class ChangeOut(Schema):
    sequence: int = Field(description="1, 2, 3 … without gap.")
    at: datetime
    actor: str
    ip: str | None = Field(description="From where, if it is known.")
    action: str
    subject: str
    subject_id: str
    values: dict[str, Any] | None = Field(description="null: erased. Of a value that was another before: from and to.")


class ChangeFilters(Schema):
    actor: Text = Field(default="", max_length=320)
    action: Text = Field(default="", max_length=64, description="app_password, or app_password.created.")


class VerificationOut(Schema):
    ok: bool
    changes: int
    erased: int
    head_sequence: int
    head_link: str
    problems: list[str]


@router.get("/changes", response=Listed[ChangeOut], summary="List changes", **needs(Scope.CHANGES_READ))
def list_changes(
    request: ApiRequest, filters: Annotated[ChangeFilters, Query()], limit: Limit = PAGE, cursor: CursorText = ""
) -> Any:
    """The newest first."""
    found = changes_of(
        request.auth.organization_id,
        actor=filters.actor,
        action=filters.action,
        before=_place(cursor) if cursor else None,
        limit=limit,
    )
    items = [{**_columns(row), "values": row.event.values} for row in found.rows]
    return {"items": items, "next_cursor": cursor_of(found.older) if found.older is not None else None}


@router.get(
    "/changes/verification", response=VerificationOut, summary="Verify the change log", **needs(Scope.CHANGES_READ)
)
def verify_changes(
    request: ApiRequest,
    anchor: Annotated[list[Text], Query(max_length=20, description="From the daily mail.")] = [],  # noqa: B006  # Ninja's way
) -> Any:
    """Reads the whole chain, against the anchors that the database remembers and those given."""
    organization_id = request.auth.organization_id
    given = [each for text in anchor for each in anchors_in(text)]
    if len(given) != len(anchor) or any(each.organization_id != organization_id for each in given):
        raise ProblemError("validation", "anchor: that is no anchor of this organization's change log.")
    report = verify(organization_id, given=given)
    return {
        "ok": report.ok,
        "changes": report.events,
        "erased": report.erased,
        "head_sequence": report.head_sequence,
        "head_link": report.head_link,
        "problems": list(report.problems),
    }


def _columns(row: Change) -> dict[str, Any]:
    return {
        name: getattr(row.event, name) for name in ("sequence", "at", "actor", "ip", "action", "subject", "subject_id")
    }


def _place(cursor: str) -> int:
    place = place_of(cursor)
    if len(place) != 1 or not isinstance(place[0], int) or not 0 <= place[0] < 2**63:
        raise bad_cursor()
    return place[0]
