"""The process behind the bounce port: it takes reports for our return paths, reads them, and writes them down.

Shapes  serve() blocks until SIGTERM. BounceServer(socket).run() until stop(): one listener, sessions, one pool.
Units   MESSAGE_OCTETS: what is taken; of it relay.bounces.read looks at the first 256 KiB. CONNECTIONS in all and from
        one address, MEMORY_OCTETS in flight, READING mails at a time.
Errors  PortBusy, which names the port and its variable. None of a session end the process.
Source  docs/delivery.md, Return paths.
"""

import asyncio
import signal
import socket
import ssl
from typing import TYPE_CHECKING, cast

import psycopg
from django.conf import settings
from psycopg_pool import PoolTimeout

from relay.bounces import late
from relay.bounces.read import read
from relay.bounces.verp import Token
from relay.certificate import ensure_certificate, tls_context
from relay.connections import make_pool
from relay.logs import get_logger
from relay.smtp import replies
from relay.smtp.bounce_session import BounceSession
from relay.smtp.budget import Budget
from relay.smtp.listener import Caps, Listener
from relay.smtp.master import PortBusy, run

if TYPE_CHECKING:
    from relay.smtp.door_failures import Cause, DoorFailures
    from relay.smtp.protocol import Connection

MESSAGE_OCTETS = 10 * 1024 * 1024
MEMORY_OCTETS = 64 * 1024 * 1024
CONNECTIONS, CONNECTIONS_PER_IP = 200, 20
READING = 4
SWEEP_SECONDS = 1.0
STOP_SECONDS = 10.0

log = get_logger(__name__)


class _NotCounted:
    """Handshakes that fail here are nobody's sign-in: the log has them."""

    def failed(self, ip: str, cause: "Cause", *, port: int, detail: str = "") -> str:
        return ""


class BounceServer:
    def __init__(self, listening: socket.socket) -> None:
        self.loop = asyncio.get_running_loop()
        self.hostname = settings.GATEPOST_HOSTNAME
        self.message_octets_max = MESSAGE_OCTETS
        self.budget = Budget(MEMORY_OCTETS)
        self.caps = Caps(CONNECTIONS, CONNECTIONS_PER_IP)
        self.failures = _NotCounted()
        self.tls_context = self._tls()
        self._listening = listening
        self._sessions: set[Connection] = set()
        self._stopping = asyncio.Event()
        self._reading = asyncio.Semaphore(READING)
        self._pool = make_pool(name="bounces", most=READING)

    def _tls(self) -> ssl.SSLContext:
        files = ensure_certificate(settings.GATEPOST_STATE_DIR, self.hostname)
        return tls_context(files.certificate, files.key)

    async def run(self) -> None:
        await self._pool.open()
        port = int(self._listening.getsockname()[1])
        listener = Listener(
            self._listening,
            # The listener knows sessions by what both kinds have.
            session=lambda ip: BounceSession(self, ip=ip, port=port),  # type: ignore[arg-type,return-value]
            tls=None,
            proxies=settings.GATEPOST_PROXY_PEERS,
            beginning=Caps(CONNECTIONS, CONNECTIONS_PER_IP),
            failures=cast("DoorFailures", self.failures),
            is_spent=lambda _ip: False,
        )
        listener.start()
        sweeper = asyncio.create_task(self._sweep(), name="sweeper")
        log.info("bounces.ready", port=port)
        await self._stopping.wait()
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
            log.error("bounces.certificate_kept", error=str(error))
        else:
            log.info("bounces.certificate_reloaded", certificate=str(files.certificate))

    async def _finish(self) -> None:
        """421 to the idle; to the others after the mail they are in."""
        until = self.loop.time() + STOP_SECONDS
        while self._sessions and self.loop.time() < until:
            for session in list(self._sessions):
                if session.waiting_for_command:
                    session.close_with(replies.SHUTTING_DOWN)
            await asyncio.sleep(0.05)
        await self._pool.close(timeout=1)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.loop.time()
            for session in [each for each in self._sessions if each.deadline < now]:
                session.close_with(replies.IDLE)

    # --- What connections ask ------------------------------------------------------------------------------------

    def add(self, session: "Connection") -> bool:
        self._sessions.add(session)
        return self.caps.enter(session.ip)

    def remove(self, session: "Connection") -> None:
        if session in self._sessions:
            self._sessions.discard(session)
            self.caps.leave(session.ip)

    async def take(self, content: bytes, tokens: list[Token], *, is_null_sender: bool, client_ip: str) -> bool:
        """False: it could not be written down, and the peer keeps it."""
        async with self._reading:
            reports = await asyncio.to_thread(read, content, is_null_sender=is_null_sender)
            try:
                for token in tokens:
                    async with self._pool.connection() as connection:
                        done = await late.record(connection, token, reports, client_ip=client_ip)
                    log.info("bounce.taken", ip=client_ip, about=token.reference, result=done)
            except (psycopg.Error, PoolTimeout, OSError) as error:
                log.warning("bounce.not_stored", ip=client_ip, error=type(error).__name__)
                return False
        return True


def serve() -> None:
    """On the port of the settings, until SIGTERM or SIGINT. Raises PortBusy."""
    run(_serve(bind()))


def bind() -> socket.socket:
    host, port = settings.GATEPOST_BIND, settings.GATEPOST_BOUNCE_PORT
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        message = f"{host}:{port} cannot be used ({error.strerror}). Set GATEPOST_BOUNCE_PORT to another port."
        raise PortBusy(message) from error
    listening.setblocking(False)
    return listening


async def _serve(listening: socket.socket) -> None:
    server = BounceServer(listening)
    for name in (signal.SIGTERM, signal.SIGINT):
        server.loop.add_signal_handler(name, server.stop)
    server.loop.add_signal_handler(signal.SIGHUP, server.reload)
    await server.run()
