"""The one transaction that accepts mail: state of the sender, debit of every limit, message, content, recipients.

Shapes  accept(connection, [Submission]) -> [Outcome], in order. The connection is in autocommit; two round trips.
Errors  psycopg.Error, after which nothing of the batch is stored. 40P01 and 40001 may be tried again.
Source  docs/flow.md; RFC 5321 6.1 (duty after 250).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from accounts.models import Organization
from audit.models import Reason
from relay.limits import (
    HOLD_HOURS,
    IP,
    LOCK_ROWS,
    MAKE_ROWS,
    ORGANIZATION,
    READ_CLOCK,
    SAVE_ROWS,
    Key,
    Need,
    OverLimit,
    Row,
    decide,
    key_arrays,
    keys_and_limits,
    rows_from,
    save_arrays,
)
from relay.models import SmtpUser
from relay.models.messages import Route
from relay.queue import NEVER
from relay.submission import Accepted, Ended, Outcome, Submission

READ_SENDERS = """
    SELECT smtp_user.id, smtp_user.disabled_at IS NOT NULL, smtp_user.excess, smtp_user.recipients_per_hour,
           smtp_user.recipients_per_hour_per_ip, customer.state, plan.recipients_per_hour
    FROM relay_smtpuser smtp_user
    JOIN accounts_organization customer ON customer.id = smtp_user.organization_id
    JOIN accounts_subscription bought ON bought.organization_id = customer.id
    JOIN accounts_plan plan ON plan.id = bought.plan_id
    WHERE smtp_user.id = ANY(%s)
"""
READ_PASSWORDS = """
    SELECT id, revoked_at IS NOT NULL FROM relay_apppassword
    WHERE id = ANY(%s) AND (revoked_at IS NOT NULL OR expires_at <= clock_timestamp())
"""
COUNT_HELD = """
    SELECT count(*) FROM relay_recipient held JOIN relay_message message ON message.id = held.message_id
    WHERE held.state = 'held' AND message.organization_id = %s
"""
INSERT_MESSAGES = """
    INSERT INTO relay_message (id, reference, organization_id, smtp_user_id, app_password_id, reverse_path, header_from,
        header_message_id, subject, size_octets, recipient_count, route, smtputf8, body_8bit, dsn_ret, dsn_envid,
        received_at, client_ip, client_name, tls_version, tls_cipher, mechanism, port, worker)
    SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[],
        %s::text[], %s::text[], %s::bigint[], %s::int[], %s::text[], %s::bool[], %s::bool[], %s::text[], %s::text[],
        %s::timestamptz[], %s::inet[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[])
"""
# As text the content would double in size and be parsed again: %b sends it as it is.
INSERT_CONTENT = "INSERT INTO relay_messagedata (message_id, content) SELECT * FROM unnest(%s::uuid[], %b::bytea[])"
INSERT_RECIPIENTS = """
    INSERT INTO relay_recipient (message_id, address, state, dsn_notify, dsn_orcpt, due_at, attempts,
        possibly_delivered, reply)
    SELECT message_id, address, state, notify, orcpt, coalesce(due_at, clock_timestamp()), 0, false, ''
    FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
         AS taken (message_id, address, state, notify, orcpt, due_at)
"""


@dataclass(frozen=True, slots=True)
class SenderState:
    """An SMTP user as the transaction finds it, never from a cache."""

    disabled: bool
    excess: str
    recipients_per_hour: int | None
    recipients_per_hour_per_ip: int | None
    organization_state: str
    plan_recipients_per_hour: int


@dataclass(slots=True)
class Reading:
    """What the transaction read under its locks."""

    rows: dict[Key, Row]
    senders: dict[int, SenderState]
    ended_passwords: dict[int, bool]  # True: revoked, False: expired
    now: float

    def need_of(self, submission: Submission) -> Need:
        sender = self.senders[submission.smtp_user_id]
        return Need(
            keys_and_limits(
                submission.organization_id,
                sender.plan_recipients_per_hour,
                smtp_user_id=submission.smtp_user_id,
                smtp_user_limit=sender.recipients_per_hour,
                ip=submission.client_ip or None,
                ip_limit=sender.recipients_per_hour_per_ip,
            ),
            len(submission.recipients),
        )

    def obstacle_to(self, submission: Submission) -> Ended | None:
        sender = self.senders.get(submission.smtp_user_id)
        if sender is None or sender.disabled:
            return Ended(Reason.USER_DISABLED)
        if sender.organization_state == Organization.State.SUSPENDED:
            return Ended(Reason.ORGANIZATION_SUSPENDED)
        revoked = self.ended_passwords.get(submission.app_password_id)
        if revoked is None:
            return None
        return Ended(Reason.REVOKED if revoked else Reason.EXPIRED)


LOOKS = 5  # a second one is usual; each more would need yet another limit set in between


class RowsMissing(Exception):
    """A limit was set, or a window removed, since this process last looked: make the rows and begin again."""

    def __init__(self, keys: set[Key]) -> None:
        self.keys = keys


class Acceptor:
    """Runs the transaction, and remembers which windows bind an SMTP user so that the first lock takes them all."""

    KNOWN_MAX = 100_000

    def __init__(self) -> None:
        self._scopes: dict[int, tuple[int, ...]] = {}

    async def accept(self, conn: AsyncConnection[Any], batch: Sequence[Submission]) -> list[Outcome]:
        keys = {key for submission in batch for key in self._keys(submission)}
        for _look in range(LOOKS):
            try:
                async with conn.pipeline(), conn.transaction():
                    reading = await _lock_and_read(conn, batch, keys)
                    needs = self._needs(batch, reading)
                    outcomes = await _decide(conn, batch, needs, reading)
                    await _store(conn, batch, outcomes, reading)
                return outcomes
            except RowsMissing as missing:
                await conn.execute(MAKE_ROWS, key_arrays(missing.keys))
                keys |= missing.keys
        raise RuntimeError("windows that were made are not found")

    def _keys(self, submission: Submission) -> list[Key]:
        scopes = self._scopes.get(submission.smtp_user_id, (ORGANIZATION,))
        return [self._key(scope, submission) for scope in scopes]

    @staticmethod
    def _key(scope: int, submission: Submission) -> Key:
        owner_id = submission.organization_id if scope == ORGANIZATION else submission.smtp_user_id
        return Key(scope, owner_id, submission.client_ip if scope == IP else None)

    def _needs(self, batch: Sequence[Submission], reading: Reading) -> dict[UUID, Need]:
        """What each message that may be accepted asks of the windows; all of them must have been locked."""
        if len(self._scopes) > self.KNOWN_MAX:
            self._scopes.clear()
        needs = {}
        for submission in batch:
            if reading.obstacle_to(submission) is None:
                need = needs[submission.id] = reading.need_of(submission)
                self._scopes[submission.smtp_user_id] = tuple(key.scope for key, _limit in need.limits)
        missing = {key for need in needs.values() for key, _limit in need.limits} - set(reading.rows)
        if missing:
            raise RowsMissing(missing)
        return needs


async def _lock_and_read(conn: AsyncConnection[Any], batch: Sequence[Submission], keys: set[Key]) -> Reading:
    """One round trip. The clock is read by a statement of its own: within the locking one it could precede the lock."""
    locked = await conn.execute(LOCK_ROWS, key_arrays(keys))
    senders = await conn.execute(READ_SENDERS, [sorted({submission.smtp_user_id for submission in batch})])
    passwords = await conn.execute(READ_PASSWORDS, [sorted({submission.app_password_id for submission in batch})])
    clock = await conn.execute(READ_CLOCK)
    rows = rows_from(await locked.fetchall())
    states = {id: SenderState(*state) for id, *state in await senders.fetchall()}
    ended = dict(await passwords.fetchall())
    record = await clock.fetchone()
    assert record is not None
    return Reading(rows, states, ended, record[0])


async def _decide(
    conn: AsyncConnection[Any], batch: Sequence[Submission], needs: dict[UUID, Need], reading: Reading
) -> list[Outcome]:
    """One by one, in order: what a message debits is gone for those after it."""
    outcomes: list[Outcome] = []
    held: dict[int, int] = {}
    for submission in batch:
        outcome: Outcome | None = reading.obstacle_to(submission)
        if outcome is None:
            outcome = decide(needs[submission.id], reading.rows, now=reading.now) or Accepted()
        if isinstance(outcome, OverLimit) and reading.senders[submission.smtp_user_id].excess == SmtpUser.Excess.HOLD:
            outcome = await _hold(conn, submission, outcome, reading, held)
        outcomes.append(outcome)
    return outcomes


async def _hold(
    conn: AsyncConnection[Any], submission: Submission, over: OverLimit, reading: Reading, held: dict[int, int]
) -> Outcome:
    """Stored undebited, if the organization has not too much held already and the message can fit at all."""
    if over.seconds is None:
        return over
    organization_id = submission.organization_id
    if organization_id not in held:
        record = await (await conn.execute(COUNT_HELD, [organization_id])).fetchone()
        held[organization_id] = record[0] if record else 0
    most = HOLD_HOURS * reading.senders[submission.smtp_user_id].plan_recipients_per_hour
    if held[organization_id] + len(submission.recipients) > most:
        return over
    held[organization_id] += len(submission.recipients)
    return Accepted(held=True)


async def _store(
    conn: AsyncConnection[Any], batch: Sequence[Submission], outcomes: Sequence[Outcome], reading: Reading
) -> None:
    taken = [(each, outcome) for each, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, Accepted)]
    if not taken:
        return
    if debits := save_arrays(reading.rows):
        await conn.execute(SAVE_ROWS, debits)
    messages = [submission for submission, _outcome in taken]
    await conn.execute(INSERT_MESSAGES, _columns(messages))
    await conn.execute(INSERT_CONTENT, [[each.id for each in messages], [each.content for each in messages]])
    recipients = [
        (
            submission.id,
            envelope.address,
            "held" if outcome.held else "queued",
            envelope.notify,
            envelope.orcpt,
            NEVER if submission.route == Route.HOLD else None,  # None: now, by PostgreSQL's clock
        )
        for submission, outcome in taken
        for envelope in submission.recipients
    ]
    await conn.execute(INSERT_RECIPIENTS, [list(column) for column in zip(*recipients, strict=True)])


def _columns(messages: Sequence[Submission]) -> list[list[Any]]:
    records = [
        (
            each.id, each.reference, each.organization_id, each.smtp_user_id, each.app_password_id, each.reverse_path,
            each.header_from, each.header_message_id, each.subject, len(each.content), len(each.recipients), each.route,
            each.smtputf8, each.body_8bit, each.dsn_ret, each.dsn_envid, each.received_at, each.client_ip or None,
            each.client_name, each.tls_version, each.tls_cipher, each.mechanism, each.port, each.worker,
        )
        for each in messages
    ]  # fmt: skip
    return [list(column) for column in zip(*records, strict=True)]
