"""Changes of credentials reach this process: caches forget, sessions that lost their ground end.

Shapes  Rows of CredentialChange newer than the last one read; the channel only says that there are some.
Units   seconds. Told by Valkey at once; asked of PostgreSQL every POLL_SECONDS in any case.
Errors  None are raised: while PostgreSQL is away everything cached is dropped, and the writer's own query decides.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import redis.asyncio
from django.conf import settings
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from redis.exceptions import RedisError

from relay.cancellation import cancel
from relay.changes import CHANNEL
from relay.database import fetch_all
from relay.logs import get_logger

log = get_logger(__name__)

POLL_SECONDS = 2.0
RECONNECT_SECONDS = 1.0
# Transactions commit in another order than their ids were drawn: look a little behind the newest id, too.
OVERLAP_SECONDS = 30

READ = """
    SELECT id, organization_id, smtp_user_id, app_password_id, ends_sessions FROM relay_credentialchange
    WHERE at > clock_timestamp() - make_interval(secs => %s)
"""


@dataclass(frozen=True, slots=True)
class Change:
    organization_id: int
    smtp_user_id: int | None
    app_password_id: int | None
    ends_sessions: bool


class Changes:
    """One for each smtpd process."""

    def __init__(
        self, pool: AsyncConnectionPool[Any], *, apply: Callable[[list[Change]], None], lost: Callable[[], None]
    ) -> None:
        self._pool, self._apply, self._lost = pool, apply, lost
        self._told = asyncio.Event()
        self._seen: set[int] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """To be awaited before the first session: what is there by then is old, what comes later concerns sessions.

        With PostgreSQL away nothing is known to be old, so that the first reading may end a session that could stay.
        """
        with contextlib.suppress(psycopg.Error, PoolTimeout, OSError):
            self._seen = {row[0] for row in await self._read()}
        self._tasks = [
            asyncio.create_task(_forever(self._poll), name="credential changes"),
            asyncio.create_task(_forever(self._listen), name="credential channel"),
        ]

    async def stop(self) -> None:
        await cancel(self._tasks)

    async def _poll(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):  # wait_for can lose a cancellation
                await self._told.wait()
        self._told.clear()
        try:
            rows = await self._read()
        except (psycopg.Error, PoolTimeout, OSError):
            self._lost()
            return
        new = [Change(*row[1:]) for row in rows if row[0] not in self._seen]
        self._seen = {row[0] for row in rows}
        if new:
            self._apply(new)

    async def _read(self) -> list[tuple[Any, ...]]:
        return await fetch_all(self._pool, READ, [OVERLAP_SECONDS], timeout=3)

    async def _listen(self) -> None:
        try:
            client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1)
            async with client, client.pubsub() as channel:
                await channel.subscribe(CHANNEL)
                self._lost()  # whatever was said before we listened
                async for _message in channel.listen():
                    self._told.set()
        except (RedisError, OSError) as error:
            log.warning("revocation.channel_lost", error=str(error))
            self._lost()
            await asyncio.sleep(RECONNECT_SECONDS)


async def _forever(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await step()
        except Exception:
            log.exception("revocation.failed")
            await asyncio.sleep(RECONNECT_SECONDS)
