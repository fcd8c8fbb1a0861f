"""Our SMTP client: hands messages to a next hop, many in one session, the envelope in one write.

Shapes  Envelope and content in, Result out: a reply for each recipient, or None where the session broke off before.
        Client.connect() gives an authenticated session; send() never raises for what the server does.
Errors  NotConnectedError: no session could be had. What `before_final_dot` raises ends the session and comes through.
Source  RFC 5321, 2920 (PIPELINING), 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8), 8689 (REQUIRETLS);
        relay/smtp/opening.py has how a session begins.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from relay.smtp.next_hop import VERIFIED, NextHop
from relay.smtp.opening import NotConnectedError, Session, Timeouts, open_session
from relay.smtp.wire import BrokenOffError, Reply, reason_of

__all__ = ["BeforeFinalDot", "Client", "Envelope", "NotConnectedError", "Result", "Timeouts"]

CHUNK_OCTETS = 64 * 1024
BeforeFinalDot = Callable[[Sequence[int]], Awaitable[None]]

NEEDS_TLS = Reply(
    550, "5.7.30", "The next hop does not promise to pass the message on under verified TLS alone (REQUIRETLS)."
)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Envelope:
    """smtputf8: the client declared it, so its header may hold UTF-8."""

    reverse_path: str
    recipients: tuple[str, ...]
    smtputf8: bool = False
    ret: str = ""  # RFC 3461: RET, ENVID, and of each recipient NOTIFY and ORCPT; empty where the client gave none
    envid: str = ""
    dsn: tuple[tuple[str, str], ...] = ()
    requires_tls: bool = False  # RFC 8689


@dataclass(slots=True)
class Result:
    """replies: by recipient, None where undecided. failure: why the session broke off, empty if it lives."""

    replies: list[Reply | None]
    failure: str = ""
    host_reply: Reply | None = None  # a refusal of everybody, before anybody was named
    was_heard: bool = False  # the server answered MAIL: the same must not be tried again at once
    reached_final_dot: bool = False
    offered: list[int] = field(default_factory=list)  # indices of those accepted at RCPT
    dsn_passed: bool = False  # the server offers DSN, and was told what the client had asked of reports
    conversation: str = ""  # what was said and heard, without passwords and content

    def host_failed(self, index: int) -> bool:
        """Nothing was said about this recipient: the session ended, or the server wants no mail now."""
        reply = self.replies[index]
        if self.reached_final_dot:
            return False
        if reply is None:
            return True
        # RFC 8689 4.2: another host of the destination may do what REQUIRETLS demands.
        return reply is self.host_reply and (400 <= reply.code < 500 or reply.enhanced_code == NEEDS_TLS.enhanced_code)

    def refuse(self, reply: Reply, indices: Sequence[int] | None = None) -> None:
        """This reply for these recipients (or all) that have none yet."""
        if indices is None:
            self.host_reply = reply
        for index in range(len(self.replies)) if indices is None else indices:
            self.replies[index] = self.replies[index] or reply


class Client:
    """One session with one next hop."""

    def __init__(self, session: Session, timeouts: Timeouts) -> None:
        self._wire, self._features, self._transcript = session.wire, session.features, session.transcript
        self._timeouts = timeouts
        self.messages = 0
        self.peer_ip, self.tls_version = session.peer_ip, session.tls_version
        self._is_verified = bool(session.tls_version) and session.next_hop.tls in VERIFIED

    @classmethod
    async def connect(cls, next_hop: NextHop, *, local_name: str, timeouts: Timeouts | None = None) -> "Client":
        """Dials, secures and signs in, or raises NotConnectedError."""
        timeouts = timeouts or Timeouts()
        return cls(await open_session(next_hop, local_name=local_name, timeouts=timeouts), timeouts)

    # --- Messages ---

    @property
    def conversation(self) -> str:
        """Since the session or its last message began."""
        return str(self._transcript)

    @property
    def is_usable(self) -> bool:
        return self._wire.is_quiet

    async def send(self, envelope: Envelope, content: bytes, *, before_final_dot: BeforeFinalDot) -> Result:
        """One transaction. before_final_dot is awaited with the indices of the recipients it is about."""
        result = Result([None] * len(envelope.recipients))
        self._transcript.begin(message=self.messages)
        parameters = self._fitting(envelope, content, result)
        if all(result.replies):
            result.conversation = self.conversation
            return result
        try:
            await self._transaction(envelope, content, parameters, result, before_final_dot)
        except (BrokenOffError, OSError) as exc:
            result.failure = reason_of(exc)
            self._transcript.note(result.failure)
            self._wire.abort()
        except BaseException:
            self._wire.abort()  # no final dot: the server throws away what it has
            raise
        finally:
            self.messages += 1
        result.conversation = self.conversation
        return result

    def _fitting(self, envelope: Envelope, content: bytes, result: Result) -> str:
        """The parameters of MAIL; recipients that this server cannot serve get our own permanent reply."""
        if _bare_line_ends(content):
            result.refuse(Reply(554, "5.6.0", "The message has line ends other than CR LF."))
        parameters = self._size(content, result)
        if not content.isascii():
            if "8BITMIME" not in self._features:
                result.refuse(Reply(554, "5.6.3", "The next hop does not take 8-bit content (8BITMIME)."))
            parameters += " BODY=8BITMIME"
        if self._utf8_needed(envelope, content, result):
            parameters += " SMTPUTF8"
        if envelope.requires_tls:
            parameters += self._tls_required(envelope, result)
        for index, address in enumerate(envelope.recipients):
            if _UNSAFE.search(address) or _UNSAFE.search(envelope.reverse_path):
                result.refuse(Reply(553, "5.1.3", "The address holds control characters."), [index])
        return parameters

    def _size(self, content: bytes, result: Result) -> str:
        if (limit := self._features.get("SIZE")) is None:
            return ""
        if limit.isdecimal() and 0 < int(limit) < len(content):
            result.refuse(Reply(552, "5.3.4", f"The next hop takes at most {limit} octets; this has {len(content)}."))
        return f" SIZE={len(content)}"

    def _utf8_needed(self, envelope: Envelope, content: bytes, result: Result) -> bool:
        """RFC 6531 3.5, 3.6: an address or header in UTF-8 goes only to a server that says SMTPUTF8."""
        everybody = not envelope.reverse_path.isascii() or (
            envelope.smtputf8 and not content[: content.find(b"\r\n\r\n")].isascii()
        )
        some = [index for index, address in enumerate(envelope.recipients) if not address.isascii()]
        if "SMTPUTF8" in self._features:
            return everybody or bool(some)
        if everybody or some:
            refusal = Reply(553, "5.6.7", "The next hop does not take internationalized mail (SMTPUTF8).")
            result.refuse(refusal, None if everybody else some)
        return False

    def _tls_required(self, envelope: Envelope, result: Result) -> str:
        """RFC 8689 4.2: only to a server that was verified and promises the same. 5: a report goes in any case."""
        if self._is_verified and "REQUIRETLS" in self._features:
            return " REQUIRETLS"
        if envelope.reverse_path:
            result.refuse(NEEDS_TLS)
        return ""

    async def _transaction(
        self, envelope: Envelope, content: bytes, parameters: str, result: Result, before_final_dot: BeforeFinalDot
    ) -> None:
        wanted = [index for index, reply in enumerate(result.replies) if reply is None]
        mail = f"MAIL FROM:<{envelope.reverse_path}>{parameters}"
        rcpts = [f"RCPT TO:<{envelope.recipients[index]}>" for index in wanted]
        if "DSN" in self._features:
            mail, rcpts = _with_dsn(envelope, mail, rcpts, wanted)
            result.dsn_passed = True
        pipelined = "PIPELINING" in self._features
        if pipelined:
            lines = [*(["RSET"] if self.messages else []), mail, *rcpts, "DATA"]
            self._say(lines)
            await self._wire.write("".join(f"{line}\r\n" for line in lines).encode(), timeout=self._timeouts.mail)
        await self._envelope(mail, rcpts, wanted, result, pipelined)
        if not result.offered and not pipelined:
            return
        data = await self._answer("DATA", pipelined, self._timeouts.data, result)
        if data.code == 354 and result.offered:
            await self._content(content, result, before_final_dot)
        elif data.code == 354:
            raise BrokenOffError("The server wants content for nobody.")
        else:
            self._refused(data, "DATA")
            result.refuse(data, result.offered)

    async def _envelope(self, mail: str, rcpts: list[str], wanted: list[int], result: Result, pipelined: bool) -> None:
        """RSET where a message went before, MAIL, and each RCPT; who was accepted is in result.offered."""
        if self.messages and not (await self._answer("RSET", pipelined, self._timeouts.command, result)).is_positive:
            raise BrokenOffError("The server refused RSET.")
        reply = await self._answer(mail, pipelined, self._timeouts.mail, result)
        result.was_heard = True
        if not reply.is_positive:
            result.refuse(self._refused(reply, "MAIL"))
            if not pipelined:
                return
        for line, index in zip(rcpts, wanted, strict=True):
            reply = await self._answer(line, pipelined, self._timeouts.rcpt, result)
            if reply.is_positive and result.replies[index] is None:
                result.offered.append(index)
            else:
                result.refuse(self._refused(reply, "RCPT") if not reply.is_positive else reply, [index])

    async def _answer(self, line: str, pipelined: bool, timeout: float, result: Result) -> Reply:
        """The reply to this line, which pipelining has sent already. A 421 decides all that is undecided."""
        if not pipelined:
            self._say([line])
            await self._wire.write(f"{line}\r\n".encode(), timeout=timeout)
        reply = await self._wire.reply(timeout=timeout)
        if reply.code == 421:
            raise self._leaving(reply, result)
        return reply

    def _leaving(self, reply: Reply, result: Result) -> BrokenOffError:
        # RFC 5321 3.8: the server closes the channel; whom it had accepted it has forgotten.
        if result.was_heard:
            result.refuse(reply)
        return BrokenOffError(str(reply))

    def _refused(self, reply: Reply, verb: str) -> Reply:
        if not 400 <= reply.code < 600:
            raise BrokenOffError(f"The server's reply to {verb} makes no sense: {reply}")
        return reply

    async def _content(self, content: bytes, result: Result, before_final_dot: BeforeFinalDot) -> None:
        for chunk in stuffed(content):
            await self._wire.write(chunk, timeout=self._timeouts.data_block)
        self._transcript.note(f"{len(content)} octets of content")
        await before_final_dot(tuple(result.offered))
        self._say(["."])
        result.reached_final_dot = True
        await self._wire.write(b".\r\n", timeout=self._timeouts.data_block)
        reply = await self._wire.reply(timeout=self._timeouts.final_dot)
        if not reply.is_positive:
            self._refused(reply, "the final dot")
        result.refuse(reply, result.offered)
        if reply.code == 421:
            raise BrokenOffError(str(reply))

    def _say(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._transcript.said(line)

    # --- Its end ---

    async def quit(self) -> None:
        """Says good-bye; whoever does not answer soon is left."""
        try:
            await self._wire.write(b"QUIT\r\n", timeout=self._timeouts.quit)
            await self._wire.reply(timeout=self._timeouts.quit)
        except (BrokenOffError, OSError):
            self._wire.abort()
        self._wire.close()

    def abort(self) -> None:
        self._wire.abort()


def _with_dsn(envelope: Envelope, mail: str, rcpts: list[str], wanted: Sequence[int]) -> tuple[str, list[str]]:
    """RFC 3461 5.2.1: what the client gave goes on as it came, and nothing is added to it."""
    mail += "".join(f" {name}={value}" for name, value in (("RET", envelope.ret), ("ENVID", envelope.envid)) if value)
    if envelope.dsn:
        given = [zip(("NOTIFY", "ORCPT"), envelope.dsn[index], strict=True) for index in wanted]
        rcpts = [
            line + "".join(f" {name}={value}" for name, value in options if value)
            for line, options in zip(rcpts, given, strict=True)
        ]
    return mail, rcpts


def stuffed(content: bytes) -> Iterator[bytes]:
    """The content as DATA wants it, in chunks: a dot before each line that starts with one, a line end at the end."""
    line_starts = True
    for start in range(0, len(content), CHUNK_OCTETS):
        chunk = content[start : start + CHUNK_OCTETS]
        dotted = chunk.replace(b"\n.", b"\n..")
        yield b"." + dotted if line_starts and chunk.startswith(b".") else dotted
        line_starts = chunk.endswith(b"\n")
    if not content.endswith(b"\r\n"):
        yield b"\r\n"


def _bare_line_ends(content: bytes) -> bool:
    """Smuggled ends of data need one, or a NUL; the door refuses them, and nothing of the kind leaves either."""
    pairs = content.count(b"\r\n")
    return content.count(b"\n") != pairs or content.count(b"\r") != pairs or b"\0" in content
