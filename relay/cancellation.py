"""Ending background tasks for certain.

Libraries that use asyncio.wait_for lose a cancellation now and then on Python 3.11, so one `cancel()` is not enough.
"""

import asyncio
from collections.abc import Sequence

AGAIN_SECONDS = 0.5


async def cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels until all have ended."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _ended, waiting = await asyncio.wait(waiting, timeout=AGAIN_SECONDS)
