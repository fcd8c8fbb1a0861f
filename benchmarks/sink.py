"""Postfix's smtp-sink: a next hop that takes everything and keeps nothing, and says when it came.

Shapes  `with Sink(state) as sink`: sink.port speaks SMTP in clear, with pipelining. sink.wait(total) -> Arrivals.
Units   seconds; the sink's counter is read every TICK_SECONDS, which is how exact first and last arrival are.
Errors  debian.Unavailable where Postfix's package cannot be had; Stalled where mail stops coming.
Source  smtp-sink(1): -c writes its counters after each message.
"""

import os
import re
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from benchmarks.cores import processor_seconds
from benchmarks.debian import argv_in, tree
from benchmarks.gatepost import free_port
from benchmarks.postfix import PACKAGES
from embedded.program import wait_for

TICK_SECONDS = 0.02
STALLED_SECONDS = 60.0
LINES_OCTETS = 256  # a few counters: the last one is whole
COUNTER = re.compile(rb"mesg=(\d+)\s*\r")


class Stalled(Exception):
    """No mail has come for a minute, though more was expected."""


@dataclass(frozen=True)
class Arrivals:
    """seconds: from the first reading that saw any to the last message; at_first: how many that reading saw."""

    messages: int
    at_first: int
    seconds: float

    @property
    def messages_per_second(self) -> float:
        return round((self.messages - self.at_first) / self.seconds, 1) if self.seconds else 0.0


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


class Sink:
    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        # A pipe that nobody empties just then would stop the sink.
        self._counters = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._before = 0

    def __enter__(self) -> Self:
        command = ("/usr/sbin/smtp-sink", "-u", "nobody", "-c", f"127.0.0.1:{self.port}", "1000")
        self._process = subprocess.Popen(argv_in(tree("postfix", PACKAGES), *command), stdout=self._counters)
        wait_for(lambda: listens(self.port), seconds=5)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._counters.close()

    def processor_seconds(self) -> float:
        assert self._process is not None
        return processor_seconds([self._process.pid])

    def wait(self, total: int) -> Arrivals:
        """From now on, until so many more have come."""
        before = self._before = self._read()
        seen = at_first = 0
        first = last = time.perf_counter()
        while seen < total:
            time.sleep(TICK_SECONDS)
            came, now = self._read() - before, time.perf_counter()
            if came > seen:
                first, at_first = (first, at_first) if seen else (now, came)
                seen, last = came, now
            elif now - last > STALLED_SECONDS:
                raise Stalled(f"{seen} of {total} messages came, then none for a minute")
        return Arrivals(seen, at_first, last - first)

    def came(self) -> int:
        """How many messages have come since the last wait() began."""
        return self._read() - self._before

    def _read(self) -> int:
        """How many messages have come by now."""
        descriptor = self._counters.fileno()
        end = os.fstat(descriptor).st_size
        found = COUNTER.findall(os.pread(descriptor, LINES_OCTETS, max(0, end - LINES_OCTETS)))
        return int(found[-1]) if found else 0
