"""Many SMTP conversations over TLS in one process, as cheap as Python allows: the benchmarks' client.

Shapes  Loop holds an epoll object and the conversations on it; a Conversation asks (octets, expected codes, next step)
        and is called back once every expected reply has come. Subclasses are load.py's sender, guesses.py, idle.py.
Units   seconds of time.perf_counter().
Errors  A wrong reply, a closed connection or a TLS error ends the one conversation: failed(stage, what).
Source  RFC 5321, RFC 2920 (pipelining), RFC 8314 (TLS from the first octet).

No asyncio and no memory BIO between kernel and TLS: the client must not be what is measured. Linux only.
"""

import errno
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
RECORD_OCTETS = 16_384  # a read as large as a TLS record leaves nothing behind in OpenSSL that epoll would not see
UNDER_WAY = (0, errno.EINPROGRESS)
EHLO = b"EHLO client.example\r\n"

clock = time.perf_counter


class Target(NamedTuple):
    host: str
    port: int


def client_tls() -> ssl.SSLContext:
    """TLS as a client speaks it; who the server is, the benchmark knows: it started it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def greets(port: int) -> bool:
    """Whether a server says 220 on this port, after a handshake."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            return client_tls().wrap_socket(plain).recv(512).startswith(b"220")
    except OSError:
        return False


class Loop:
    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.by_descriptor: dict[int, Conversation] = {}
        self.tls = client_tls()

    def turn(self, seconds: float) -> None:
        """Serve whatever is ready; wait for it at most this long."""
        by_descriptor = self.by_descriptor
        for descriptor, _events in self.epoll.poll(seconds):
            if conversation := by_descriptor.get(descriptor):
                conversation.go_on()

    def run(self, *, until: float) -> bool:
        """Until no conversation is left (True), or until that time (False)."""
        while self.by_descriptor:
            self.turn(0.25)
            if clock() > until:
                return False
        return True


class Conversation:
    """One connection. `go_on` is the one thing it waits to do next."""

    __slots__ = (
        "_descriptor",
        "_expected",
        "_rest",
        "_then",
        "_unsent",
        "go_on",
        "loop",
        "opened_at",
        "socket",
        "stage",
    )

    socket: socket.socket
    go_on: Callable[[], None]
    _then: Callable[[], None]

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.stage = "connect"
        self.opened_at = 0.0
        self._rest = b""
        self._unsent = memoryview(b"")
        self._expected: list[bytes] = []

    # --- What subclasses say -------------------------------------------------------------------------------------

    def open(self, target: Target, *, source: str | None = None) -> None:
        self.stage, self._rest = "connect", b""
        self.opened_at = clock()
        connection = self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            connection.bind((source, 0))
        problem = connection.connect_ex(target)
        self._descriptor = connection.fileno()
        self.loop.by_descriptor[self._descriptor] = self
        self.go_on = self._connected
        self.loop.epoll.register(self._descriptor, WRITE)
        if problem not in UNDER_WAY:
            self._fail(errno.errorcode.get(problem, str(problem)))

    def expect(self, stage: str, codes: tuple[bytes, ...], then: Callable[[], None]) -> None:
        """Call `then` once these replies have come, in this order."""
        self.stage, self._expected, self._then = stage, list(reversed(codes)), then

    def ask(self, stage: str, octets: bytes, codes: tuple[bytes, ...], then: Callable[[], None]) -> None:
        self.expect(stage, codes, then)
        self.send(octets)

    def send(self, octets: bytes) -> None:
        try:
            sent = self.socket.send(octets)
        except ssl.SSLWantWriteError:
            sent = 0
        except (OSError, ssl.SSLError) as error:
            self._fail(type(error).__name__)
            return
        if sent == len(octets):
            self.sent()
        else:
            self._unsent = memoryview(octets)[sent:]
            self.go_on = self._send_rest
            self.loop.epoll.modify(self._descriptor, WRITE)

    def close(self) -> None:
        if self.loop.by_descriptor.pop(self._descriptor, None):
            self.socket.close()  # which takes it out of epoll

    # --- What subclasses are told --------------------------------------------------------------------------------

    def secured(self) -> None:
        """The handshake is done; the greeting comes next."""
        raise NotImplementedError

    def sent(self) -> None:
        """The last octet of what was asked went out."""

    def failed(self, stage: str, what: str) -> None:
        raise NotImplementedError

    # --- The socket's side ---------------------------------------------------------------------------------------

    def _connected(self) -> None:
        if problem := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail(errno.errorcode.get(problem, str(problem)))
            return
        self.stage = "tls"
        try:
            self.socket = self.loop.tls.wrap_socket(self.socket, do_handshake_on_connect=False)
        except OSError as error:  # it was closed meanwhile
            self._fail(type(error).__name__)
            return
        self.loop.epoll.modify(self._descriptor, READ)
        self.go_on = self._handshake
        self._handshake()

    def _handshake(self) -> None:
        assert isinstance(self.socket, ssl.SSLSocket)
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            return
        except (OSError, ssl.SSLError) as error:
            self._fail(type(error).__name__)
            return
        self.go_on = self._receive
        self.secured()

    def _send_rest(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except (OSError, ssl.SSLError) as error:
            self._fail(type(error).__name__)
            return
        self.loop.epoll.modify(self._descriptor, READ)
        self.go_on = self._receive
        self.sent()

    def _receive(self) -> None:
        try:
            data = self.socket.recv(RECORD_OCTETS)
        except ssl.SSLWantReadError:
            return
        except (OSError, ssl.SSLError) as error:
            self._fail(type(error).__name__)
            return
        if not data:
            self._fail("closed")
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        expected = self._expected
        for line in lines:
            if line[3:4] == b"-":
                continue
            if not expected or line[:3] != expected.pop():
                self._fail(line[:3].decode("ascii", "replace"))
                return
        if not expected and lines:
            self._then()

    def _fail(self, what: str) -> None:
        self.close()
        self.failed(self.stage, what)
