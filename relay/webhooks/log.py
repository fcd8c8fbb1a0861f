"""The log of an endpoint's posts, a page at a time, newest first.

Shapes  page_of(endpoint, …) -> Page. before: an id, the last one of the page before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.webhooks.models import Delivery, Endpoint

PAGE: Final = 50
ID_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page:
    rows: Sequence[Delivery]
    older: int | None  # the id to go on with


def page_of(endpoint: Endpoint, *, state: str = "", before: int | None = None, limit: int = PAGE) -> Page:
    found = Delivery.objects.filter(endpoint=endpoint).order_by("-id")
    if state:
        found = found.filter(state=state)
    if before is not None:
        found = found.filter(id__lt=min(before, ID_MAX))
    rows = list(found[: limit + 1])
    return Page(rows[:limit], rows[limit - 1].pk if len(rows) > limit else None)
