"""Reading the log of changes: pages of it, newest first, with old and new values side by side.

Shapes  changes_of(organization_id) -> Page of Change. A Value has `before` only where there was another one.
        A list of two in a *.changed or *.rotated event is old and new as well: rows from before {"from", "to"}.
Units   before: a sequence; the page begins below it.
Errors  None: what was erased has no values, and says so.
Source  audit/changes.py writes; docs/data.md, ChangeEvent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from audit.models import ChangeEvent
from audit.record import printable

PAGE: Final = 50
_PAIR: Final = {"from", "to"}


@dataclass(frozen=True, slots=True)
class Value:
    name: str
    text: str
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    event: ChangeEvent
    action: str  # in words
    values: tuple[Value, ...]

    @property
    def is_erased(self) -> bool:
        return self.event.values is None


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Change]
    older: int | None


def changes_of(
    organization_id: int, *, actor: str = "", action: str = "", before: int | None = None, limit: int = PAGE
) -> Page:
    """actor: as it is written; action: a noun (app_password) or a whole one (app_password.created)."""
    events = ChangeEvent.objects.filter(organization_id=organization_id)
    if actor:
        events = events.filter(actor=printable(actor, 320))
    if action:
        named = printable(action, 64)
        events = events.filter(action=named) if "." in named else events.filter(action__startswith=f"{named}.")
    if before is not None:
        events = events.filter(sequence__lt=before)
    found = list(events.order_by("-sequence")[: limit + 1])
    older = found[limit - 1].sequence if len(found) > limit else None
    return Page([change_of(event) for event in found[:limit]], older)


def change_of(event: ChangeEvent) -> Change:
    words = event.action.replace("_", " ").replace(".", " ")
    return Change(event, words[:1].upper() + words[1:], tuple(_values(event)))


def _values(event: ChangeEvent) -> Iterator[Value]:
    values: dict[str, Any] = event.values or {}
    if set(values) >= _PAIR:  # the change as a whole is one from this to that
        yield Value("", _text(values["to"]), _text(values["from"]))
        values = {name: value for name, value in values.items() if name not in _PAIR}
    for name, value in values.items():
        words = name.replace("_", " ")
        if isinstance(value, dict) and set(value) == _PAIR:
            yield Value(words, _text(value["to"]), _text(value["from"]))
        elif isinstance(value, list) and len(value) == 2 and event.action.endswith((".changed", ".rotated")):
            yield Value(words, _text(value[1]), _text(value[0]))
        else:
            yield Value(words, _text(value))


def _text(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(each)}" for name, each in value.items())
    return str(value)
