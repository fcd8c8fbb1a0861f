"""DATA and BDAT: the content, and the one 250 that binds us.

Source  RFC 5321 4.1.1.4, 6.1; RFC 3030 (BDAT); RFC 6409 8.
"""

import asyncio
from datetime import UTC, datetime

from audit.models import Reason
from audit.record import new_reference, printable
from relay import senders
from relay.ids import uuid7
from relay.limits import OverLimit
from relay.smtp import content as message_content
from relay.smtp import replies
from relay.smtp.content import ContentRefused
from relay.smtp.envelope import over_limit
from relay.smtp.replies import Reply
from relay.smtp.state import Identity, SessionState, Transaction
from relay.submission import Accepted, Ended, Outcome, PaymentDue, Submission, submit

THREAD_OCTETS = 1024 * 1024  # content beyond this is inspected off the loop, so that it holds nobody up


class DataVerbs(SessionState):
    async def smtp_DATA(self, argument: str) -> None:
        if not self.may_send():
            return
        transaction = self.transaction
        if transaction is None:
            self.refuse(replies.MAIL_FIRST)
        elif transaction.chunks is not None:
            self.refuse(replies.DATA_AFTER_BDAT)
        elif not transaction.recipients:
            self.refuse(replies.RCPT_FIRST)
        else:
            try:
                await self.server.turnstile.enter(self)
                self.send(replies.START_DATA.line())
                raw = await self.read_data(self.server.message_octets_max)
                self.server.turnstile.received(self)
                if isinstance(raw, Reply):
                    self.refuse(raw)
                else:
                    await self._take(transaction, raw, stuffed=True)
            finally:
                self.server.turnstile.leave(self)
                self.reset()

    async def smtp_BDAT(self, argument: str) -> None:
        """The octets of a chunk are read whatever the answer will be: they must never be taken for commands."""
        size, _, last = argument.partition(" ")
        if not (size.isascii() and size.isdigit() and len(size) <= 12) or last.upper() not in {"", "LAST"}:
            self.refuse(replies.SYNTAX.filled(syntax="BDAT octets [LAST]"))
            return
        transaction, octets = self.transaction, int(size)
        usable = self.identity is not None and transaction is not None and bool(transaction.recipients)
        fits = transaction is not None and transaction.octets + octets <= self.server.message_octets_max
        chunk = await self.read_chunk(octets, keep=usable and fits)
        if not self.may_send():
            return
        if transaction is None or not usable:
            self.refuse(replies.BDAT_FAILED if transaction is None else replies.RCPT_FIRST)
        elif not fits:
            self.refuse(replies.TOO_BIG.filled(most=self.server.message_octets_max))
            self.reset()
        elif chunk is None:
            self.refuse(replies.NO_MEMORY)
            self.reset()
        else:
            await self._add_chunk(transaction, chunk, last=bool(last))

    async def _add_chunk(self, transaction: Transaction, chunk: bytes, *, last: bool) -> None:
        transaction.chunks = transaction.chunks or bytearray()
        transaction.chunks += chunk
        transaction.octets += len(chunk)
        if last:
            try:
                await self._take(transaction, bytes(transaction.chunks), stuffed=False)
            finally:
                self.reset()
        else:
            self.send(replies.CHUNK_OK.filled(octets=len(chunk)).line())

    async def _take(self, transaction: Transaction, raw: bytes, *, stuffed: bool) -> None:
        """Checks and completes the content, hands it to the writer, and says what became of it."""
        await self.flush()
        reference = new_reference()
        try:
            if len(raw) > THREAD_OCTETS:
                submission = await asyncio.to_thread(self._submission, transaction, raw, reference, stuffed)
            else:
                submission = self._submission(transaction, raw, reference, stuffed)
        except ContentRefused as refused:
            self.refuse(refused.reply)
            return
        began = self.loop.time()
        outcome = await submit(self.server.writer, submission)
        self.server.figures.writer_seconds.observe(self.loop.time() - began)
        self._answer(outcome, submission)

    def _submission(self, transaction: Transaction, raw: bytes, reference: str, stuffed: bool) -> Submission:
        """Everything that the core stores. Raises ContentRefused."""
        assert self.identity is not None
        content = message_content.unstuff(raw) if stuffed else raw
        headers = message_content.inspect(content, long_lines=self.server.long_lines)
        why = senders.refusal(self.identity.entry, headers.header_from)
        if why is not None:
            raise ContentRefused(replies.NOT_YOUR_SENDER.filled(why=f"From: {why}"))
        now, id = datetime.now(UTC), uuid7()
        received = self._trace(self.identity, transaction, reference, now)
        return Submission(
            id=id,
            reference=reference,
            organization_id=self.identity.organization_id,
            smtp_user_id=self.identity.smtp_user_id,
            app_password_id=self.identity.app_password_id,
            reverse_path=transaction.reverse_path,
            recipients=tuple(transaction.recipients),
            content=message_content.complete(
                content, headers, received=received, id=id, hostname=self.server.hostname, now=now
            ),
            route=self.identity.entry.route_for(headers.header_from),
            header_from=printable(headers.header_from, 320),
            header_message_id=headers.message_id,
            subject=headers.subject,
            smtputf8=transaction.smtputf8,
            body_8bit=transaction.body_8bit,
            dsn_ret=transaction.dsn_ret,
            dsn_envid=transaction.dsn_envid,
            received_at=now,
            client_ip=self.ip,
            client_name=self.session.host_name,
            tls_version=self.identity.tls_version,
            tls_cipher=self.identity.tls_cipher,
            mechanism=self.identity.mechanism,
            port=self.port,
            worker=self.server.name,
            token=self.identity.token,
        )

    def _trace(self, identity: Identity, transaction: Transaction, reference: str, now: datetime) -> bytes:
        return message_content.received_header(
            client_name=self.session.host_name,
            client_ip=self.ip,
            hostname=self.server.hostname,
            reference=reference,
            tls=f"{identity.tls_version} {identity.tls_cipher}",
            utf8=transaction.smtputf8,
            now=now,
        )

    def _answer(self, outcome: Outcome, submission: Submission) -> None:
        if isinstance(outcome, Accepted):
            reply = replies.HELD if outcome.held else replies.ACCEPTED
            self.send(reply.filled(reference=submission.reference).line())
            self.server.figures.accepted.inc()
            if not outcome.held:
                self.server.glance.taken(submission)
        elif isinstance(outcome, OverLimit):
            self.server.glance.learn(submission)
            self.refuse(over_limit(outcome, len(submission.recipients)))
        elif isinstance(outcome, Ended):
            self.ended = True  # the loop says 421 and closes
            if outcome.reason is Reason.TOKEN_EXPIRED:
                self.last_words = replies.TOKEN_ENDED
        elif isinstance(outcome, PaymentDue):
            self.refuse(replies.PAYMENT_DUE)
        elif outcome.disk_is_full:
            self.server.note_full_disk()
            self.refuse(replies.NO_DISK, about=outcome.why)
        else:
            self.refuse(replies.UNAVAILABLE, about=outcome.why)
