"""One smtpd process: listeners, the sessions, and what they share.

Shapes  Server(sockets).run() serves until stop(); every process has its own writer, recorder, caches and pool.
Units   seconds on the event loop's clock.
Errors  None of a session end the process.
Source  docs/flow.md; RFC 5321 3.8 (421 before closing).
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from psycopg_pool import AsyncConnectionPool

from audit.record import new_reference
from relay.certificate import ensure_certificate, tls_context
from relay.database import conninfo
from relay.directory import Directory
from relay.logs import get_logger
from relay.smtp import replies
from relay.smtp.glance import Glance
from relay.smtp.heartbeat import Heartbeat
from relay.smtp.recorder import Recorder
from relay.smtp.replies import Reply
from relay.smtp.revocation import Change, Changes
from relay.smtp.session import SmtpSession
from relay.smtp.state import SessionState
from relay.smtp.wakeup import WakeUp
from relay.smtp.writer import Writer

if TYPE_CHECKING:
    from relay.smtp.protocol import Connection

log = get_logger(__name__)

SWEEP_SECONDS = 5.0
STOP_SECONDS = 25.0  # for transactions in flight, of the 30 s that a stop may take


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket, and whether TLS begins at once."""

    socket: socket.socket
    implicit_tls: bool

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])


class Server:
    def __init__(self, doors: Sequence[Door]) -> None:
        self.loop = asyncio.get_running_loop()
        self.name = f"smtpd@{socket.gethostname()[:40]}:{os.getpid()}"
        self.hostname = settings.GATEPOST_HOSTNAME
        self.message_octets_max = settings.GATEPOST_MESSAGE_SIZE
        self.recipients_max = settings.GATEPOST_RECIPIENTS_PER_MESSAGE
        self.auth_delay_seconds = settings.GATEPOST_AUTH_DELAY_MS / 1000
        self.long_lines = settings.GATEPOST_LONG_LINES
        self.tls_context = self._tls()
        self.accepted = 0
        self.refused: Counter[str] = Counter()
        self._doors = doors
        self._connections: set[SmtpSession] = set()
        self._by_organization: defaultdict[int, set[SessionState]] = defaultdict(set)
        self._stopping = asyncio.Event()
        self.pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            conninfo(application_name="gatepost smtpd"),
            min_size=1,
            max_size=4,
            open=False,
            kwargs={"autocommit": True},
            check=AsyncConnectionPool.check_connection,
        )
        self.directory = Directory(self.pool)
        self.glance = Glance(self.pool)
        self.wake_up = WakeUp()
        self.writer = Writer(on_commit=self.wake_up.send)
        self.recorder = Recorder()
        self.changes = Changes(self.pool, apply=self._apply, lost=self.directory.forget)
        self.heartbeat = Heartbeat(self)

    def _tls(self) -> ssl.SSLContext:
        files = ensure_certificate(settings.GATEPOST_STATE_DIR, self.hostname)
        return tls_context(files.certificate, files.key)

    async def run(self) -> None:
        """Serves until stop()."""
        await self.pool.open(wait=False)
        for part in (self.writer, self.recorder, self.wake_up, self.changes, self.heartbeat):
            part.start()
        servers = [await self._listen(door) for door in self._doors]
        sweeper = asyncio.create_task(self._sweep(), name="sweeper")
        log.info("smtpd.ready", worker=self.name, ports=[door.port for door in self._doors])
        await self._stopping.wait()
        for server in servers:
            server.close()
        sweeper.cancel()
        await self._finish()

    def stop(self) -> None:
        self._stopping.set()

    async def _listen(self, door: Door) -> asyncio.Server:
        tls: dict[str, Any] = {}
        if door.implicit_tls:
            tls = {"ssl": self.tls_context, "ssl_handshake_timeout": 30, "ssl_shutdown_timeout": 5}
        return await self.loop.create_server(
            lambda: SmtpSession(self, implicit_tls=door.implicit_tls, port=door.port),
            sock=door.socket,
            backlog=1024,
            **tls,
        )

    async def _finish(self) -> None:
        """421 to the idle at once, to the others after the message they are in; then the buffers, then the end."""
        log.info("smtpd.stopping", worker=self.name, sessions=len(self._connections))
        until = self.loop.time() + STOP_SECONDS
        while self._connections and self.loop.time() < until:
            for session in list(self._connections):
                if session.waiting_for_command and session.transaction is None:
                    session.close_with(replies.SHUTTING_DOWN, new_reference())
            await asyncio.sleep(0.05)
        for session in list(self._connections):
            session.close_with(replies.SHUTTING_DOWN, new_reference())
        await self.writer.stop()
        await asyncio.sleep(0)  # lets the last answers leave
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.recorder.stop(), 3)
        for part in (self.wake_up, self.changes, self.heartbeat):
            await part.stop()
        await self.pool.close(timeout=1)

    async def _sweep(self) -> None:
        """Closes what waits too long; one timer for all sessions, instead of one each."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.loop.time()
            for session in [each for each in self._connections if each.deadline < now]:
                session.close_with(replies.IDLE, new_reference())

    # --- What sessions ask ---------------------------------------------------------------------------------------

    def add(self, session: "Connection") -> None:
        assert isinstance(session, SmtpSession)
        self._connections.add(session)

    def remove(self, session: "Connection") -> None:
        assert isinstance(session, SmtpSession)
        self._connections.discard(session)
        if session.identity is not None:
            kept = self._by_organization[session.identity.organization_id]
            kept.discard(session)
            if not kept:
                del self._by_organization[session.identity.organization_id]

    def index(self, session: SessionState) -> None:
        """So that a revocation finds it."""
        assert session.identity is not None
        self._by_organization[session.identity.organization_id].add(session)

    def count_refusal(self, reply: Reply) -> None:
        self.refused[f"{reply.code} {reply.enhanced}"] += 1

    @property
    def connections(self) -> int:
        return len(self._connections)

    def _apply(self, changes: list[Change]) -> None:
        for change in changes:
            self.directory.forget(change.organization_id)
            if change.ends_sessions:
                for session in list(self._by_organization.get(change.organization_id, ())):
                    if _concerns(change, session) and isinstance(session, SmtpSession):
                        session.end()


def _concerns(change: Change, session: SessionState) -> bool:
    identity = session.identity
    return identity is not None and (
        change.smtp_user_id in (None, identity.smtp_user_id)
        and change.app_password_id in (None, identity.app_password_id)
    )
