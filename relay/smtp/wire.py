"""One connection to a next hop: lines in, octets out, TLS in between.

Shapes  Reply: code, enhanced code, text, lines. Wire: an asyncio protocol of our own, because asyncio's streams hide
        what arrived in clear before STARTTLS.
Units   All limits below are octets or lines; a server that passes them is cut off.
Errors  BrokenOffError: the connection is gone or the server does not speak SMTP. TimeoutError is made one as well.
Source  RFC 5321 4.2 (replies), 4.5.3.1.5 (their length); RFC 3207 4.2 and 5 (nothing survives STARTTLS).
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, cast

from audit.record import printable
from relay.smtp.transcript import Transcript

LINE_OCTETS = 4096  # RFC 5321 says 512; servers with links in their refusals say more
REPLY_LINES = 128
UNREAD_OCTETS = 64 * 1024
TEXT_CHARACTERS = 480

_LINE = re.compile(rb"([2-5][0-9][0-9])([ -]?)(.*)", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|$)")


class BrokenOffError(Exception):
    """The conversation cannot go on. Its words are for people."""


@dataclass(frozen=True, slots=True)
class Reply:
    code: int
    enhanced_code: str
    text: str
    lines: tuple[str, ...] = ()

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 300

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced_code, self.text) if part)


def reply_of(code: int, lines: list[bytes]) -> Reply:
    """A reply from the texts of its lines; the enhanced code is taken out of each."""
    texts = [printable(line.strip(), LINE_OCTETS) for line in lines]
    found = _ENHANCED.match(texts[-1]) or _ENHANCED.match(texts[0])
    enhanced = found[1] if found and found[1][0] == str(code)[0] else ""
    plain = [_ENHANCED.sub("", text, count=1) if _ENHANCED.match(text) else text for text in texts]
    return Reply(code, enhanced, printable(" ".join(filter(None, plain)), TEXT_CHARACTERS), tuple(texts))


class Wire(asyncio.Protocol):
    """Reads replies and writes octets, each within a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._ended = ""  # why nothing more will come
        self._arrival: asyncio.Future[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self.transcript: Transcript | None = None

    # --- Called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > UNREAD_OCTETS:
            self._end("The server sent more than any reply may hold.")
            self.abort()
        self._arrived()

    def eof_received(self) -> bool:
        self._end("The server closed the connection.")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"The connection was lost: {reason_of(exc)}." if exc else "The server closed the connection.")

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        self._may_write.set()
        self._arrived()

    def _arrived(self) -> None:
        if self._arrival and not self._arrival.done():
            self._arrival.set_result(None)

    # --- Called by the client ---

    @property
    def transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise BrokenOffError("There is no connection.")
        return self._transport

    @property
    def is_quiet(self) -> bool:
        """Open, and nothing unasked has come: fit for another message."""
        return not self._ended and not self._unread and not self.transport.is_closing()

    @property
    def peer_ip(self) -> str | None:
        return _ip_of(self.transport.get_extra_info("peername"))

    @property
    def own_ip(self) -> str | None:
        return _ip_of(self.transport.get_extra_info("sockname"))

    @property
    def tls_object(self) -> ssl.SSLObject | None:
        found = self.transport.get_extra_info("ssl_object")
        return found if isinstance(found, ssl.SSLObject) else None

    @property
    def tls_version(self) -> str:
        tls = self.tls_object
        return str(tls.version() or "") if tls else ""

    async def write(self, data: bytes, *, timeout: float) -> None:
        """Returns once the kernel has taken most of it."""
        if self._ended:
            raise BrokenOffError(self._ended)
        self.transport.write(data)
        async with within(timeout, "taking what we sent"):
            await self._may_write.wait()
        if self._ended:
            raise BrokenOffError(self._ended)

    async def reply(self, *, timeout: float) -> Reply:
        async with within(timeout, "answering"):
            code, text, more = self._parsed(await self._line())
            texts = [text]
            while more:
                next_code, text, more = self._parsed(await self._line())
                texts.append(text)
                if next_code != code or len(texts) > REPLY_LINES:
                    raise BrokenOffError("The server's reply of many lines is not one.")
        reply = reply_of(code, texts)
        if self.transcript:
            self.transcript.heard(code, [printable(each.strip(), LINE_OCTETS) for each in texts])
        return reply

    def _parsed(self, line: bytes) -> tuple[int, bytes, bool]:
        found = _LINE.fullmatch(line)
        if not found:
            raise BrokenOffError(f"The server's reply is not SMTP: {printable(line, 80)}")
        return int(found[1]), found[3], found[2] == b"-"

    async def _line(self) -> bytes:
        while (end := self._unread.find(b"\n")) < 0:
            if len(self._unread) > LINE_OCTETS:
                break
            if self._ended:
                raise BrokenOffError(self._ended)
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        if not 0 <= end <= LINE_OCTETS:
            raise BrokenOffError("The server's reply has a line that is too long.")
        line = bytes(self._unread[:end]).removesuffix(b"\r")
        del self._unread[: end + 1]
        return line

    async def start_tls(self, context: ssl.SSLContext, *, host: str, timeout: float) -> None:
        """Raises OSError (of which ssl.SSLError is one) if the handshake fails."""
        if self._unread:
            # Whatever came in clear after the 220 would be read as if it had come under TLS.
            raise BrokenOffError("The server sent more than its answer to STARTTLS.")
        secure = await asyncio.get_running_loop().start_tls(
            self.transport, self, context, server_hostname=host, ssl_handshake_timeout=timeout
        )
        if secure is None:
            raise BrokenOffError("The connection was lost during the TLS handshake.")
        self._transport = secure

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()


@asynccontextmanager
async def within(seconds: float, doing: str) -> AsyncIterator[None]:
    """asyncio.timeout whose end is a BrokenOffError that says what took too long."""
    try:
        async with asyncio.timeout(seconds) as scope:
            yield
    except TimeoutError as exc:  # ETIMEDOUT is one as well, and has words of its own
        words = f"The server took longer than {seconds:g} s for {doing}." if scope.expired() else reason_of(exc)
        raise BrokenOffError(words) from None


async def dial(
    host: str,
    port: int,
    *,
    context: ssl.SSLContext | None,
    connect_timeout: float,
    handshake_timeout: float,
    address: str = "",
    sources: Sequence[str] = (),
) -> Wire:
    """Connects to this address, else to the first of the host's that answers. Raises OSError or BrokenOffError.

    sources: our own addresses to connect from; the one of the right family is taken.
    """
    loop = asyncio.get_running_loop()
    tls: dict[str, Any] = {}
    if context:
        tls = {"ssl": context, "server_hostname": host, "ssl_handshake_timeout": handshake_timeout}
    own = {ip_address(source).version: source for source in sources}
    async with within(connect_timeout, "accepting the connection"):
        targets = [address or host]
        if own and not address:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            targets = list(dict.fromkeys(str(sockaddr[0]) for *_kind, sockaddr in found))
        for number, target in enumerate(targets):
            try:
                source = own.get(ip_address(target.partition("%")[0]).version) if own else None
                local = (source, 0) if source else None
                _transport, wire = await loop.create_connection(Wire, target, port, local_addr=local, **tls)
            except OSError:
                if number == len(targets) - 1:
                    raise
            else:
                return wire
    raise OSError("The host has no address.")


def _ip_of(name: object) -> str | None:
    return str(name[0]).partition("%")[0] if isinstance(name, tuple) else None


def reason_of(exc: BaseException | None) -> str:
    """The words of an operating system's or TLS error, without numbers and file names."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message})"
    if isinstance(exc, ssl.SSLError):
        return f"TLS failed ({exc.reason or exc})"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or type(exc).__name__
