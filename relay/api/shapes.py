"""What all documents of the API share: bodies without control characters, lists with a cursor.

Shapes  Listed[X]: {"items": [X], "next_cursor": text or null}. A cursor is opaque; it goes back as ?cursor=.
Errors  A cursor that was not made here is a 422.
"""

import base64
import json
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from ninja import Query, Schema
from pydantic import AfterValidator, AwareDatetime, ConfigDict

from relay.api.problems import ProblemError

PAGE = 50
PAGE_MAX = 200

Item = TypeVar("Item")

__all__ = [
    "PAGE",
    "PAGE_MAX",
    "Body",
    "CursorText",
    "Limit",
    "Listed",
    "Moment",
    "Schema",
    "Text",
    "bad_cursor",
    "cursor_of",
    "place_of",
]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters are not allowed")
    return text


Text = Annotated[str, AfterValidator(_printable)]  # PostgreSQL takes no NUL, and no name or address holds a control


def _of_our_times(moment: datetime) -> datetime:
    if not 1970 <= moment.year < 9999:  # beyond these, other time zones have years that no clock shows
        raise ValueError("the year must lie between 1970 and 9998")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_of_our_times)]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many at most.")]
CursorText = Annotated[str, Query(max_length=300, description="next_cursor of the page before.")]


class Body(Schema):
    """A misspelt name is an error, not a value that is silently left out."""

    model_config = ConfigDict(extra="forbid")


class Listed(Schema, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = None


def cursor_of(*place: str | int) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place_of(cursor: str) -> list[Any]:
    """The values that cursor_of() was given; their types are the caller's to check."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        place = None
    if not isinstance(place, list):
        raise bad_cursor()
    return place


def bad_cursor() -> ProblemError:
    return ProblemError("validation", "cursor: it was not made by this list.")
