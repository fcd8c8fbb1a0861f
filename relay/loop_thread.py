"""A delivery loop in a thread of a worker process: made after the fork, one for each process.

Source  config/celery.py starts and stops it.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import uvloop
from django.conf import settings

from relay.logs import get_logger
from relay.loop import DeliveryLoop, Pace

log = get_logger(__name__)


def run_by_uvloop(work: Coroutine[Any, Any, None]) -> None:
    """Whose sockets and TLS cost half of asyncio's own; by asyncio where GATEPOST_UVLOOP=0."""
    factory = uvloop.new_event_loop if settings.GATEPOST_UVLOOP else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


class LoopThread:
    """A delivery loop in a thread: made after the fork, one for each process."""

    def __init__(self, *, pace: Pace | None = None) -> None:
        self._pace = pace
        self._delivery: DeliveryLoop | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the loop has ended, or its time for that is over."""
        self._ended.set()
        if self._delivery:
            self._delivery.stop()
        self._thread.join((self._pace or Pace()).finish + 5)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._delivery = DeliveryLoop(pace=self._pace)
                run_by_uvloop(self._delivery.run())
            except Exception:
                log.exception("delivery.ended")
                self._ended.wait(1)
