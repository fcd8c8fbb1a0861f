"""The row by which the Floor and doctor see that an smtpd process lives, and its figures."""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from relay.cancellation import cancel
from relay.presence import forget_dead

if TYPE_CHECKING:
    from relay.smtp.server import Server

BEAT_SECONDS = 5.0

BEAT = """
    INSERT INTO relay_worker (name, kind, started_at, seen_at, figures) VALUES (%s, 'smtpd', %s, clock_timestamp(), %s)
    ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, figures = excluded.figures
"""
LEAVE = "DELETE FROM relay_worker WHERE name = %s"


class Heartbeat:
    def __init__(self, server: "Server") -> None:
        self._server = server
        self._started_at = datetime.now(UTC)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="heartbeat")

    async def stop(self) -> None:
        if self._task:
            await cancel([self._task])
        await self._say(LEAVE, [self._server.name])

    async def _run(self) -> None:
        await self._forget_dead()
        while True:
            await self._say(BEAT, [self._server.name, self._started_at, Jsonb(self._figures())])
            await asyncio.sleep(BEAT_SECONDS)

    def _figures(self) -> dict[str, object]:
        server = self._server
        return {
            "connections": server.connections,
            "memory_octets": server.budget.used,
            "messages": server.writer.small.messages + server.writer.large.messages,
            "batches": server.writer.small.batches + server.writer.large.batches,
            "audit_dropped": server.recorder.dropped,
        }

    async def _forget_dead(self) -> None:
        with contextlib.suppress(psycopg.Error, PoolTimeout, OSError):
            async with self._server.pool.connection(timeout=2) as conn:
                await forget_dead(conn)

    async def _say(self, statement: str, parameters: list[object]) -> None:
        try:
            async with self._server.pool.connection(timeout=2) as conn:
                await conn.execute(statement, parameters)
        except (psycopg.Error, PoolTimeout, OSError):
            pass  # a missing beat is what the others are to see
