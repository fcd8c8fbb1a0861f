"""The beginning of a session with a next hop: connection, greeting, TLS as it must be, AUTH.

Shapes  open_session(next_hop) -> Session, ready for the first message.
Units   Timeouts in seconds, after RFC 5321 4.5.3.2.
Errors  NotConnectedError: no session could be had.
Source  RFC 5321 3.1, 3.2; RFC 3207 (STARTTLS), 4954 (AUTH), 7435 (opportunistic security), 7672 (DANE).

Under opportunistic TLS mail goes in clear only where STARTTLS is not offered or fails, and after a failure on a new
connection: one on which a handshake broke off is no longer to be trusted for anything.
"""

import base64
from dataclasses import dataclass, field, replace

from relay.smtp import tls
from relay.smtp.next_hop import IMPLICIT, NONE, OPPORTUNISTIC, NextHop
from relay.smtp.transcript import Transcript
from relay.smtp.wire import BrokenOffError, Reply, Wire, dial, reason_of

OLD_SERVERS = frozenset({500, 501, 502, 504})  # RFC 5321 3.2: what knows no EHLO may know HELO


class NotConnectedError(Exception):
    """No session: its words are for people. reply: the server's refusal, if it spoke."""

    def __init__(self, words: str, reply: Reply | None = None, *, conversation: str = "") -> None:
        super().__init__(words)
        self.reply = reply
        self.conversation = conversation


class _TlsFailedError(NotConnectedError):
    """STARTTLS was offered and came to nothing."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """RFC 5321 4.5.3.2. connect: our own, for an address that does not answer at all."""

    connect: float = 30
    handshake: float = 60
    greeting: float = 300
    mail: float = 300
    rcpt: float = 300
    data: float = 120
    data_block: float = 180
    final_dot: float = 600
    command: float = 300
    quit: float = 2


@dataclass(slots=True)
class Session:
    """An open session. features: keyword of the last EHLO -> its parameters."""

    wire: Wire
    next_hop: NextHop
    transcript: Transcript
    features: dict[str, str] = field(default_factory=dict)
    peer_ip: str | None = None
    tls_version: str = ""


async def open_session(next_hop: NextHop, *, local_name: str, timeouts: Timeouts) -> Session:
    """Dials, secures and signs in, or raises NotConnectedError."""
    transcript = Transcript()
    try:
        return await _open(next_hop, local_name, timeouts, transcript)
    except _TlsFailedError:
        if next_hop.tls != OPPORTUNISTIC:
            raise
        transcript.note("Once more in clear, on a new connection")
        return await _open(replace(next_hop, tls=NONE), local_name, timeouts, transcript)


async def _open(next_hop: NextHop, local_name: str, timeouts: Timeouts, transcript: Transcript) -> Session:
    try:
        wire = await _dial(next_hop, timeouts)
    except (OSError, BrokenOffError) as exc:
        transcript.note(f"No connection to {_where(next_hop)}: {reason_of(exc)}")
        words = f"Could not connect to {next_hop}: {reason_of(exc)}"
        raise NotConnectedError(words, conversation=str(transcript)) from exc
    opening = _Opening(Session(wire, next_hop, transcript), local_name, timeouts)
    try:
        return await opening.finish()
    except BaseException as exc:
        wire.abort()
        if isinstance(exc, OSError | BrokenOffError):
            transcript.note(reason_of(exc))
            words = f"No session with {next_hop}: {reason_of(exc)}"
            raise NotConnectedError(words, conversation=str(transcript)) from exc
        if isinstance(exc, NotConnectedError):
            transcript.note(str(exc))
            exc.conversation = str(transcript)
        raise


async def _dial(next_hop: NextHop, timeouts: Timeouts) -> Wire:
    context = tls.context_of(next_hop) if next_hop.tls == IMPLICIT else None
    return await dial(
        next_hop.host,
        next_hop.port,
        address=next_hop.address,
        sources=next_hop.sources,
        context=context,
        connect_timeout=timeouts.connect + (timeouts.handshake if context else 0),
        handshake_timeout=timeouts.handshake,
    )


def _where(next_hop: NextHop) -> str:
    return f"{next_hop} [{next_hop.address}]" if next_hop.address else str(next_hop)


class _Opening:
    def __init__(self, session: Session, local_name: str, timeouts: Timeouts) -> None:
        self._session = session
        self._wire, self._next_hop, self._transcript = session.wire, session.next_hop, session.transcript
        self._local_name = local_name
        self._timeouts = timeouts

    async def finish(self) -> Session:
        self._wire.transcript = self._transcript
        self._session.peer_ip = self._wire.peer_ip
        self._transcript.note(f"Connected to {self._next_hop} at {self._session.peer_ip} from {self._wire.own_ip}")
        self._refuse_our_own_address()
        self._demand(await self._wire.reply(timeout=self._timeouts.greeting), "greeting")
        await self._ehlo()
        if self._next_hop.tls == OPPORTUNISTIC and "STARTTLS" not in self._session.features:
            self._transcript.note("STARTTLS is not offered: in clear")
        elif self._next_hop.tls not in {NONE, IMPLICIT}:
            await self._start_tls()
        self._session.tls_version = self._wire.tls_version
        if self._next_hop.username:
            await self._authenticate()
        return self._session

    def _refuse_our_own_address(self) -> None:
        """An MX record that leads to this very machine, under whatever name."""
        own = self._wire.own_ip
        if self._next_hop.is_mx and own and own == self._session.peer_ip and not tls.is_loopback(own):
            raise NotConnectedError(f"{self._next_hop} is this server: the mail would go in circles.")

    def _demand(self, reply: Reply, verb: str, *, code: int | None = None) -> Reply:
        if reply.code != code if code else not reply.is_positive:
            raise NotConnectedError(f"{self._next_hop} refused ({verb}): {reply}", reply)
        return reply

    async def _ehlo(self) -> None:
        reply = await self._command(f"EHLO {self._local_name}")
        if reply.code in OLD_SERVERS:
            reply = await self._command(f"HELO {self._local_name}")
            reply = Reply(reply.code, reply.enhanced_code, reply.text, reply.lines[:1])
        self._demand(reply, "EHLO")
        name = reply.lines[0].partition(" ")[0] if reply.lines else ""
        if self._next_hop.is_mx and name.lower() == self._local_name.lower():
            raise NotConnectedError(f"{self._next_hop} has this server's name: the mail would go in circles.")
        features: dict[str, str] = {}
        for line in reply.lines[1:]:
            keyword, _space, parameters = line.replace("AUTH=", "AUTH ", 1).partition(" ")
            known = features.get(keyword.upper(), "")
            features[keyword.upper()] = f"{known} {parameters}".strip()
        self._session.features = features

    async def _start_tls(self) -> None:
        if "STARTTLS" not in self._session.features:
            raise NotConnectedError(f"{self._next_hop} does not offer STARTTLS; nothing is sent in clear.")
        context = tls.context_of(self._next_hop)
        try:
            reply = await self._command("STARTTLS")
            if reply.code != 220:
                raise _TlsFailedError(f"{self._next_hop} refused (STARTTLS): {reply}", reply)
            await self._wire.start_tls(context, host=self._next_hop.host, timeout=self._timeouts.handshake)
            tls.check_peer(self._next_hop, self._wire.tls_object)
        except (OSError, BrokenOffError) as exc:
            raise _TlsFailedError(f"No session with {self._next_hop}: {reason_of(exc)}") from exc
        self._transcript.note(f"{self._wire.tls_version}, {tls.how_verified(self._next_hop)}")
        await self._ehlo()  # RFC 3207 4.2: what was offered in clear is forgotten

    async def _authenticate(self) -> None:
        if not self._session.tls_version and not self._next_hop.is_loopback:
            raise NotConnectedError(f"The password for {self._next_hop} is not sent without TLS.")
        username, password = self._next_hop.username.encode(), self._next_hop.password.encode()
        offered = self._session.features.get("AUTH", "").upper().split()
        if "PLAIN" in offered:
            answer = _base64(b"\0" + username + b"\0" + password)
            reply = await self._command(f"AUTH PLAIN {answer}", shown="AUTH PLAIN ***")
        elif "LOGIN" in offered:
            self._demand(await self._command("AUTH LOGIN"), "AUTH", code=334)
            self._demand(await self._command(_base64(username), shown="***"), "AUTH", code=334)
            reply = await self._command(_base64(password), shown="***")
        else:
            raise NotConnectedError(f"{self._next_hop} offers neither AUTH PLAIN nor AUTH LOGIN.")
        self._demand(reply, "AUTH", code=235)

    async def _command(self, line: str, *, shown: str = "") -> Reply:
        self._transcript.said(shown or line)
        await self._wire.write(line.encode() + b"\r\n", timeout=self._timeouts.command)
        return await self._wire.reply(timeout=self._timeouts.command)


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
