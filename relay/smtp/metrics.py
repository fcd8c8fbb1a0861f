"""What one smtpd process counts, and the address at which Prometheus reads it.

Shapes  Figures: counters and histograms, in a registry of the process. Exposition: GET /metrics on a loopback port.
Units   seconds, octets, messages. Names: docs/operations.md.
Errors  A port that is taken is logged, and the process serves mail without figures.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from relay.logs import get_logger

if TYPE_CHECKING:
    from relay.smtp.server import Server

log = get_logger(__name__)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Figures:
    """One for each smtpd process."""

    def __init__(self, server: "Server") -> None:
        self.registry = kept = CollectorRegistry()
        self.accepted = Counter("gatepost_smtp_accepted", "Messages accepted with 250", registry=kept)
        self.refused = Counter("gatepost_smtp_refused", "Replies that refused", ["code", "enhanced"], registry=kept)
        self.auth = Counter("gatepost_smtp_auth", "AUTH attempts", ["mechanism", "result", "reason"], registry=kept)
        self.auth_seconds = Histogram(
            "gatepost_smtp_auth_seconds", "Judging a credential, delay not counted", buckets=SECONDS, registry=kept
        )
        self.writer_seconds = Histogram(
            "gatepost_smtp_writer_seconds", "From the end of the data to the commit", buckets=SECONDS, registry=kept
        )
        self.batch_messages = Histogram(
            "gatepost_smtp_batch_messages", "Messages a transaction", buckets=BATCH, registry=kept
        )
        self._gauge("gatepost_smtp_connections", "Open connections", lambda: server.connections)
        self._gauge("gatepost_smtp_memory_octets", "Of the budget for content in flight", lambda: server.budget.used)
        self._gauge("gatepost_smtp_audit_waiting", "Audit rows not stored yet", lambda: server.recorder.waiting)
        self._gauge("gatepost_smtp_audit_dropped", "Audit rows lost to a full buffer", lambda: server.recorder.dropped)
        self._gauge("gatepost_smtp_bans", "Bans in force, as this process knows them", lambda: len(server.guard.watch))

    def _gauge(self, name: str, help: str, read: Callable[[], float]) -> None:
        Gauge(name, help, registry=self.registry).set_function(read)


class Exposition:
    """A few lines of HTTP: one request, one answer, closed."""

    def __init__(self, figures: Figures, port: int) -> None:
        self._figures, self._port = figures, port
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        if not self._port:
            return
        try:
            self._server = await asyncio.start_server(self._answer, "127.0.0.1", self._port, limit=8192)
        except OSError as error:
            log.error("smtpd.no_metrics", port=self._port, error=str(error))

    async def stop(self) -> None:
        if self._server:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            if head.startswith(b"GET /metrics "):
                body = generate_latest(self._figures.registry)
                status, kind = b"200 OK", CONTENT_TYPE_LATEST.encode()
            else:
                body, status, kind = b"GET /metrics\n", b"404 Not Found", b"text/plain"
            length = str(len(body)).encode()
            writer.write(
                b"HTTP/1.1 " + status + b"\r\nContent-Type: " + kind + b"\r\nContent-Length: " + length
                + b"\r\nConnection: close\r\n\r\n" + body
            )  # fmt: skip
            await writer.drain()
        writer.close()
