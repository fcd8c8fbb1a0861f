"""A conversation at the bounce port: who speaks here delivers a report to one of our return paths, or nothing.

Shapes  The verbs of RFC 5321 without AUTH and without relaying: RCPT takes our own tokens (relay.bounces.verp), all
        else is 550 5.1.1. A mail that was taken is answered only once what it reports is committed.
Units   RECIPIENTS_MAX of one mail, ERRORS_MAX and MAILS_MAX of one connection.
Errors  451 4.3.0 while the database is away: the peer keeps its report and comes again.
Source  RFC 5321, RFC 3207, RFC 3834 (nothing here is ever answered by mail, so nothing can go in a circle).
"""

import asyncio
from typing import TYPE_CHECKING, Any, cast

from relay.bounces import verp
from relay.bounces.verp import Token
from relay.logs import get_logger
from relay.smtp import paths, replies
from relay.smtp.content import unstuff
from relay.smtp.paths import Parsed, PathError
from relay.smtp.protocol import COMMAND_OCTETS_MAX, Connection, Gone, LineRefused
from relay.smtp.replies import Reply

if TYPE_CHECKING:
    from relay.smtp.bounce_server import BounceServer
    from relay.smtp.server import Server

log = get_logger(__name__)

ERRORS_MAX = 20
MAILS_MAX = 100
RECIPIENTS_MAX = 20
HOPS_MAX = 50
TAKEN = Reply(250, "2.0.0", "Thank you")
WITHOUT_ARGUMENT = frozenset({"RSET", "QUIT", "DATA", "STARTTLS"})


class BounceSession(Connection):
    """The transport half is that of every session of ours: one buffer, one true end of data, bounded waiting."""

    def __init__(self, server: "BounceServer", *, ip: str, port: int) -> None:
        # Of its server a connection asks for the loop, TLS, the budget, and to be counted: both kinds have these.
        super().__init__(cast("Server", server), ip=ip, implicit_tls=False, port=port)
        self.bounces = server
        self.errors = self.mails = 0
        self.reverse_path: str | None = None  # None: no transaction is open
        self.tokens: list[Token] = []

    async def _handle_client(self) -> None:
        try:
            if not self.welcome:
                self.refuse(replies.TOO_MANY_CONNECTIONS)
                self._finish()
                return
            self.send(Reply(220, "", f"{self.bounces.hostname} ESMTP Gatepost, for bounces").line())
            while not self._gone:
                await self._handle_one()
            await self.flush()
        except (Gone, ConnectionError):
            pass
        finally:
            self.close()

    async def _handle_one(self) -> None:
        try:
            self.waiting_for_command = True
            line = await self.read_line()
        except LineRefused as refused:
            self.refuse(refused.reply)
        else:
            await self._carefully(line)
        finally:
            self.waiting_for_command = False
        if self.errors >= ERRORS_MAX and not self._gone:
            self.refuse(replies.TOO_MANY_ERRORS)
            self._finish()

    async def _carefully(self, line: bytes) -> None:
        self.waiting_for_command = False
        try:
            await self._dispatch(line)
        except (Gone, asyncio.CancelledError):
            raise
        except Exception:
            self.refuse(replies.UNEXPECTED)
            log.exception("bounce.unexpected", ip=self.ip)

    def refuse(self, reply: Reply) -> None:
        self.errors += 1
        self.send(reply.line())

    def _finish(self) -> None:
        """Ends the session after what was replied."""
        if self._replies and self.transport is not None:
            self.transport.write(b"".join(self._replies))
            self._replies.clear()
        self.close()

    def reset(self) -> None:
        self.reverse_path, self.tokens = None, []
        self.give_back()

    # --- Verbs ---------------------------------------------------------------------------------------------------

    async def _dispatch(self, line: bytes) -> None:
        verb, _space, rest = line.partition(b" ")
        try:
            name, argument = verb.decode("ascii").upper(), rest.strip().decode("utf-8")
        except UnicodeDecodeError:
            self.refuse(replies.UNKNOWN_COMMAND)
            return
        method = VERBS.get(name)
        if method is None:
            self.refuse(replies.UNKNOWN_COMMAND)
        elif len(line) > COMMAND_OCTETS_MAX:
            self.refuse(replies.TOO_LONG)
        elif name in WITHOUT_ARGUMENT and argument:
            self.refuse(replies.SYNTAX.filled(syntax=name))
        else:
            await method(self, argument)

    async def smtp_EHLO(self, argument: str) -> None:
        if not self._greeted(argument, "EHLO"):
            return
        lines = [
            self.bounces.hostname,
            "PIPELINING",
            f"SIZE {self.bounces.message_octets_max}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
        ]
        if self.tls is None:
            lines.append("STARTTLS")
        last = len(lines) - 1
        self.send(b"".join(f"250{' ' if n == last else '-'}{text}\r\n".encode() for n, text in enumerate(lines)))

    async def smtp_HELO(self, argument: str) -> None:
        if self._greeted(argument, "HELO"):
            self.send(Reply(250, "", self.bounces.hostname).line())

    def _greeted(self, argument: str, verb: str) -> bool:
        if not paths.is_helo_name(argument):
            self.refuse(replies.BAD_HELO.filled(verb=verb))
            return False
        self.reset()
        self.session.host_name = argument
        return True

    async def smtp_STARTTLS(self, argument: str) -> None:
        if self.tls is not None:
            self.refuse(replies.TLS_ALREADY)
        elif not self.session.host_name:
            self.refuse(replies.SEND_EHLO)
        else:
            await self.start_tls()
            self.reset()

    async def smtp_MAIL(self, argument: str) -> None:
        if not self.session.host_name:
            self.refuse(replies.SEND_EHLO)
        elif self.reverse_path is not None:
            self.refuse(replies.NESTED_MAIL)
        elif self.mails >= MAILS_MAX:
            self.refuse(replies.TOO_MANY_ERRORS)
            self._finish()
        elif (parsed := self._parsed(argument, "FROM:", replies.BAD_SENDER)) is not None:
            size = parsed.parameters.get("SIZE") or "0"
            if size.isascii() and size.isdigit() and int(size[:12]) > self.bounces.message_octets_max:
                self.refuse(replies.TOO_BIG.filled(most=self.bounces.message_octets_max))
                return
            self.reverse_path = parsed.address
            self.send(replies.SENDER_OK.line())

    async def smtp_RCPT(self, argument: str) -> None:
        if self.reverse_path is None:
            self.refuse(replies.MAIL_FIRST)
            return
        parsed = self._parsed(argument, "TO:", replies.BAD_RECIPIENT)
        if parsed is None:
            return
        token = verp.read(parsed.address.rpartition("@")[0])
        if token is None:
            self.refuse(replies.NOT_OURS)
        elif len(self.tokens) >= RECIPIENTS_MAX:
            self.refuse(replies.TOO_MANY_RECIPIENTS.filled(most=RECIPIENTS_MAX))
        else:
            self.tokens.append(token)
            self.send(replies.RECIPIENT_OK.line())

    def _parsed(self, argument: str, keyword: str, bad: Reply) -> Parsed | None:
        if argument[: len(keyword)].upper() != keyword:
            self.refuse(replies.SYNTAX.filled(syntax=f"{keyword}<address>"))
            return None
        try:
            # Parameters that we know nothing about are passed over: what is reported counts.
            return paths.parse(argument[len(keyword) :].lstrip(" "))
        except PathError as error:
            self.refuse((replies.BAD_PARAMETER if error.malformed else bad).filled(why=str(error)))
            return None

    async def smtp_DATA(self, argument: str) -> None:
        if self.reverse_path is None or not self.tokens:
            self.refuse(replies.RCPT_FIRST)
            return
        self.send(replies.START_DATA.line())
        data = await self.read_data(self.bounces.message_octets_max)
        tokens, is_null_sender = self.tokens, not self.reverse_path
        self.mails += 1
        if isinstance(data, Reply):
            self.refuse(data)
        elif data[:HEADER_OCTETS].lower().count(b"\nreceived:") >= HOPS_MAX:
            self.refuse(replies.MAIL_LOOP)
        elif await self.bounces.take(unstuff(data), tokens, is_null_sender=is_null_sender, client_ip=self.ip):
            self.send(TAKEN.line())
        else:
            self.refuse(replies.UNAVAILABLE)
        self.reset()

    async def smtp_RSET(self, argument: str) -> None:
        self.reset()
        self.send(replies.OK.line())

    async def smtp_NOOP(self, argument: str) -> None:
        self.send(replies.OK.line())

    async def smtp_VRFY(self, argument: str) -> None:
        self.send(replies.VRFY.line())

    async def smtp_QUIT(self, argument: str) -> None:
        self.send(replies.BYE.line())
        await self.flush()
        self.close()


HEADER_OCTETS = 64 * 1024
VERBS: dict[str, Any] = {
    name: getattr(BounceSession, f"smtp_{name}")
    for name in ("EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "QUIT")
}
