"""MAIL and RCPT: the envelope of a message, and the early word on senders and limits.

Source  RFC 5321 4.1.1.2, 4.1.1.3; RFC 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8), 3461 (DSN), 4954 5 (AUTH=),
        8689 (REQUIRETLS).
"""

from dataclasses import replace

from accounts.models import Organization
from audit.record import redacted
from relay import senders
from relay.directory import DirectoryUnavailable, Entry
from relay.limits import OverLimit
from relay.models.messages import REQUIRETLS
from relay.smtp import paths, replies
from relay.smtp.budget import ROOM_FOR_ONE
from relay.smtp.paths import Parsed, PathError
from relay.smtp.replies import Reply
from relay.smtp.state import SessionState, Transaction
from relay.smtp.suppressed import SuppressionsUnavailable, recipients_ahead
from relay.submission import Envelope
from relay.suppressions import suppression_key

ENTRY_SECONDS = 60.0
MAIL_PARAMETERS = frozenset({"SIZE", "BODY", "SMTPUTF8", "AUTH", "RET", "ENVID", "REQUIRETLS"})
RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})


class EnvelopeVerbs(SessionState):
    async def smtp_MAIL(self, argument: str) -> None:
        if not self.may_send():
            return
        if self.transaction is not None:
            self.refuse(replies.NESTED_MAIL)
            return
        parsed = self._parsed(argument, "FROM:", "MAIL FROM:<address>", replies.BAD_SENDER, MAIL_PARAMETERS)
        if parsed is None:
            return
        transaction = self._transaction(parsed)
        if (
            transaction is None
            or not await self._is_known_anew()
            or not self._has_paid()
            or not self._sender_is_theirs(parsed.address)
            or not await self._has_room()
        ):
            return
        redacted(parsed.address, "sender")  # it is stored as it is; if it has a secret in it, the owner is told
        self.transaction = transaction
        self.send(replies.SENDER_OK.line())

    async def smtp_RCPT(self, argument: str) -> None:
        if not self.may_send():
            return
        transaction = self.transaction
        if transaction is None or transaction.chunks is not None:
            self.refuse(replies.MAIL_FIRST)
            return
        parsed = self._parsed(argument, "TO:", "RCPT TO:<address>", replies.BAD_RECIPIENT, RCPT_PARAMETERS)
        if parsed is None:
            return
        if not parsed.address:
            self.refuse(replies.BAD_RECIPIENT.filled(why="A recipient has an address"))
            return
        if not parsed.is_ascii and not transaction.smtputf8:
            self.refuse(replies.NEEDS_SMTPUTF8)
            return
        envelope = self._recipient(parsed)
        if envelope is None or not await self._takes_mail(transaction, parsed.address):
            return
        if not await self._recipient_fits(transaction):
            return
        transaction.recipients.append(envelope)
        self.send(replies.RECIPIENT_OK.line())

    # --- Reading arguments ---------------------------------------------------------------------------------------

    def _parsed(
        self, argument: str, keyword: str, syntax: str, bad: Reply, parameters: frozenset[str]
    ) -> Parsed | None:
        if argument[: len(keyword)].upper() != keyword:
            self.refuse(replies.SYNTAX.filled(syntax=syntax))
            return None
        try:
            # Some clients put a space after the colon; RFC 5321 3.3 lets a server take it.
            parsed = paths.parse(argument[len(keyword) :].lstrip(" "))
        except PathError as error:
            self.refuse((replies.BAD_PARAMETER if error.malformed else bad).filled(why=str(error)))
            return None
        if unknown := set(parsed.parameters) - parameters:
            self.refuse(replies.UNKNOWN_PARAMETER.filled(name=min(unknown)[:40]))
            return None
        return parsed

    def _transaction(self, parsed: Parsed) -> Transaction | None:
        """The parameters of MAIL, each by its own RFC."""
        given = parsed.parameters
        transaction = Transaction(parsed.address, smtputf8="SMTPUTF8" in given)
        try:
            size = _size(given)
            transaction.body_8bit = _body_is_8bit(given)
            transaction.dsn_ret = _ret(given)
            if "REQUIRETLS" in given:
                transaction.dsn_ret = _requiretls(given)
            if "ENVID" in given:
                transaction.dsn_envid = paths.check_xtext("ENVID", given["ENVID"], 100)
            if "AUTH" in given and given["AUTH"] != "<>":
                paths.check_xtext("AUTH", given["AUTH"], 500)  # RFC 4954 5: taken, and dropped
        except PathError as error:
            self.refuse(replies.BAD_PARAMETER.filled(why=str(error)))
            return None
        if size > self.server.message_octets_max:
            self.refuse(replies.TOO_BIG.filled(most=self.server.message_octets_max))
            return None
        if self.server.disk_is_low:
            self.refuse(replies.NO_DISK)
            return None
        if not self.server.budget.has_room(size or ROOM_FOR_ONE):
            self.refuse(replies.NO_MEMORY)
            return None
        if not parsed.is_ascii and not transaction.smtputf8:
            self.refuse(replies.NEEDS_SMTPUTF8)
            return None
        return transaction

    def _recipient(self, parsed: Parsed) -> Envelope | None:
        try:
            notify = paths.check_notify(parsed.parameters["NOTIFY"]) if "NOTIFY" in parsed.parameters else ""
            orcpt = parsed.parameters.get("ORCPT") or ""
            if "ORCPT" in parsed.parameters:
                kind, semicolon, _address = orcpt.partition(";")
                if not kind or not semicolon:
                    raise PathError("ORCPT is address-type;address", malformed=True)
                paths.check_xtext("ORCPT", orcpt, 500)
        except PathError as error:
            self.refuse(replies.BAD_PARAMETER.filled(why=str(error)))
            return None
        return Envelope(parsed.address, notify, orcpt)

    async def _takes_mail(self, transaction: Transaction, address: str) -> bool:
        """False if it is suppressed. What the client has pipelined is looked up with it."""
        assert self.identity is not None
        if not self.identity.entry.has_suppressions:
            return True
        key = suppression_key(address)
        known = transaction.suppressed = transaction.suppressed or {}
        if key not in known:
            keys = {key, *recipients_ahead(self.buffer)}
            try:
                found = await self.server.suppressed.find(self.identity.organization_id, keys)
            except SuppressionsUnavailable:
                self.refuse(replies.UNAVAILABLE)
                return False
            known |= {each: found.get(each, "") for each in keys}
        if known[key]:
            self.refuse(replies.SUPPRESSED.filled(why=known[key]), about=address)
        return not known[key]

    # --- Senders and limits --------------------------------------------------------------------------------------

    async def _is_known_anew(self) -> bool:
        """A session may last for hours: senders, domains and route are read again after a change, and now and then."""
        assert self.identity is not None
        if not self.stale and self.loop.time() - self.identity.read_at < ENTRY_SECONDS:
            return True
        self.stale = False
        try:
            found = await self.server.directory.find(self.identity.entry.state.username)
        except DirectoryUnavailable:
            self.stale = True
            self.refuse(replies.UNAVAILABLE)
            return False
        if isinstance(found, Entry):
            self.identity = replace(self.identity, entry=found, read_at=self.loop.time())
        return True

    def _has_paid(self) -> bool:
        assert self.identity is not None
        if self.identity.entry.state.organization_state != Organization.State.HELD:
            return True
        self.refuse(replies.PAYMENT_DUE)
        return False

    def _sender_is_theirs(self, address: str) -> bool:
        assert self.identity is not None
        if not address:
            if self.identity.entry.may_send_null:
                return True
            self.refuse(replies.NULL_SENDER)
            return False
        why = senders.refusal(self.identity.entry, address)
        if why is not None:
            self.refuse(replies.NOT_YOUR_SENDER.filled(why=why), about=address)
        return why is None

    async def _has_room(self) -> bool:
        """The early word at MAIL: only when there is plainly no room at all, and the excess is not to be held."""
        assert self.identity is not None
        if self.identity.entry.excess == "hold":
            return True
        over = await self.server.glance.obstacle(self.identity, self.ip, 1)
        if over is not None:
            self.refuse(over_limit(over, 1))
        return over is None

    async def _recipient_fits(self, transaction: Transaction) -> bool:
        assert self.identity is not None
        wanted = len(transaction.recipients) + 1
        if wanted > self.server.recipients_max:
            self.refuse(replies.TOO_MANY_RECIPIENTS.filled(most=self.server.recipients_max))
            return False
        if self.identity.entry.excess == "hold":
            return True
        over = await self.server.glance.obstacle(self.identity, self.ip, wanted)
        if over is not None:
            self.refuse(replies.NO_ROOM_RECIPIENT.filled(room=max(over.room, wanted - 1)))
        return over is None


def over_limit(over: OverLimit, count: int) -> Reply:
    """The words of a limit: always 4xx, for a 5xx would destroy the mail."""
    if over.seconds is None:
        return replies.NEVER_FITS.filled(count=count, limit=over.limit, whose=replies.whose(over.scope))
    return replies.OVER_LIMIT.filled(limit=over.limit, whose=replies.whose(over.scope), seconds=over.seconds)


def _size(given: dict[str, str | None]) -> int:
    value = given.get("SIZE", "0") or ""
    if not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise PathError("SIZE is a number of octets", malformed=True)
    return int(value)


def _body_is_8bit(given: dict[str, str | None]) -> bool:
    if "BODY" not in given:
        return False
    value = (given["BODY"] or "").upper()
    if value not in {"7BIT", "8BITMIME"}:
        raise PathError("BODY is 7BIT or 8BITMIME", malformed=True)
    return value == "8BITMIME"


def _requiretls(given: dict[str, str | None]) -> str:
    """RFC 8689 4.1: without a value. The session is under TLS, or it could not send."""
    if given["REQUIRETLS"] is not None:
        raise PathError("REQUIRETLS has no value", malformed=True)
    return REQUIRETLS


def _ret(given: dict[str, str | None]) -> str:
    if "RET" not in given:
        return ""
    value = (given["RET"] or "").upper()
    if value not in {"FULL", "HDRS"}:
        raise PathError("RET is FULL or HDRS", malformed=True)
    return value
