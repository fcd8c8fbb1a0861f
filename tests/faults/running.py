"""Load that goes on whatever dies, delivery workers that are started again, and what the next hop got.

Shapes  async with Load(...) as load: connections send until the block ends; load.accepted, .refused, .lost.
        with Workers(...) as workers: processes of `manage.py deliver`.
        taken_of(server) -> {subject: [content, ...]} of a scripted next hop.
"""

import asyncio
import contextlib
import os
import re
import ssl
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db import connection

from relay.database import connect
from tests.relay.delivery.scripted_server import ScriptedServer
from tests.smtp import load
from tests.smtp.conftest import Sender

AWAY = (ConnectionError, OSError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError)
SUBJECT = re.compile(rb"^Subject: (.*?)\r\n", re.MULTILINE)


class Load:
    """Connections that send one message after the other, and come back when they are thrown out."""

    def __init__(
        self,
        port: int,
        senders: list[Sender],
        *,
        connections: int,
        name: str = "message",
        may_send: Callable[["Load"], bool] = lambda _load: True,
    ) -> None:
        self.port, self.senders, self.connections = port, senders, connections
        self._may_send = may_send
        self._name, self._numbers = name, count()
        self._tally = load.Tally()
        self.turned_away: list[str] = []  # refused before any message
        self._stopping = False

    @property
    def accepted(self) -> list[str]:
        return self._tally.accepted

    @property
    def refused(self) -> list[str]:
        return self._tally.refused

    @property
    def lost(self) -> list[str]:
        return self._tally.lost

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._one(number)) for number in range(self.connections)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _one(self, number: int) -> None:
        sender = self.senders[number % len(self.senders)]
        while not self._stopping:
            try:
                async with load.Connection(self.port, sender) as one:
                    while not self._stopping:
                        if self._may_send(self):
                            await one.message(f"{self._name} {next(self._numbers)}", 1, self._tally)
                        else:
                            await asyncio.sleep(0.02)
            except load.Refused as refused:
                self.turned_away.append(str(refused))
                await asyncio.sleep(0.05)
            except AWAY:
                await asyncio.sleep(0.05)


def environment(**changes: str) -> dict[str, str]:
    """The test's own database, for a process of its own."""
    named = connection.settings_dict
    query = urlencode({"host": named["HOST"], "user": named["USER"]})
    return {**os.environ, "DATABASE_URL": f"postgresql:///{named['NAME']}?{query}", **changes}


class Workers:
    """Delivery workers with a short lease, towards whatever their organizations name. changes: of their settings."""

    def __init__(self, number: int, *, log: Path, lease_seconds: float = 3.0, **changes: str) -> None:
        self._log, self._lease_seconds = log, lease_seconds
        self._environment = environment(GATEPOST_SMARTHOST_TLS="none", **changes)
        self._running = [self._start() for _ in range(number)]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_error: object) -> None:
        for each in self._running:
            if each.poll() is None:
                each.kill()
            each.wait(10)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "manage.py", "deliver", "--lease-seconds", str(self._lease_seconds)]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, env=self._environment, cwd=settings.BASE_DIR, stdout=log, stderr=log)

    def kill(self, number: int) -> None:
        """kill -9, and another one in its place."""
        self._running[number].kill()
        self._running[number].wait(10)
        self._running[number] = self._start()

    def __len__(self) -> int:
        return len(self._running)


def taken_of(server: ScriptedServer) -> dict[str, list[bytes]]:
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    for taken in server.taken:
        match = SUBJECT.search(taken.content)
        found[match[1].decode() if match else ""].append(taken.content)
    return dict(found)


async def until(condition: Callable[[], Any], *, seconds: float, why: Callable[[], object] = lambda: "") -> float:
    """Waits for what another process does; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not within {seconds:g} s: {why()}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def queued() -> int:
    """Recipients that are not settled, by a connection that no fault has touched."""
    conn = await connect(application_name="fault test")
    try:
        found = await (await conn.execute("SELECT count(*) FROM relay_recipient WHERE state = 'queued'")).fetchone()
        return int(found[0]) if found else 0
    finally:
        await conn.close()


async def drained(*, seconds: float) -> None:
    """Everything in the queue is settled."""
    end = time.monotonic() + seconds
    while left := await queued():
        assert time.monotonic() < end, f"{left} recipients are still queued after {seconds:g} s"
        await asyncio.sleep(0.1)


def events_of(log: Path) -> Iterator[str]:
    """Lines of a log that a healthy process never writes."""
    with contextlib.suppress(FileNotFoundError), log.open(errors="replace") as lines:
        for line in lines:
            if '"level": "error"' in line or '"level": "critical"' in line or "Traceback" in line:
                yield line.strip()
