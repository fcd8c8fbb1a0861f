"""Which organizations want to be told of what: read at most every few seconds, so that for all others nothing is done.

Shapes  Interest.of(event) -> ids of organizations. current() in a transaction of Django's, acurrent() in one of
        psycopg's; both share what either has read in this process.
Units   FRESH_SECONDS: so long after it was saved an endpoint may miss what happens.
Errors  Those of the database.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from django.db import connection

from relay.connections import Connection

FRESH_SECONDS: Final = 2.0
_READ: Final = """
    SELECT DISTINCT unnest(events), organization_id FROM webhook_endpoint
    WHERE disabled_at IS NULL AND deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Interest:
    by_event: Mapping[str, frozenset[int]] = field(default_factory=dict)
    read_at: float = float("-inf")

    def of(self, *events: str) -> frozenset[int]:
        return frozenset().union(*(self.by_event.get(event, ()) for event in events))


class _Known:
    """What this process has read last."""

    interest = Interest()


def current() -> Interest:
    if not _is_fresh():
        with connection.cursor() as cursor:
            cursor.execute(_READ)
            _keep(cursor.fetchall())
    return _Known.interest


async def acurrent(conn: Connection) -> Interest:
    if not _is_fresh():
        _keep(await (await conn.execute(_READ)).fetchall())
    return _Known.interest


def forget() -> None:
    """What is asked next is read anew."""
    _Known.interest = Interest()


def _is_fresh() -> bool:
    return monotonic() - _Known.interest.read_at < FRESH_SECONDS


def _keep(rows: Iterable[Any]) -> None:
    found: dict[str, set[int]] = {}
    for event, organization_id in rows:
        found.setdefault(event, set()).add(organization_id)
    _Known.interest = Interest({event: frozenset(ids) for event, ids in found.items()}, monotonic())
