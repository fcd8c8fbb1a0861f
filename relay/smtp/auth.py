"""AUTH: PLAIN and LOGIN under TLS, one public answer to every failure, the true reason in the audit row.

Source  RFC 4954, RFC 4616; docs/smtp.md, AUTH.
Units   seconds on the event loop's clock.

A failure is answered at a fixed time after the response was read, whatever the work took: neither a cache nor a missing
user can be told from a wrong password by waiting. It is a timer, so it holds nobody else up.
"""

import asyncio
import math
import random

from audit.models import Reason, Result
from audit.record import attempt
from relay.networks import parse_address
from relay.smtp import replies, sasl
from relay.smtp.protocol import LineRefused
from relay.smtp.replies import Reply
from relay.smtp.state import Identity, SessionState
from relay.submission import Authentication, authenticate

FAILURES_MAX = 3
JITTER_SECONDS = 0.03


class AuthRefused(Exception):
    """The exchange ended before a credential was judged."""

    def __init__(self, reply: Reply, reason: Reason) -> None:
        super().__init__(reply.text)
        self.reply, self.reason = reply, reason


class AuthVerb(SessionState):
    async def smtp_AUTH(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        mechanism = mechanism.upper()
        if not self._auth_is_possible(mechanism):
            return
        try:
            login = await self._exchange(mechanism, initial.strip().encode() if initial else None)
        except AuthRefused as refused:
            reference = self.refuse(refused.reply)
            self._record(Authentication(refused.reason), mechanism, "", Result.REFUSED, reference)
            return
        await self._judge(mechanism, login)

    def _auth_is_possible(self, mechanism: str) -> bool:
        if not self.session.host_name:
            self.refuse(replies.SEND_EHLO)
        elif self.tls is None:  # perhaps a password has just gone over the wire in clear
            reference = self.refuse(replies.AUTH_NEEDS_TLS)
            self._record(Authentication(Reason.CLEAR_TEXT), mechanism, "", Result.REFUSED, reference)
        elif self.identity is not None:
            self.refuse(replies.AUTH_AGAIN)
        elif self.transaction is not None:
            self.refuse(replies.AUTH_IN_MAIL)
        elif not mechanism:
            self.refuse(replies.SYNTAX.filled(syntax="AUTH mechanism"))
        elif mechanism not in sasl.MECHANISMS:
            self.refuse(replies.AUTH_MECHANISM)
        else:
            return True
        return False

    async def _exchange(self, mechanism: str, initial: bytes | None) -> sasl.Login:
        """The SASL conversation. Raises AuthRefused."""
        try:
            if mechanism == "PLAIN":
                return sasl.plain(await self._response(initial, sasl.EMPTY_CHALLENGE))
            username = sasl.text(await self._response(initial, sasl.USERNAME_CHALLENGE))
            return sasl.Login(username, sasl.text(await self._response(None, sasl.PASSWORD_CHALLENGE)))
        except (sasl.NotBase64, sasl.Malformed):
            raise AuthRefused(replies.AUTH_NOT_BASE64, Reason.MALFORMED) from None

    async def _response(self, initial: bytes | None, challenge: bytes) -> bytes:
        """The initial response if there is one ("=" is the empty one), else the answer to the challenge."""
        if initial is not None:
            line = b"" if initial == b"=" else initial
        else:
            self.send(challenge)
            try:
                line = await self.read_line()
            except LineRefused as refused:
                long = refused.reply is replies.TOO_LONG
                raise AuthRefused(replies.AUTH_TOO_LONG if long else refused.reply, Reason.MALFORMED) from None
            if line == b"*":
                raise AuthRefused(replies.AUTH_CANCELLED, Reason.ABORTED)
        if len(line) > sasl.RESPONSE_OCTETS_MAX:
            raise AuthRefused(replies.AUTH_TOO_LONG, Reason.MALFORMED)
        return sasl.decode(line)

    async def _judge(self, mechanism: str, login: sasl.Login) -> None:
        received = self.loop.time()
        if login.authzid and login.authzid != login.username:
            found = Authentication(Reason.IDENTITY)
        elif not login.username or not login.secret:
            found = Authentication(Reason.MALFORMED)
        else:
            found = await authenticate(
                self.server.directory, username=login.username, secret=login.secret, ip=parse_address(self.ip)
            )
            self.server.figures.auth_seconds.observe(self.loop.time() - received)
        if found.entry is not None and found.app_password_id is not None:
            self._accept(mechanism, login, found)
        elif found.reason is Reason.UNAVAILABLE:
            reference = self.refuse(replies.AUTH_UNAVAILABLE)
            self._record(found, mechanism, login.username, Result.ERROR, reference)
        else:
            await self._fail(mechanism, login, found, received)

    def _accept(self, mechanism: str, login: sasl.Login, found: Authentication) -> None:
        assert found.entry is not None and found.app_password_id is not None
        self.identity = Identity(
            found.entry, found.app_password_id, mechanism, self.tls_version, self.tls_cipher, self.loop.time()
        )
        self.server.index(self)
        self.send(replies.AUTHENTICATED.line())
        self._record(found, mechanism, login.username, Result.ACCEPTED, None)

    async def _fail(self, mechanism: str, login: sasl.Login, found: Authentication, received: float) -> None:
        await self.flush()
        await asyncio.sleep(self._fixed_time(received) - self.loop.time())
        self.auth_failures += 1
        reference = self.refuse(replies.AUTH_FAILED)
        self._record(found, mechanism, login.username, Result.REFUSED, reference)
        if self.auth_failures >= FAILURES_MAX:
            self.refuse(replies.AUTH_TOO_MANY)
            self.finish()

    def _fixed_time(self, received: float) -> float:
        """The delay after the response was read; if the work took longer, the next multiple of it."""
        delay = self.server.auth_delay_seconds
        if delay <= 0:
            return received
        multiples = max(1, math.ceil((self.loop.time() - received) / delay))
        return received + multiples * delay + random.uniform(0, JITTER_SECONDS)  # noqa: S311  # no secret is made of it

    def _record(
        self, found: Authentication, mechanism: str, username: str, result: Result, reference: str | None
    ) -> None:
        known = mechanism if mechanism in sasl.MECHANISMS else "other"
        self.server.figures.auth.labels(known, result.value, found.reason.value).inc()
        self.server.recorder.auth(
            attempt(
                result=result,
                reason=found.reason,
                ip=self.ip,
                port=self.port,
                worker=self.server.name,
                username_given=username,
                mechanism=mechanism,
                client_name=self.session.host_name or "",
                tls_version=self.tls_version,
                tls_cipher=self.tls_cipher,
                organization_id=found.organization_id,
                smtp_user_id=found.smtp_user_id,
                app_password_id=found.app_password_id,
                reference=reference,
            )
        )
