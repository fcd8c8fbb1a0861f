"""A delivery loop that runs while a test looks on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from relay.loop import DeliveryLoop, Pace
from relay.models import DeliveryAttempt, Recipient
from relay.smtp.client import Timeouts
from tests.relay.conftest import make_message
from tests.relay.delivery.scripted_server import ScriptedServer

ABC = ("a@example.net", "b@example.net", "c@example.net")
QUICK = Pace(claim=0.05, sweep=0.1, heartbeat=0.1, retry=0.05, redis_retry=0.1, finish=5)

amake_message = sync_to_async(make_message)


@asynccontextmanager
async def delivering(pace: Pace = QUICK, *, timeouts: Timeouts | None = None) -> AsyncIterator[DeliveryLoop]:
    """Ends by a graceful stop."""
    delivery = DeliveryLoop(pace=pace, timeouts=timeouts, worker="delivery@test:1")
    task = asyncio.create_task(delivery.run())
    try:
        yield delivery
    finally:
        delivery.stop()
        await asyncio.wait_for(task, 30)


@contextmanager
def smarthost(server: ScriptedServer, **changes: Any) -> Iterator[None]:
    """The installation's smarthost is this server, in clear unless said otherwise."""
    named = {
        "GATEPOST_SMARTHOST": "127.0.0.1",
        "GATEPOST_SMARTHOST_PORT": server.port,
        "GATEPOST_SMARTHOST_TLS": "none",
    }
    assert settings.configured
    with override_settings(**{**named, **changes}):
        yield


async def eventually(holds: Callable[[], Awaitable[bool]], *, seconds: float = 60) -> None:
    """Returns as soon as it holds; fails when it has not within the time."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  # what is waited for is in the database
            await asyncio.sleep(0.02)


async def due_now() -> None:
    await Recipient.objects.filter(state="queued").aupdate(due_at=timezone.now())


async def all_attempted(count: int = 1) -> None:
    """Each recipient has been tried so often, and no attempt is open."""

    async def done() -> bool:
        return not await Recipient.objects.exclude(attempts=count, lease=None).aexists()

    await eventually(done)


async def all_settled() -> None:
    async def done() -> bool:
        return not await Recipient.objects.filter(state__in=("queued", "held")).aexists()

    await eventually(done)


async def recipients() -> dict[str, Recipient]:
    return {row.address: row async for row in Recipient.objects.all()}


async def attempts() -> list[DeliveryAttempt]:
    return [row async for row in DeliveryAttempt.objects.order_by("recipient_id", "number")]
