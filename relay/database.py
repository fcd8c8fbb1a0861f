"""Connections of our own to PostgreSQL, beside Django's: for the asynchronous processes."""

from collections.abc import Sequence
from typing import Any

from django.db import connection
from psycopg import AsyncConnection, OperationalError
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

# A commit that takes longer than this has failed for its client anyway (451 after 60 s).
TIMEOUTS = "-c statement_timeout=30s -c lock_timeout=20s -c idle_in_transaction_session_timeout=30s"


# For a connection that runs the same few statements for its whole life: to plan them costs as much as to run them, so
# one plan must serve, and stay right while tables that are empty today grow: by their indexes, row by row.
ONE_PLAN = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"


def conninfo(*, application_name: str, options: str = "") -> str:
    """Django's database as libpq's words; in tests that is the test database."""
    settings = connection.settings_dict
    words = {
        "dbname": settings["NAME"],
        "user": settings["USER"],
        "password": settings["PASSWORD"],
        "host": settings["HOST"],
        "port": settings["PORT"],
        **settings["OPTIONS"],
    }
    given = {name: value for name, value in words.items() if value not in ("", None)}
    return make_conninfo(
        **given,
        application_name=application_name,
        connect_timeout=5,
        options=f"{TIMEOUTS} -c synchronous_commit=on {options}",
    )


async def connect(*, application_name: str, options: str = "") -> AsyncConnection[Any]:
    """A connection in autocommit. Raises psycopg.OperationalError."""
    return await AsyncConnection.connect(conninfo(application_name=application_name, options=options), autocommit=True)


async def fetch_all(
    pool: AsyncConnectionPool[Any], statement: str, parameters: Sequence[Any] | dict[str, Any], *, timeout: float
) -> list[tuple[Any, ...]]:
    """Rows by a pooled connection; one that died since its last use is replaced (a check each time costs a round trip).

    Raises psycopg.Error, PoolTimeout.
    """
    for dead in range(pool.max_size + 1):
        async with pool.connection(timeout=timeout) as conn:  # PoolTimeout, an OperationalError too, is the last word
            try:
                rows: list[tuple[Any, ...]] = await (await conn.execute(statement, parameters)).fetchall()
                return rows
            except OperationalError:
                if dead == pool.max_size or not (conn.closed or conn.broken):
                    raise
    raise AssertionError("unreachable")
