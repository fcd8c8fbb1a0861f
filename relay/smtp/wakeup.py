"""Word to the delivery workers that there is new mail: one message a transaction, and never a wait for anybody.

Units   seconds. With Valkey away nothing is sent for BREAK_SECONDS, and the workers look by themselves once a second.
"""

import asyncio
import time

import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError

from relay.cancellation import cancel
from relay.logs import get_logger

log = get_logger(__name__)

CHANNEL = "gatepost:queued"
TIMEOUT_SECONDS = 0.2
BREAK_SECONDS = 5.0


class WakeUp:
    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._open_again = 0.0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="wake-up")

    def send(self) -> None:
        """After a commit. Several before the next publish are one."""
        self._wanted.set()

    async def stop(self) -> None:
        if self._task:
            await cancel([self._task])

    async def _run(self) -> None:
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        )
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if time.monotonic() >= self._open_again:
                    await self._publish(client)
        finally:
            await client.aclose()

    async def _publish(self, client: "redis.asyncio.Redis") -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await client.publish(CHANNEL, b"1")
        except (RedisError, OSError, TimeoutError) as error:
            self._open_again = time.monotonic() + BREAK_SECONDS
            log.warning("wakeup.paused", seconds=BREAK_SECONDS, error=str(error))
