"""How much goes to one domain at once, and how fast.

Shapes  async with Pace(pool).permit(domain): one message on its way there.
Units   concurrency: messages at a time; per_minute: messages a minute; 0 is no bound. Both are of the whole
        installation, and each delivery worker takes an equal share.
Errors  While the workers cannot be counted the last count stays.
Source  docs/settings.md, GATEPOST_MX_CONCURRENCY.

Jobs of one domain wait in a lane of their own (relay.lanes): who waits here holds up nobody else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic

import psycopg
from django.conf import settings
from psycopg_pool import PoolTimeout

from relay.connections import Pool

COUNTED_AGAIN = 10.0  # seconds
_WORKERS = "SELECT count(*) FROM relay_worker WHERE kind = 'delivery' AND seen_at > now() - interval '30 seconds'"


class _Way:
    """To one domain. next_at: when the next message may go."""

    def __init__(self) -> None:
        self.users = self.going = 0
        self.next_at = 0.0
        self.freed = asyncio.Event()


class Pace:
    """Of one event loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ways: dict[str, _Way] = {}
        self._workers = 1
        self._counted_until = 0.0
        self._counting = asyncio.Lock()

    @asynccontextmanager
    async def permit(self, domain: str) -> AsyncIterator[None]:
        """Waits until another message may go there."""
        concurrency, per_minute = _bounds(domain)
        if not concurrency and not per_minute:
            yield
            return
        await self._count_workers()
        way = self._ways.setdefault(domain, _Way())
        way.users += 1
        try:
            while way.going >= max(1, concurrency // self._workers) and concurrency:
                way.freed.clear()
                await way.freed.wait()
            way.going += 1
            try:
                await self._wait_for_turn(way, per_minute)
                yield
            finally:
                way.going -= 1
                way.freed.set()
        finally:
            way.users -= 1
            self._forget(domain, way)

    async def _wait_for_turn(self, way: _Way, per_minute: int) -> None:
        if not per_minute:
            return
        now = monotonic()
        turn = max(now, way.next_at)
        way.next_at = turn + 60.0 * self._workers / per_minute
        await asyncio.sleep(turn - now)

    def _forget(self, domain: str, way: _Way) -> None:
        """A way whose next turn has come says nothing; others are looked at when they are used again."""
        if not way.users and way.next_at <= monotonic():
            self._ways.pop(domain, None)
        elif len(self._ways) > 1000:
            now = monotonic()
            self._ways = {name: each for name, each in self._ways.items() if each.users or each.next_at > now}

    async def _count_workers(self) -> None:
        if monotonic() < self._counted_until:
            return
        async with self._counting:
            if monotonic() < self._counted_until:
                return
            with suppress(psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout):
                async with self._pool.connection() as connection:
                    row = await (await connection.execute(_WORKERS)).fetchone()
                self._workers = max(1, row[0]) if row else 1
            self._counted_until = monotonic() + COUNTED_AGAIN


def _bounds(domain: str) -> tuple[int, int]:
    own: tuple[int, int] | None = settings.GATEPOST_MX_DOMAINS.get(domain)
    return own or (settings.GATEPOST_MX_CONCURRENCY, settings.GATEPOST_MX_RATE)
