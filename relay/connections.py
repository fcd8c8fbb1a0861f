"""A pool of connections to PostgreSQL for the delivery loop.

Shapes  A pool belongs to one event loop and is made after the fork. Its connections are in autocommit: a transaction
        is either one statement or says so.
Errors  psycopg.OperationalError and psycopg_pool.PoolTimeout while the database is away; the pool heals itself.
"""

from typing import Any

from psycopg import AsyncConnection, InterfaceError, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from relay.database import conninfo

Connection = AsyncConnection[Any]
Pool = AsyncConnectionPool[Connection]
PATIENCE_SECONDS = 2.0
DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeout)  # it is away, not our statement wrong


def make_pool(*, name: str, least: int = 1, most: int = 8) -> Pool:
    """A closed pool: `await pool.open()` within the loop that will use it."""
    return AsyncConnectionPool(
        conninfo(application_name=f"gatepost {name}"),
        kwargs={"autocommit": True},
        min_size=least,
        max_size=most,
        open=False,
        name=name,
        timeout=PATIENCE_SECONDS,
        reconnect_timeout=PATIENCE_SECONDS,  # after it a new request starts a new attempt: no back-off of minutes
        check=AsyncConnectionPool.check_connection,
    )
