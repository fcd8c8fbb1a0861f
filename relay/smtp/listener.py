"""Accepting connections: PROXY headers from configured peers, caps, then the session.

Shapes  Listener.start() takes connections of one listening socket until stop().
Units   connections; caps are for the machine and divided among its processes.
Errors  None: a connection that fails here is closed, and the listener goes on.
Source  docs/smtp.md; RFC 5321 3.1 (421 at the greeting).

asyncio's own server hands a socket to TLS at once; a PROXY header stands before that.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from relay.logs import get_logger
from relay.networks import Range, parse_address
from relay.smtp.door_failures import Cause, DoorFailures, cause_of
from relay.smtp.protocol import HANDSHAKE_SECONDS
from relay.smtp.proxy import NoHeader, read_header

if TYPE_CHECKING:
    from relay.smtp.session import SmtpSession

log = get_logger(__name__)

ACCEPTS_AT_ONCE = 2  # in one turn of the loop: a handshake is the dearest thing there is, and those inside come first
PAUSE_SECONDS = 0.5  # when the process has no file descriptor left


class Caps:
    """How many connections there may be, in all and from one address."""

    def __init__(self, most: int, most_per_ip: int) -> None:
        self.most, self.most_per_ip = most, most_per_ip
        self.total = 0
        self._by_ip: Counter[str] = Counter()

    def enter(self, ip: str) -> bool:
        """Counts a connection; False if it is one too many (it is counted all the same, until it leaves)."""
        self.total += 1
        self._by_ip[_neighbourhood(ip)] += 1
        return self.total <= self.most and self._by_ip[_neighbourhood(ip)] <= self.most_per_ip

    def leave(self, ip: str) -> None:
        self.total -= 1
        place = _neighbourhood(ip)
        self._by_ip[place] -= 1
        if not self._by_ip[place]:
            del self._by_ip[place]


def _neighbourhood(ip: str) -> str:
    """Whoever has one IPv6 address has its whole /64, so that counts as one."""
    return str(int(IPv6Address(ip)) >> 64) if ":" in ip else ip


class Listener:
    def __init__(
        self,
        listening: socket.socket,
        *,
        session: Callable[[str], "SmtpSession"],
        tls: ssl.SSLContext | None,
        proxies: tuple[Range, ...],
        beginning: Caps,
        failures: DoorFailures,
        is_spent: Callable[[str], bool],
    ) -> None:
        """beginning: how many may be in their TLS handshake at once; sessions count themselves, but only after it.

        is_spent: whether an address is banned and was told so often enough; not even a handshake is wasted on it then.
        """
        self._socket, self._session, self._tls, self._proxies = listening, session, tls, proxies
        self._beginning, self._is_spent = beginning, is_spent
        self._failures, self._port = failures, int(listening.getsockname()[1])
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._socket.listen(1024)
        self._loop.add_reader(self._socket, self._accept)

    def stop(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        for _number in range(ACCEPTS_AT_ONCE):
            try:
                peer, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("smtpd.cannot_accept", error=str(error))
                self._loop.remove_reader(self._socket)
                self._loop.call_later(PAUSE_SECONDS, self._resume)
                return
            task = self._loop.create_task(self._welcome(peer, address[0]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._accept)

    async def _welcome(self, peer: socket.socket, address: str) -> None:
        """From the raw socket to the session, which then runs by itself."""
        try:
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ip = parse_address(address)
            if any(ip in each for each in self._proxies):
                said = await read_header(self._loop, peer)
                ip = parse_address(said) if said else ip
                address = str(ip)
            if self._is_spent(str(ip)):
                peer.close()
                return
            await self._hand_over(peer, str(ip_address(ip)))
        except NoHeader as error:
            log.warning("smtpd.no_proxy_header", ip=address, error=str(error))
            self._failures.failed(address, Cause.NO_PROXY_HEADER, port=self._port, detail=str(error))
            peer.close()
        except (OSError, ssl.SSLError, ConnectionError, TimeoutError) as error:
            log.info("smtpd.handshake_failed", ip=address, error=str(error))
            if self._tls is not None:
                self._failures.failed(address, cause_of(error, implicit_tls=True), port=self._port, detail=str(error))
            with contextlib.suppress(OSError):
                peer.close()

    async def _hand_over(self, peer: socket.socket, ip: str) -> None:
        if self._tls is None:
            await self._loop.connect_accepted_socket(lambda: self._session(ip), peer)
            return
        try:
            if not self._beginning.enter(ip):
                raise ConnectionRefusedError("too many handshakes at once")
            await self._loop.connect_accepted_socket(
                lambda: self._session(ip),
                peer,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=5,
            )
        finally:
            self._beginning.leave(ip)
