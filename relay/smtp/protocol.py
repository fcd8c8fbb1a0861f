"""One connection: bytes in, lines and content out, replies back. What the verbs mean stands in the session.

Shapes  read_line() -> a command without its CRLF; read_data() -> content as sent, dots still stuffed; reply(Reply).
Units   octets; seconds on the event loop's clock.
Errors  LineRefused (the session answers and lives on), Gone (the peer left; the session ends quietly).
Source  RFC 5321 4.1.1, 4.5.3.2 (timeouts), RFC 3207 (STARTTLS), RFC 2920 (pipelining: replies leave together).

aiosmtpd's SMTP is the base: its verbs by name, and its session. Four things are done otherwise, for speed and
for exactness: `__init__` does not look every hook up again for each connection; content is searched for its end in one
buffer instead of line by line; replies wait until the client's pipelined commands are used up; STARTTLS is the event
loop's own, so that it may be uvloop.
"""

import asyncio
import ssl
from asyncio import sslproto
from asyncio.streams import FlowControlMixin
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, Session

from relay.logs import get_logger
from relay.smtp import replies
from relay.smtp.door_failures import cause_of
from relay.smtp.replies import Reply

if TYPE_CHECKING:
    from relay.smtp.server import Server

log = get_logger(__name__)

# An idle TLS connection costs 46 KiB with this, and 252 KiB with asyncio's own 256 KiB buffer.
sslproto.SSLProtocol.max_size = 16 * 1024

COMMAND_OCTETS_MAX = 2048  # RFC 5321 4.5.3.1.4 asks for 512, plus what the extensions add
LINE_OCTETS_MAX = 12_288 + 64  # an AUTH line (RFC 4954 4.1)
BUFFER_OCTETS_MAX = 128 * 1024
COMMAND_SECONDS = 300.0  # RFC 5321 4.5.3.2.7
HANDSHAKE_SECONDS = 30.0
DATA_OCTETS_PER_SECOND = 1000  # slower than this, after the first five minutes, is a stalled client
CLOSE_SECONDS = 10.0  # for the last words to be read; a peer that reads nothing would else keep the connection for ever
END_OF_DATA = b"\r\n.\r\n"


class Gone(Exception):
    """The peer closed the connection, or it was closed for it."""


class LineRefused(Exception):
    """A line that is no command: the reply says why, and the next line is read as usual."""

    def __init__(self, reply: Reply, start: bytes = b"") -> None:
        super().__init__(reply.text)
        self.reply, self.start = reply, start


class Connection(SMTP):
    """The transport half of a session."""

    def __init__(self, server: "Server", *, ip: str, implicit_tls: bool, port: int) -> None:
        FlowControlMixin.__init__(self, loop=server.loop)
        self._closed = None  # aiosmtpd's __del__ asks for it
        self.loop = server.loop
        self.server = server
        self.port = port
        self.tls_context = server.tls_context
        self.transport: Any = None
        self.implicit_tls = implicit_tls
        self.ip = ip
        self.buffer = bytearray()
        self.deadline = self.loop.time() + HANDSHAKE_SECONDS
        self.waiting_for_command = False
        self.welcome = True
        self.booked = 0  # octets of the budget
        self._handler_coroutine: asyncio.Task[None] | None = None
        self._more: asyncio.Future[None] | None = None
        self._replies: list[bytes] = []
        self._gone = False
        self._is_lost = False
        self._end: asyncio.TimerHandle | None = None
        self._reading_paused = False
        self.session: Any = None

    # --- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._forget()
        if self.implicit_tls:
            self.session.ssl = transport.get_extra_info("ssl_object")
        self.session.peer = transport.get_extra_info("peername")
        self.welcome = self.server.add(self)
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def _forget(self) -> None:
        self.buffer.clear()
        self.session = Session(self.loop)

    def connection_lost(self, error: Exception | None) -> None:
        FlowControlMixin.connection_lost(self, error)
        self._gone = self._is_lost = True
        if self._end is not None:
            self._end.cancel()
        self._wake()
        self.give_back()
        self.server.remove(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > BUFFER_OCTETS_MAX and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._gone = True
        self._wake()
        return False

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    # --- The session's side --------------------------------------------------------------------------------------

    @property
    def tls(self) -> ssl.SSLObject | None:
        found: ssl.SSLObject | None = self.session.ssl
        return found

    async def more(self) -> None:
        """Waits for octets; what was replied so far leaves first. Raises Gone."""
        if self._gone:
            raise Gone
        await self.flush()
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        self._more = self.loop.create_future()
        try:
            await self._more
        finally:
            self._more = None
        if self._gone and not self.buffer:
            raise Gone

    async def read_line(self) -> bytes:
        """The next line without its CRLF. Raises LineRefused for bare line ends and lines too long, Gone."""
        self.deadline = self.loop.time() + COMMAND_SECONDS
        searched, dropped = 0, False
        while (end := self.buffer.find(b"\n", searched)) < 0:
            if len(self.buffer) > LINE_OCTETS_MAX:
                self.buffer.clear()
                dropped = True
            searched = len(self.buffer)
            if self._gone:
                raise Gone
            await self.more()
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        if dropped or len(line) > LINE_OCTETS_MAX:
            raise LineRefused(replies.TOO_LONG)
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise LineRefused(replies.BAD_LINE, line[:2])
        return line[:-2]

    def book(self, octets: int) -> bool:
        """Takes octets of the budget for content in flight."""
        if not self.server.budget.take(octets):
            return False
        self.booked += octets
        return True

    def give_back(self) -> None:
        self.server.budget.give(self.booked)
        self.booked = 0

    async def read_data(self, most: int) -> bytes | Reply:
        """Content up to CRLF.CRLF alone, dots stuffed; or why there is none: too big, or no memory. Raises Gone."""
        kept, searched = bytearray(b"\r\n"), 0  # DATA's own CRLF counts before the dot
        self.deadline = self.loop.time() + COMMAND_SECONDS
        refused: Reply | None = None
        while True:
            self._extend(len(self.buffer))
            kept += self.buffer
            self.buffer.clear()
            if (end := kept.find(END_OF_DATA, searched)) >= 0:
                self.buffer += kept[end + len(END_OF_DATA) :]
                if end > most:
                    refused = refused or replies.TOO_BIG.filled(most=most)
                return refused or bytes(kept[2 : end + 2])
            if refused is None and len(kept) > most + 16:
                refused = replies.TOO_BIG.filled(most=most)
            elif refused is None and len(kept) > self.booked and not self.book(len(kept) - self.booked):
                refused = replies.NO_MEMORY
            if refused is not None:
                del kept[:-4]
                self.give_back()
            searched = max(0, len(kept) - 4)
            if self._gone:
                raise Gone
            await self.more()

    async def read_chunk(self, octets: int, *, keep: bool) -> bytes | None:
        """Exactly that many octets (BDAT); not kept, they are read all the same (RFC 3030 2). None: no memory.

        Memory is booked for what has come, not for what was announced: announcing costs a client nothing.
        """
        left, kept, fits = octets, bytearray(), True
        self.deadline = self.loop.time() + COMMAND_SECONDS
        while left:
            if not self.buffer:
                if self._gone:
                    raise Gone
                await self.more()
            part = self.buffer[:left]
            del self.buffer[:left]
            left -= len(part)
            self._extend(len(part))
            if keep and fits and not self.book(len(part)):
                fits = False
                kept.clear()
            if keep and fits:
                kept += part
        return bytes(kept) if fits else None

    def _extend(self, octets: int) -> None:
        """Octets buy time, but none can be saved up: who sent much and then stalls has five minutes too."""
        earned = self.deadline + octets / DATA_OCTETS_PER_SECOND
        self.deadline = min(earned, self.loop.time() + COMMAND_SECONDS)

    def send(self, line: bytes) -> None:
        self._replies.append(line)

    async def breathe(self) -> None:
        """Lets other sessions run, and the replies leave: a client that pipelines without end has no right to both."""
        await self.flush()
        await asyncio.sleep(0)

    async def flush(self) -> None:
        if self._replies and not self._gone:
            self.transport.write(b"".join(self._replies))
            self._replies.clear()
            await self._drain_helper()  # type: ignore[attr-defined]  # FlowControlMixin's, which has no types
            if self._gone:
                raise Gone

    def close_with(self, reply: Reply, reference: str | None = None) -> None:
        """The last word from outside the session's own task: timeout, revocation, shutdown."""
        if not self._gone and self.transport is not None:
            self._replies.append(reply.line(reference))
            self.transport.write(b"".join(self._replies))
            self._replies.clear()
            self.close()

    def close(self) -> None:
        self._gone = True
        self._wake()
        if self.transport is not None and not self._is_lost:
            self.transport.close()
            if self._end is None:
                self._end = self.loop.call_later(CLOSE_SECONDS, self._abort)

    def _abort(self) -> None:
        self.transport.abort()

    async def start_tls(self) -> None:
        """What came with STARTTLS in one segment is dropped, what was said in clear forgotten (RFC 3207 4.2, 6)."""
        assert self.tls_context is not None
        self.buffer.clear()
        self.send(replies.STARTTLS_READY.line())
        await self.flush()
        self.deadline = self.loop.time() + HANDSHAKE_SECONDS
        try:
            transport = await self.loop.start_tls(
                self.transport, self, self.tls_context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except (OSError, ssl.SSLError, ConnectionError) as error:
            log.info("smtp.tls_failed", ip=self.ip, port=self.port, error=str(error))
            self.server.failures.failed(self.ip, cause_of(error, implicit_tls=False), port=self.port, detail=str(error))
            self.close()
            raise Gone from error
        if transport is None:
            raise Gone
        self.transport = transport
        self._forget()
        self.session.ssl = transport.get_extra_info("ssl_object")
