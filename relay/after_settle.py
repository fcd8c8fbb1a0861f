"""What else is written in the transaction that writes down what became of recipients: reports, suppressions, events.

Shapes  hooks: async functions of (connection, results), filled by relay.apps.ready(), called in that order by whoever
        settles, after its rows are written and before its commit. results: of those recipients only that it still
        owned, each with its job, its settlement and the state it has now (queued: it is tried again).
Errors  A hook that raises undoes the settlements, and what a next hop has taken would go again. So a hook that has
        nothing to do costs no statement, and one that has writes within apart(): what fails there is undone alone and
        logged. Only what ends the transaction anyway (the connection, a deadlock) passes, and the settle is repeated.
Source  docs/flow.md, Delivery.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import psycopg

from relay.connections import Connection
from relay.logs import get_logger

if TYPE_CHECKING:
    from relay.queue import Job, Settlement  # the queue calls us

Settled = tuple["Job", "Settlement", str]
Hook = Callable[[Connection, Sequence[Settled]], Awaitable[None]]

hooks: Final[list[Hook]] = []

log = get_logger(__name__)


async def after_settle(connection: Connection, results: Sequence[Settled]) -> None:
    """Called within the transaction of the settle. No network, no waiting: leases and recipients' rows are held."""
    if not results:
        return
    for hook in hooks:
        await hook(connection, results)


@asynccontextmanager
async def apart(connection: Connection, what: str) -> AsyncIterator[None]:
    """A savepoint: an error of one hook does not undo what the settle and the other hooks have written."""
    try:
        async with connection.transaction():
            yield
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise
    except Exception:
        log.exception("settle.hook_failed", hook=what)
