"""AUTH, under TLS: one public answer to every failure, and the true reason in the audit row.

Shapes  smtp_AUTH: exchange (relay.smtp.exchanges), whether it may be judged now (relay.guessing), verdict
        (relay.submission), audit row, answer.
Source  RFC 4954; docs/smtp.md, AUTH.
Units   seconds on the event loop's clock.

A failure is answered at a fixed time after the response was read, whatever the work took: neither a cache nor a missing
user can be told from a wrong password by waiting. It is a timer, so it holds nobody else up.
"""

import contextlib
import time

from audit.models import Reason, Result
from audit.record import attempt
from relay import cram_md5
from relay.directory import canonical_username
from relay.guessing.model import Try
from relay.networks import parse_address
from relay.proofs import ScramProof
from relay.smtp import replies, sasl, scram
from relay.smtp.exchanges import AuthRefused, Exchanges
from relay.smtp.guesses import Guesses
from relay.smtp.protocol import LineRefused
from relay.smtp.recorder import Recorded
from relay.smtp.state import Identity
from relay.submission import Authentication, authenticate, authenticate_token, permitted

Claim = sasl.Login | sasl.TokenLogin


class AuthVerb(Exchanges, Guesses):
    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What EHLO lists, and nothing else is taken."""
        return (*sasl.MECHANISMS, sasl.CRAM_MD5) if cram_md5.is_allowed() else sasl.MECHANISMS

    async def smtp_AUTH(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        mechanism = mechanism.upper()
        if not self._auth_is_possible(mechanism):
            return
        try:
            login = await self._exchange(mechanism, initial.strip().encode() if initial else None)
            await self._judge(mechanism, login)
        except AuthRefused as refused:
            result = Result.ERROR if refused.reason is Reason.UNAVAILABLE else Result.REFUSED
            recorded = self._record(Authentication(refused.reason), mechanism, refused.username, result)
            self.refuse_recorded(refused.reply, recorded)

    def _auth_is_possible(self, mechanism: str) -> bool:
        if not self.session.host_name:
            self.refuse(replies.SEND_EHLO)
        elif self.tls is None:  # perhaps a password has just gone over the wire in clear
            recorded = self._record(Authentication(Reason.CLEAR_TEXT), mechanism, "", Result.REFUSED)
            self.refuse_recorded(replies.AUTH_NEEDS_TLS, recorded)
        elif self.identity is not None:
            self.refuse(replies.AUTH_AGAIN)
        elif self.transaction is not None:
            self.refuse(replies.AUTH_IN_MAIL)
        elif not mechanism:
            self.refuse(replies.SYNTAX.filled(syntax="AUTH mechanism"))
        elif mechanism not in self.mechanisms:
            self.refuse(replies.AUTH_MECHANISM)
        else:
            return True
        return False

    async def _judge(self, mechanism: str, login: Claim) -> None:
        received, tried = self.loop.time(), self.tried(login)
        if wait := self.server.guard.wait(tried):
            self._put_off(mechanism, login, tried, wait)
            return
        found = await self._verdict(mechanism, login)
        self.server.figures.auth_seconds.observe(self.loop.time() - received)
        if found.entry is not None and isinstance(login, sasl.Login) and isinstance(login.proof, ScramProof):
            await self._prove_ourselves(login.proof, found, login.username)
            found = await self._verdict(mechanism, login)  # it may have ended while the client looked at our proof
        if found.entry is not None:
            self.server.guard.succeeded(tried)
            self._accept(mechanism, login, found)
        elif found.reason is Reason.UNAVAILABLE:
            recorded = self._record(found, mechanism, login.username, Result.ERROR)
            self.refuse_recorded(replies.AUTH_UNAVAILABLE, recorded)
        else:
            self.server.guard.failed(tried)
            await self._fail(mechanism, login, found, received)

    def _put_off(self, mechanism: str, login: Claim, tried: Try, wait: int) -> None:
        """Nothing was judged, so that the answer may come at once: it says the same of every name."""
        self.server.guard.put_off(tried)
        recorded = self._record(Authentication(Reason.THROTTLED), mechanism, login.username, Result.REFUSED)
        self.refuse_recorded(replies.AUTH_THROTTLED.filled(seconds=wait), recorded)
        self.end_after_failures(recorded)

    async def _verdict(self, mechanism: str, login: Claim) -> Authentication:
        """The organization's policy comes last: only who has the secret may be refused for how it was sent."""
        return permitted(await self._identified(login), mechanism=mechanism, tls_version=self.tls_version)

    async def _identified(self, login: Claim) -> Authentication:
        ip = parse_address(self.ip)
        if isinstance(login, sasl.TokenLogin):
            if not login.token:
                return Authentication(Reason.MALFORMED)
            return await authenticate_token(
                self.server.pool, self.server.directory, username=login.username, token=login.token, ip=ip
            )
        if login.authzid and canonical_username(login.authzid) != canonical_username(login.username):
            return Authentication(Reason.IDENTITY)
        if not login.username or login.proof is None:
            return Authentication(Reason.MALFORMED)
        return await authenticate(self.server.directory, username=login.username, proof=login.proof, ip=ip)

    async def _prove_ourselves(self, proof: ScramProof, found: Authentication, username: str) -> None:
        """SCRAM's last word to a client that is right (RFC 5802 7), which goes as a challenge (RFC 4954 4)."""
        assert found.entry is not None
        password = proof.find(found.entry.state)
        assert password is not None
        final = sasl.challenge(scram.server_final(proof.signature(password)))
        try:
            answer = await self._response(None, final, username)
        except sasl.NotBase64:
            answer = b"?"
        if answer:
            raise AuthRefused(replies.AUTH_NOT_BASE64, Reason.MALFORMED, username)

    def _accept(self, mechanism: str, login: Claim, found: Authentication) -> None:
        assert found.entry is not None
        now = self.loop.time()
        self.identity = Identity(
            found.entry, found.app_password_id, mechanism, self.tls_version, self.tls_cipher, now, found.token
        )
        if found.token is not None:
            self.ends_at = now + found.token.until - time.time()
        self.server.index(self)
        self.send(replies.AUTHENTICATED.line())
        username = login.username or found.entry.state.username  # a token names its SMTP user by itself
        self._record(found, mechanism, username, Result.ACCEPTED)

    async def _fail(self, mechanism: str, login: Claim, found: Authentication, received: float) -> None:
        await self.flush()
        await self._at_fixed_time(received, self.server.auth_delay_seconds)
        if isinstance(login, sasl.TokenLogin):
            await self._tell_error(login)
        recorded = self._record(found, mechanism, login.username, Result.REFUSED)
        self.refuse_recorded(replies.AUTH_FAILED, recorded)
        self.end_after_failures(recorded)

    async def _tell_error(self, login: sasl.TokenLogin) -> None:
        """A failed token is told in JSON first; the answer to whatever the client says then is one (RFC 7628 3.2.3)."""
        self.send(sasl.challenge(login.error))
        with contextlib.suppress(LineRefused):
            await self.read_line()

    def _record(self, found: Authentication, mechanism: str, username: str, result: Result) -> Recorded:
        """The reference under which it will be found."""
        known = mechanism if mechanism in self.mechanisms else "other"
        self.server.figures.auth.labels(known, result.value, found.reason.value).inc()
        return self.server.recorder.auth(
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
            ),
            trusted=self.server.guard.is_trusted(self.ip),
        )
