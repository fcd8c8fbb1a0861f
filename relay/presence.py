"""Rows of processes that were killed: the next one on the same machine takes them away.

Shapes  A worker's name is kind@host:pid. Only this host's names are judged, and only by whether the pid lives.
Errors  psycopg.Error, as the statements raise it.
"""

import os
import socket
from typing import Any

from psycopg import AsyncConnection


async def forget_dead(conn: AsyncConnection[Any]) -> None:
    """Deletes the rows of this machine's processes that are no more; a killed one could not do so itself."""
    rows = await (await conn.execute("SELECT name FROM relay_worker")).fetchall()
    if dead := [name for (name,) in rows if _is_dead(name)]:
        await conn.execute("DELETE FROM relay_worker WHERE name = ANY(%s)", [dead])


def _is_dead(name: str) -> bool:
    _kind, _at, place = name.partition("@")
    host, _colon, pid = place.rpartition(":")
    if host != socket.gethostname()[:40] or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False  # it lives, under another account
    return False
