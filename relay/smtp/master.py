"""Several smtpd processes on the same ports: forked before anything is opened, restarted when one dies.

Shapes  serve(processes) blocks until SIGTERM or SIGINT. On Linux each process has sockets of its own (SO_REUSEPORT,
        the kernel balances); elsewhere all accept on inherited ones.
Errors  PortBusy, which names the port and its variable.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from types import FrameType

import uvloop
from django.conf import settings
from django.db import connections

from relay.certificate import ensure_certificate
from relay.logs import get_logger
from relay.smtp.server import Door, Server

log = get_logger(__name__)

RESTART_SECONDS = 1.0
STOP_SECONDS = 32.0
LEFT_BEHIND_SECONDS = 2.0
LEAVE_SECONDS = 29.0  # after SIGTERM, whatever hangs: no client has an answer open by then
BALANCED = sys.platform == "linux"


class PortBusy(Exception):
    """Something else listens there."""


def process_count(text: str) -> int:
    """ "auto" is one for each core that this process may use."""
    if text != "auto":
        return max(1, int(text))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_doors() -> list[Door]:
    """The two ports of the settings, bound. Raises PortBusy."""
    return [Door(_bind(name, port, shared=BALANCED), implicit) for name, port, implicit in _wanted()]


def _wanted() -> tuple[tuple[str, int, bool], ...]:
    return (
        ("GATEPOST_SMTP_PORT", settings.GATEPOST_SMTP_PORT, False),
        ("GATEPOST_SMTPS_PORT", settings.GATEPOST_SMTPS_PORT, True),
    )


def demand_free_ports() -> None:
    """Raises PortBusy. SO_REUSEPORT would let a second smtpd of the same account in, to take every other connection.

    What a killed master left behind has noticed within a second, and lets go.
    """
    until = time.monotonic() + LEFT_BEHIND_SECONDS
    for name, port, _implicit in _wanted():
        while True:
            try:
                _bind(name, port, shared=False).close()
                break
            except PortBusy:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)


def _bind(name: str, port: int, *, shared: bool) -> socket.socket:
    host = settings.GATEPOST_BIND
    family, kind, protocol, _canonical, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise PortBusy(f"{host}:{port} cannot be used ({error.strerror}). Set {name} to another port.") from error
    listener.setblocking(False)
    return listener


def serve(processes: int) -> None:
    ensure_certificate(settings.GATEPOST_STATE_DIR, settings.GATEPOST_HOSTNAME)
    demand_free_ports()
    doors = open_doors()
    if processes == 1:
        run(_serve_one(doors))
        return
    Master(processes, doors).run()


def run(serving: Coroutine[None, None, None]) -> None:
    """By uvloop, whose TLS and sockets cost half of asyncio's own; by asyncio where GATEPOST_UVLOOP=0."""
    factory = uvloop.new_event_loop if settings.GATEPOST_UVLOOP else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serving)


async def _serve_one(doors: Sequence[Door], *, parent: int | None = None, share: int = 1, number: int = 0) -> None:
    server = Server(doors, share=share, number=number)
    gc.freeze()  # what is there now stays: the collector need not look at it again
    gc.set_threshold(50_000, 20, 100)
    for name in (signal.SIGTERM, signal.SIGINT):
        server.loop.add_signal_handler(name, _leave, server)
    server.loop.add_signal_handler(signal.SIGHUP, server.reload)
    watch = asyncio.create_task(_end_with(parent, server)) if parent else None
    await server.run()
    if watch:
        watch.cancel()


def _leave(server: Server) -> None:
    """A PostgreSQL that is frozen does not even answer a cancellation: asyncio would wait for it without end."""
    server.loop.call_later(LEAVE_SECONDS, os._exit, 0)
    server.stop()


async def _end_with(parent: int, server: Server) -> None:
    """A master that was killed leaves nobody behind who would hold its ports."""
    while os.getppid() == parent:  # noqa: ASYNC110  # the kernel has no event for it
        await asyncio.sleep(1)
    server.stop()


@dataclass(frozen=True, slots=True)
class Child:
    number: int
    born: float


class Master:
    """Keeps the number of processes. It opens no connection and runs no loop, so that a fork copies nothing alive."""

    def __init__(self, processes: int, doors: Sequence[Door]) -> None:
        self._processes, self._doors = processes, doors
        self._children: dict[int, Child] = {}
        self._stopping = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        connections.close_all()
        while not self._stopping:
            while len(self._children) < self._processes and not self._stopping:
                self._fork()
            self._reap()
        self._end()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self._signal(signal.SIGHUP)

    def _fork(self) -> None:
        number = min(set(range(self._processes)) - {child.number for child in self._children.values()})
        parent = os.getpid()
        if (pid := os.fork()) == 0:
            status = 1
            try:
                for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(name, signal.SIG_DFL)
                doors = open_doors() if BALANCED else self._doors
                run(_serve_one(doors, parent=parent, share=self._processes, number=number))
                status = 0
            finally:
                os._exit(status)
        self._children[pid] = Child(number, time.monotonic())

    def _reap(self) -> None:
        """Waits for a child to die or for a signal; one that died young is restarted a moment later."""
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            time.sleep(0.1)
            return
        child = self._children.pop(pid, None)
        if child and not self._stopping:
            log.warning("smtpd.died", pid=pid, status=os.waitstatus_to_exitcode(status))
            if time.monotonic() - child.born < RESTART_SECONDS:
                time.sleep(RESTART_SECONDS)

    def _end(self) -> None:
        until = time.monotonic() + STOP_SECONDS
        self._signal(signal.SIGTERM)
        while self._children and time.monotonic() < until:
            with contextlib.suppress(ChildProcessError):
                pid, _status = os.waitpid(-1, os.WNOHANG)
                self._children.pop(pid, None)
            time.sleep(0.05)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
