"""The SASL conversations: who speaks first, what is sent, and what the client's answers amount to.

Shapes  exchange(mechanism, initial) -> Login or TokenLogin, to be judged. Nothing here depends on whether a name
        exists: the same messages go back and forth, at the same times, with the same text but for nonces and salts.
Units   seconds on the event loop's clock.
Errors  AuthRefused: the exchange ended before a credential was judged.
Source  RFC 4954 4; RFC 4616, RFC 5802, RFC 2195, RFC 7628; docs/smtp.md, Signing in.
"""

import asyncio
import math
import random
import secrets
import time

from django.conf import settings

from audit.models import Reason
from relay import app_passwords
from relay.directory import DirectoryUnavailable, Entry, canonical_username
from relay.smtp import replies, sasl, scram
from relay.smtp.protocol import LineRefused
from relay.smtp.replies import Reply
from relay.smtp.state import SessionState

JITTER_SECONDS = 0.03
CHALLENGE_SECONDS = 0.1  # until SCRAM's first answer, at least: a name that must be looked up takes as long as another


class AuthRefused(Exception):
    """The exchange ended before a credential was judged. username: as far as the client had said it."""

    def __init__(self, reply: Reply, reason: Reason, username: str = "") -> None:
        super().__init__(reply.text)
        self.reply, self.reason, self.username = reply, reason, username


class Exchanges(SessionState):
    async def _exchange(self, mechanism: str, initial: bytes | None) -> sasl.Login | sasl.TokenLogin:
        """The SASL conversation. Raises AuthRefused."""
        try:
            match mechanism:
                case "PLAIN":
                    return sasl.plain(await self._response(initial, sasl.EMPTY_CHALLENGE))
                case "LOGIN":
                    username = sasl.text(await self._response(initial, sasl.USERNAME_CHALLENGE))
                    secret = await self._response(None, sasl.PASSWORD_CHALLENGE, username)
                    return sasl.password(username, sasl.text(secret))
                case "OAUTHBEARER":
                    return sasl.oauthbearer(
                        await self._response(initial, sasl.EMPTY_CHALLENGE),
                        discovery=f"{settings.GATEPOST_WEB_URL}/.well-known/oauth-authorization-server",
                    )
                case "XOAUTH2":
                    return sasl.xoauth2(await self._response(initial, sasl.EMPTY_CHALLENGE))
                case sasl.CRAM_MD5:
                    return await self._cram_md5(initial)
                case _:
                    return await self._scram(await self._response(initial, sasl.EMPTY_CHALLENGE))
        except (sasl.NotBase64, sasl.Malformed):
            raise AuthRefused(replies.AUTH_NOT_BASE64, Reason.MALFORMED) from None
        except sasl.ChannelBinding:
            raise AuthRefused(replies.AUTH_CHANNEL_BINDING, Reason.MALFORMED) from None

    async def _cram_md5(self, initial: bytes | None) -> sasl.Login:
        if initial is not None:  # RFC 4954 4: the server speaks first
            raise AuthRefused(replies.AUTH_INITIAL, Reason.MALFORMED)
        sent = f"<{secrets.token_hex(12)}.{int(time.time())}@{self.server.hostname}>".encode()
        return sasl.cram_md5(await self._response(None, sasl.challenge(sent)), sent)

    async def _scram(self, message: bytes) -> sasl.Login:
        received = self.loop.time()
        first = scram.client_first(message)
        salt, iterations = await self._salt_of(first.username)
        await self.flush()
        await self._at_fixed_time(received, min(CHALLENGE_SECONDS, self.server.auth_delay_seconds))
        challenge = first.answer(salt=salt, iterations=iterations)
        try:
            return challenge.login(await self._response(None, sasl.challenge(challenge.text), first.username))
        except (sasl.NotBase64, sasl.Malformed):
            raise AuthRefused(replies.AUTH_NOT_BASE64, Reason.MALFORMED, first.username) from None

    async def _salt_of(self, username: str) -> tuple[bytes, int]:
        """The SMTP user's; of a name that nobody has, what it would get: the client cannot tell them apart."""
        try:
            found = await self.server.directory.find(username)
        except DirectoryUnavailable:
            raise AuthRefused(replies.AUTH_UNAVAILABLE, Reason.UNAVAILABLE, username) from None
        if isinstance(found, Entry):
            return found.state.scram_salt, found.state.scram_iterations
        return app_passwords.scram_salt(canonical_username(username)), app_passwords.SCRAM_ITERATIONS

    async def _response(self, initial: bytes | None, challenge: bytes, username: str = "") -> bytes:
        """The initial response if there is one ("=" is the empty one), else the answer to the challenge."""
        if initial is not None:
            line = b"" if initial == b"=" else initial
        else:
            self.send(challenge)
            try:
                line = await self.read_line()
            except LineRefused as refused:
                long = refused.reply is replies.TOO_LONG
                reply = replies.AUTH_TOO_LONG if long else refused.reply
                raise AuthRefused(reply, Reason.MALFORMED, username) from None
            if line == b"*":
                raise AuthRefused(replies.AUTH_CANCELLED, Reason.ABORTED, username)
        if len(line) > sasl.RESPONSE_OCTETS_MAX:
            raise AuthRefused(replies.AUTH_TOO_LONG, Reason.MALFORMED, username)
        return sasl.decode(line)

    async def _at_fixed_time(self, received: float, step: float) -> None:
        """Waits until `step` after what was received; if the work took longer, for the next multiple of it."""
        if step <= 0:
            return
        multiples = max(1, math.ceil((self.loop.time() - received) / step))
        jitter = random.uniform(0, min(JITTER_SECONDS, step))  # noqa: S311  # no secret is made of it
        await asyncio.sleep(received + multiples * step + jitter - self.loop.time())
