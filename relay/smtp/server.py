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
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from psycopg_pool import AsyncConnectionPool

from audit.record import new_reference
from relay.certificate import ensure_certificate, tls_context
from relay.changes import TOKEN_SESSIONS
from relay.database import conninfo
from relay.directory import Directory
from relay.disk import look
from relay.guessing.guard import Guard
from relay.logs import get_logger
from relay.smtp import replies
from relay.smtp.budget import Budget
from relay.smtp.door_failures import DoorFailures
from relay.smtp.glance import Glance
from relay.smtp.heartbeat import Heartbeat
from relay.smtp.listener import Caps, Listener
from relay.smtp.metrics import Exposition, Figures
from relay.smtp.recorder import Recorder
from relay.smtp.revocation import Change, Changes
from relay.smtp.session import SmtpSession
from relay.smtp.state import SessionState
from relay.smtp.suppressed import Suppressed
from relay.smtp.turnstile import Turnstile
from relay.smtp.wakeup import WakeUp
from relay.smtp.writer import Writer

if TYPE_CHECKING:
    from relay.smtp.protocol import Connection

log = get_logger(__name__)

SWEEP_SECONDS = 1.0
FULL_DISK_SECONDS = 2.0
STOP_SECONDS = 22.0  # for transactions in flight, of the 30 s that a stop may take
WRITER_SECONDS = 2.0  # beyond them, for a commit whose client has heard 421 by now


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket, and whether TLS begins at once."""

    socket: socket.socket
    implicit_tls: bool

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])


class Server:
    def __init__(self, doors: Sequence[Door], *, share: int = 1, number: int = 0) -> None:
        """share: among how many processes the machine's caps are divided; number: which of them this is."""
        self.loop = asyncio.get_running_loop()
        self.name = f"smtpd@{socket.gethostname()[:40]}:{os.getpid()}"
        self.hostname = settings.GATEPOST_HOSTNAME
        self.message_octets_max = settings.GATEPOST_MESSAGE_SIZE
        self.recipients_max = settings.GATEPOST_RECIPIENTS_PER_MESSAGE
        self.auth_delay_seconds = settings.GATEPOST_AUTH_DELAY_MS / 1000
        self.long_lines = settings.GATEPOST_LONG_LINES
        self.tls_context = self._tls()
        self.budget = Budget(settings.GATEPOST_MESSAGE_MEMORY // share)
        self.caps = Caps(-(-settings.GATEPOST_CONNECTIONS // share), -(-settings.GATEPOST_CONNECTIONS_PER_IP // share))
        self.beginning = Caps(self.caps.most, self.caps.most_per_ip)
        self.disk_is_low = False
        self._full_until = 0.0  # PostgreSQL, elsewhere, said that its disk is full
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
            reconnect_timeout=2,  # after it a new request starts a new attempt: no back-off of minutes
        )
        self.directory = Directory(self.pool)
        self.glance = Glance(self.pool)
        self.suppressed = Suppressed(self.pool)
        self.turnstile = Turnstile(self.loop)
        self.wake_up = WakeUp()
        self.figures = Figures(self)
        self.writer = Writer(on_commit=self.wake_up.send, on_batch=self.figures.batch_messages.observe)
        self.recorder = Recorder(share=share)
        self.guard = Guard(self.pool, worker=self.name)
        self.failures = DoorFailures(self.pool, worker=self.name, share=share)
        self.changes = Changes(self.pool, apply=self._apply, lost=self.directory.forget)
        self.heartbeat = Heartbeat(self)
        metrics_port = settings.GATEPOST_METRICS_PORT
        self.exposition = Exposition(self.figures, metrics_port + number if metrics_port else 0)

    def _tls(self) -> ssl.SSLContext:
        files = ensure_certificate(settings.GATEPOST_STATE_DIR, self.hostname)
        context = tls_context(files.certificate, files.key)
        context.num_tickets = 0  # mail clients do not resume, and two tickets cost a tenth of a handshake
        return context

    async def run(self) -> None:
        """Serves until stop()."""
        await self.pool.open(wait=False)
        for part in (self.writer, self.recorder, self.guard, self.failures, self.wake_up, self.heartbeat):
            part.start()
        await self.changes.start()
        await self.exposition.start()
        listeners = [self._listen(door) for door in self._doors]
        sweeper = asyncio.create_task(self._sweep(), name="sweeper")
        log.info("smtpd.ready", worker=self.name, ports=[door.port for door in self._doors])
        await self._stopping.wait()
        for listener in listeners:
            listener.stop()
        sweeper.cancel()
        await self._finish()

    def stop(self) -> None:
        self._stopping.set()

    def reload(self) -> None:
        """SIGHUP: the certificate is read again; handshakes from now on show the new one."""
        try:
            files = ensure_certificate(settings.GATEPOST_STATE_DIR, self.hostname)
            self.tls_context.load_cert_chain(files.certificate, files.key)
        except (OSError, ValueError, ssl.SSLError) as error:
            log.error("smtpd.certificate_kept", error=str(error))
        else:
            log.info("smtpd.certificate_reloaded", certificate=str(files.certificate))

    def _listen(self, door: Door) -> Listener:
        port = door.port
        listener = Listener(
            door.socket,
            session=lambda ip: SmtpSession(self, ip=ip, implicit_tls=door.implicit_tls, port=port),
            tls=self.tls_context if door.implicit_tls else None,
            proxies=settings.GATEPOST_PROXY_PEERS,
            beginning=self.beginning,
            failures=self.failures,
            is_spent=self.guard.is_spent,
        )
        listener.start()
        return listener

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
        with contextlib.suppress(TimeoutError):  # a database that hangs must not keep the process
            async with asyncio.timeout(WRITER_SECONDS):
                await self.writer.stop()
        await asyncio.sleep(0)  # lets the last answers leave
        with contextlib.suppress(Exception):
            async with asyncio.timeout(3):
                await self.recorder.stop()
        for part in (self.guard, self.failures, self.wake_up, self.changes, self.heartbeat, self.exposition):
            await part.stop()
        await self.pool.close(timeout=1)

    async def _sweep(self) -> None:
        """Looks at the disk, and closes what waits too long: one timer for all sessions, instead of one each."""
        while True:
            disk = look()
            self.disk_is_low = (disk is not None and disk.is_low) or self.loop.time() < self._full_until
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.loop.time()
            for session in [each for each in self._connections if each.deadline < now]:
                session.close_with(replies.IDLE, new_reference())
            for session in [each for each in self._connections if each.ends_at < now]:
                session.end(replies.TOKEN_ENDED)

    def note_full_disk(self) -> None:
        """A database on another machine has no disk left (53100): MAIL is refused for a while, then tried again."""
        self._full_until = self.loop.time() + FULL_DISK_SECONDS
        self.disk_is_low = True

    # --- What sessions ask ---------------------------------------------------------------------------------------

    def add(self, session: "Connection") -> bool:
        """Counts it; False if it is one too many."""
        assert isinstance(session, SmtpSession)
        self._connections.add(session)
        return self.caps.enter(session.ip)

    def remove(self, session: "Connection") -> None:
        assert isinstance(session, SmtpSession)
        if session not in self._connections:
            return
        self._connections.discard(session)
        self.caps.leave(session.ip)
        if session.identity is not None:
            kept = self._by_organization[session.identity.organization_id]
            kept.discard(session)
            if not kept:
                del self._by_organization[session.identity.organization_id]

    def index(self, session: SessionState) -> None:
        """So that a revocation finds it."""
        assert session.identity is not None
        self._by_organization[session.identity.organization_id].add(session)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def _apply(self, changes: list[Change]) -> None:
        for change in changes:
            self.directory.forget(change.organization_id)
            for session in list(self._by_organization.get(change.organization_id, ())):
                session.stale = True
                if change.ends_sessions and _concerns(change, session) and isinstance(session, SmtpSession):
                    session.end()


def _concerns(change: Change, session: SessionState) -> bool:
    identity = session.identity
    return identity is not None and (
        change.smtp_user_id in (None, identity.smtp_user_id)
        and change.app_password_id in (None, identity.app_password_id or TOKEN_SESSIONS)
    )
