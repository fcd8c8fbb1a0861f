"""Runs the delivery loop in the foreground: for tests, and to deliver without Celery.

Source  relay/loop.py.
"""

import asyncio
import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from relay.loop import DeliveryLoop, Pace
from relay.loop_thread import run_by_uvloop
from relay.queue import LEASE_SECONDS


class Command(BaseCommand):
    help = "Delivers queued mail until SIGTERM. Celery workers do the same by themselves."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--lease-seconds", type=float, default=LEASE_SECONDS, help="for tests")
        parser.add_argument("--finish-seconds", type=float, default=Pace().finish, help="for what is in flight")

    def handle(self, *args: Any, **options: Any) -> None:
        run_by_uvloop(self._run(Pace(lease=options["lease_seconds"], finish=options["finish_seconds"])))

    async def _run(self, pace: Pace) -> None:
        delivery = DeliveryLoop(pace=pace)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, delivery.stop)
        await delivery.run()
