"""One session: a method for each SMTP verb, in the order of a conversation.

Shapes  smtp_VERB(argument): reads state, replies. AUTH stands in auth.py, MAIL and RCPT in envelope.py, DATA and
        BDAT in data.py; this file has the loop and the rest.
Errors  Anything unexpected is 451 4.3.0 with a reference, the trace in the log, and the session lives on.
Source  RFC 5321, RFC 6409; docs/smtp.md is the customer's table.
"""

import asyncio
import weakref

from audit.record import new_reference, printable
from relay.logs import get_logger
from relay.smtp import replies
from relay.smtp.auth import AuthVerb
from relay.smtp.data import DataVerbs
from relay.smtp.door_failures import CLIENT_HELLO, Cause
from relay.smtp.envelope import EnvelopeVerbs
from relay.smtp.paths import is_helo_name
from relay.smtp.protocol import COMMAND_OCTETS_MAX, Gone, LineRefused
from relay.smtp.replies import Reply
from relay.smtp.sightings import SESSION

log = get_logger(__name__)

ERRORS_MAX = 20  # refusals before somebody has signed in; each is a line of the log, and some a row of the audit
ERRORS_MAX_SIGNED_IN = 10_000  # of one connection: recipients over a limit are refused one by one
COMMANDS_AT_ONCE = 20
BEFORE_TLS = frozenset({"EHLO", "HELO", "STARTTLS", "NOOP", "RSET", "QUIT", "AUTH"})
WITHOUT_ARGUMENT = frozenset({"RSET", "QUIT", "DATA", "STARTTLS"})


class SmtpSession(AuthVerb, EnvelopeVerbs, DataVerbs):
    """A conversation from greeting to goodbye."""

    async def _handle_client(self) -> None:
        SESSION.set(weakref.ref(self))
        try:
            if not self.welcome:
                reference = self.server.failures.failed(self.ip, Cause.CONNECTIONS, port=self.port)
                self.refuse(replies.TOO_MANY_CONNECTIONS, reference=reference)
                self.finish()
                return
            if self.turn_away():
                return
            self.send(Reply(220, "", f"{self.server.hostname} ESMTP Gatepost").line())
            commands = 0
            while not self._gone:
                await self._handle_one()
                commands += 1
                if commands % COMMANDS_AT_ONCE == 0:
                    await self.breathe()
            await self.flush()
        except (Gone, ConnectionError):
            self._note_tls_in_clear(bytes(self.buffer[:2]))
        except asyncio.CancelledError:
            raise
        finally:
            self.close()

    async def _handle_one(self) -> None:
        try:
            self.waiting_for_command = True
            line = await self.read_line()
        except LineRefused as refused:
            self._note_tls_in_clear(refused.start)
            self.refuse(refused.reply)
            self._end_nonsense()
            return
        finally:
            self.waiting_for_command = False
        try:
            await self._dispatch(line)
        except (Gone, asyncio.CancelledError):
            raise
        except Exception:
            reference = self.refuse(replies.UNEXPECTED)
            log.exception("smtp.unexpected", reference=reference, ip=self.ip)
        if self.ended:
            self.refuse(self.last_words)
            await self.flush()
            self.close()
        else:
            self._end_nonsense()

    def _end_nonsense(self) -> None:
        """Errors have a budget: whoever speaks no SMTP, or only asks to be refused, is let go."""
        if self.errors >= (ERRORS_MAX if self.identity is None else ERRORS_MAX_SIGNED_IN) and not self._gone:
            self.refuse(replies.TOO_MANY_ERRORS)
            self.finish()

    def _note_tls_in_clear(self, start: bytes) -> None:
        """The first that a client says is a TLS record: it wanted the other port, and hangs up without a word."""
        if start == CLIENT_HELLO and self.tls is None and not self.errors and not self.session.host_name:
            self.server.failures.failed(self.ip, Cause.TLS_ON_PLAIN, port=self.port)

    async def _dispatch(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        try:
            name, argument = verb.decode("ascii").upper(), rest.strip().decode("utf-8")
        except UnicodeDecodeError:
            self._note_tls_in_clear(line[:2])
            self.refuse(replies.UNKNOWN_COMMAND)
            return
        method = VERBS.get(name)
        if method is None:
            self._note_tls_in_clear(line[:2])
            self.refuse(replies.UNKNOWN_COMMAND)
        elif name != "AUTH" and len(line) > COMMAND_OCTETS_MAX:
            self.refuse(replies.TOO_LONG)
        elif self.tls is None and name not in BEFORE_TLS:
            self.refuse(replies.STARTTLS_FIRST)
        elif name in WITHOUT_ARGUMENT and argument:
            self.refuse(replies.SYNTAX.filled(syntax=name))
        else:
            await method(self, argument)

    # --- Verbs that need no account ------------------------------------------------------------------------------

    async def smtp_EHLO(self, argument: str) -> None:
        if not self._greeted(argument, "EHLO"):
            return
        self.session.extended_smtp = True
        lines = [
            self.server.hostname,
            "PIPELINING",
            f"SIZE {self.server.message_octets_max}",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
        ]
        if self.tls is None:
            lines.append("STARTTLS")
        else:
            lines.append("REQUIRETLS")  # RFC 8689 3: only under TLS
            if self.identity is None:
                lines.append(" ".join(("AUTH", *self.mechanisms)))
        last = len(lines) - 1
        self.send(b"".join(f"250{' ' if n == last else '-'}{text}\r\n".encode() for n, text in enumerate(lines)))

    async def smtp_HELO(self, argument: str) -> None:
        if self._greeted(argument, "HELO"):
            self.session.extended_smtp = False
            self.send(Reply(250, "", self.server.hostname).line())

    def _greeted(self, argument: str, verb: str) -> bool:
        """RFC 5321 4.1.4: EHLO within a transaction resets it."""
        if not is_helo_name(argument):
            self.refuse(replies.BAD_HELO.filled(verb=verb))
            return False
        self.reset()
        self.session.host_name = printable(argument, 255, "client name")
        return True

    async def smtp_STARTTLS(self, argument: str) -> None:
        if self.tls is not None:
            self.refuse(replies.TLS_ALREADY)
        elif not self.session.host_name:
            self.refuse(replies.SEND_EHLO)
        elif self.tls_context is None:
            self.refuse(replies.TLS_UNAVAILABLE)
        else:
            await self.start_tls()
            self.reset()

    async def smtp_NOOP(self, argument: str) -> None:
        self.send(replies.OK.line())

    async def smtp_RSET(self, argument: str) -> None:
        self.reset()
        self.send(replies.OK.line())

    async def smtp_QUIT(self, argument: str) -> None:
        self.send(replies.BYE.line())
        await self.flush()
        self.close()

    async def smtp_VRFY(self, argument: str) -> None:
        if self.may_send():
            self.send(replies.VRFY.line())

    async def smtp_EXPN(self, argument: str) -> None:
        if self.may_send():
            self.refuse(replies.EXPN)

    async def smtp_HELP(self, argument: str) -> None:
        if self.may_send():
            self.send(replies.HELP.line())

    # --- From outside the session's task -------------------------------------------------------------------------

    def end(self, reply: Reply = replies.ENDED) -> None:
        """Its credential was withdrawn: now if it is idle, else after the running command, which will not accept."""
        self.ended, self.last_words = True, reply
        if self.waiting_for_command:
            self.close_with(reply, new_reference())


VERBS = {
    name: getattr(SmtpSession, f"smtp_{name}")
    for name in (
        "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "EXPN",
        "HELP",
    )
}  # fmt: skip
