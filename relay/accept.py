"""The one transaction that accepts mail: state of the sender, debit of every limit, message, content, recipients.

Shapes  accept(connection, [Submission]) -> [Outcome], in order. The connection is in autocommit; two round trips, the
        statements prepared once for each connection.
Errors  psycopg.Error, after which nothing of the batch is stored. 40P01 and 40001 may be tried again.
Source  docs/flow.md; RFC 5321 6.1 (duty after 250).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.pq.abc import PGresult

from accounts.models import Organization
from audit.models import Reason
from relay.limits import (
    HOLD_HOURS,
    IP,
    LOCK_ROWS,
    MAKE_ROWS,
    ORGANIZATION,
    Key,
    Need,
    OverLimit,
    Row,
    decide,
    key_arrays,
    keys_and_limits,
)
from relay.models import Recipient, SmtpUser
from relay.models.messages import NEVER, Route
from relay.statements import Parameter, Statements, array, bytea_array
from relay.submission import Accepted, Ended, Envelope, Outcome, PaymentDue, Submission
from relay.windows import Window

BEGIN, COMMIT, ROLLBACK = "BEGIN", "COMMIT", "ROLLBACK"
READ_SENDERS = """
    SELECT wanted.smtp_user_id, wanted.app_password_id, smtp_user.disabled_at IS NOT NULL, smtp_user.excess,
           smtp_user.recipients_per_hour, smtp_user.recipients_per_hour_per_ip, customer.state,
           plan.recipients_per_hour, smtp_user.token_epoch,
           CASE WHEN password.revoked_at IS NOT NULL THEN 'revoked'
                WHEN password.expires_at <= clock_timestamp() THEN 'expired'
                WHEN password.slept_at IS NOT NULL THEN 'asleep' ELSE '' END,
           extract(epoch FROM clock_timestamp())::float8
    FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (smtp_user_id, app_password_id)
    JOIN relay_smtpuser smtp_user ON smtp_user.id = wanted.smtp_user_id
    LEFT JOIN relay_apppassword password ON password.id = wanted.app_password_id
    JOIN accounts_organization customer ON customer.id = smtp_user.organization_id
    JOIN accounts_subscription bought ON bought.organization_id = customer.id
    JOIN accounts_plan plan ON plan.id = bought.plan_id
"""
COUNT_HELD = """
    SELECT count(*) FROM relay_recipient held JOIN relay_message message ON message.id = held.message_id
    WHERE held.state = 'held' AND held.due_at < '9999-01-01 00:00+00' AND message.organization_id = %s
"""
# One statement stores everything: a row of JSON is far cheaper to make and to read than two dozen arrays, and only the
# content goes beside it, in binary: as text it would double in size and be parsed again.
STORE = """
    WITH debited AS (
        UPDATE relay_limitwindow SET minute = saved.minute, buckets = saved.buckets
        FROM json_to_recordset(%s::json) AS saved (id bigint, minute bigint, buckets int[])
        WHERE relay_limitwindow.id = saved.id
    ), stored AS (
        INSERT INTO relay_message (id, reference, organization_id, smtp_user_id, app_password_id, reverse_path,
            header_from, header_message_id, subject, size_octets, recipient_count, route, smtputf8, body_8bit, dsn_ret,
            dsn_envid, received_at, client_ip, client_name, tls_version, tls_cipher, mechanism, port, worker)
        SELECT id, reference, organization_id, smtp_user_id, app_password_id, reverse_path, header_from,
            header_message_id, subject, size_octets, recipient_count, route, smtputf8, body_8bit, dsn_ret, dsn_envid,
            received_at, client_ip, client_name, tls_version, tls_cipher, mechanism, port, worker
        FROM json_populate_recordset(NULL::relay_message, %s::json)
    ), kept AS (
        INSERT INTO relay_messagedata (message_id, content) SELECT * FROM unnest(%s::uuid[], %s::bytea[])
    )
    INSERT INTO relay_recipient (message_id, address, state, dsn_notify, dsn_orcpt, due_at, attempts,
        possibly_delivered, reply)
    SELECT message_id, address, state, notify, orcpt, coalesce(due_at, clock_timestamp()), 0, false, ''
    FROM json_to_recordset(%s::json) AS taken (message_id uuid, address text, state text, notify text, orcpt text,
        due_at timestamptz)
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
    token_epoch: int


@dataclass(slots=True)
class Reading:
    """What the transaction read under its locks. passwords: "revoked", "expired", "asleep" or "", by app password."""

    rows: dict[Key, Row]
    senders: dict[int, SenderState]
    passwords: dict[int, str]
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

    def obstacle_to(self, submission: Submission) -> Ended | PaymentDue | None:
        sender = self.senders.get(submission.smtp_user_id)
        if sender is None or sender.disabled:
            return Ended(Reason.USER_DISABLED)
        if sender.organization_state == Organization.State.SUSPENDED:
            return Ended(Reason.ORGANIZATION_SUSPENDED)
        if sender.organization_state == Organization.State.HELD:
            return PaymentDue()
        if submission.token is not None:
            if submission.token.epoch != sender.token_epoch:
                return Ended(Reason.REVOKED)
            return Ended(Reason.TOKEN_EXPIRED) if submission.token.until <= self.now else None
        if submission.app_password_id is None:
            return Ended(Reason.REVOKED)  # it stands on nothing
        ended = self.passwords.get(submission.app_password_id, "revoked")
        return Ended(Reason(ended)) if ended else None


ACCEPTED = Accepted()
NO_PASSWORD = 0  # no app password has this id: the sender signed in by a token
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
        self._statements: Statements | None = None

    async def accept(self, conn: AsyncConnection[Any], batch: Sequence[Submission]) -> list[Outcome]:
        statements = await self._prepared(conn)
        keys = {key for submission in batch for key in self._keys(submission)}
        for _look in range(LOOKS):
            try:
                return await self._transaction(statements, batch, keys)
            except RowsMissing as missing:
                await statements.exchange((ROLLBACK, ()), (MAKE_ROWS, _key_parameters(missing.keys)))
                keys |= missing.keys
            except psycopg.Error:
                if not conn.closed:
                    await statements.exchange((ROLLBACK, ()))
                raise
            except BaseException:  # left in the middle: PostgreSQL rolls back what loses its connection
                conn.pgconn.finish()
                raise
        raise RuntimeError("windows that were made are not found")

    async def _prepared(self, conn: AsyncConnection[Any]) -> Statements:
        if self._statements is None or self._statements.conn is not conn:
            statements = Statements(conn, BEGIN, LOCK_ROWS, READ_SENDERS, MAKE_ROWS, STORE, COMMIT, ROLLBACK)
            await statements.prepare()
            self._statements = statements
        return self._statements

    async def _transaction(self, statements: Statements, batch: Sequence[Submission], keys: set[Key]) -> list[Outcome]:
        reading = await _lock_and_read(statements, batch, keys)
        outcomes = await self._decide(statements.conn, batch, reading)
        taken = [(each, outcome) for each, outcome in zip(batch, outcomes, strict=True) if type(outcome) is Accepted]
        if taken:
            *_stored, committed = await statements.exchange((STORE, _to_store(taken, reading)), (COMMIT, ()))
        else:
            (committed,) = await statements.exchange((COMMIT, ()))
        if committed.command_status != b"COMMIT":
            raise psycopg.InternalError(f"COMMIT was answered {committed.command_status!r}")
        return outcomes

    def _keys(self, submission: Submission) -> list[Key]:
        scopes = self._scopes.get(submission.smtp_user_id, (ORGANIZATION,))
        return [self._key(scope, submission) for scope in scopes]

    @staticmethod
    def _key(scope: int, submission: Submission) -> Key:
        owner_id = submission.organization_id if scope == ORGANIZATION else submission.smtp_user_id
        return Key(scope, owner_id, submission.client_ip if scope == IP else None)

    async def _decide(self, conn: AsyncConnection[Any], batch: Sequence[Submission], reading: Reading) -> list[Outcome]:
        """One by one, in order: what a message debits is gone for those after it."""
        asked = self._asked(batch, reading)
        outcomes: list[Outcome] = []
        held: dict[int, int] = {}
        for submission, need in zip(batch, asked, strict=True):
            if isinstance(need, Ended | PaymentDue):
                outcomes.append(need)
                continue
            outcome: Outcome = decide(need, reading.rows, now=reading.now) or ACCEPTED
            if (
                isinstance(outcome, OverLimit)
                and reading.senders[submission.smtp_user_id].excess == SmtpUser.Excess.HOLD
            ):
                outcome = await _hold(conn, submission, outcome, reading, held)
            outcomes.append(outcome)
        return outcomes

    def _asked(self, batch: Sequence[Submission], reading: Reading) -> list[Need | Ended | PaymentDue]:
        """What each message asks of the windows, or why it is over. Raises RowsMissing unless all are locked."""
        if len(self._scopes) > self.KNOWN_MAX:
            self._scopes.clear()
        asked: list[Need | Ended | PaymentDue] = []
        missing: set[Key] = set()
        for submission in batch:
            obstacle = reading.obstacle_to(submission)
            if obstacle is not None:
                asked.append(obstacle)
                continue
            need = reading.need_of(submission)
            asked.append(need)
            self._scopes[submission.smtp_user_id] = tuple(key.scope for key, _limit in need.limits)
            missing.update(key for key, _limit in need.limits if key not in reading.rows)
        if missing:
            raise RowsMissing(missing)
        return asked


def _key_parameters(keys: set[Key]) -> list[bytes]:
    return [array(column) for column in key_arrays(keys)]


async def _lock_and_read(statements: Statements, batch: Sequence[Submission], keys: set[Key]) -> Reading:
    """One round trip. The clock is read by the second statement: within the first it could precede the lock."""
    pairs = {(submission.smtp_user_id, submission.app_password_id or NO_PASSWORD) for submission in batch}
    _begun, locked, read = await statements.exchange(
        (BEGIN, ()),
        (LOCK_ROWS, _key_parameters(keys)),
        (READ_SENDERS, [array(column) for column in zip(*pairs, strict=True)]),
    )
    rows = dict(_row(locked, number) for number in range(locked.ntuples))
    senders: dict[int, SenderState] = {}
    passwords: dict[int, str] = {}
    now = 0.0
    for number in range(read.ntuples):
        record = [_text(read, number, column) for column in range(11)]
        senders[int(record[0])] = _sender(record)
        passwords[int(record[1])] = record[9]
        now = float(record[10])
    return Reading(rows, senders, passwords, now)


def _text(result: PGresult, row: int, column: int) -> str:
    """Of a column that may be NULL: the empty text."""
    value = result.get_value(row, column)
    return "" if value is None else value.decode()


def _row(locked: PGresult, number: int) -> tuple[Key, Row]:
    id, scope, owner_id, ip, minute, buckets = (_text(locked, number, column) for column in range(6))
    window = Window(int(minute), [int(bucket) for bucket in buckets[1:-1].split(",")])
    return Key(int(scope), int(owner_id), ip or None), Row(int(id), window)


def _sender(record: Sequence[str]) -> SenderState:
    _id, _password_id, disabled, excess, own_limit, ip_limit, organization_state, plan_limit, epoch, *_rest = record
    return SenderState(
        disabled=disabled == "t",
        excess=excess,
        recipients_per_hour=int(own_limit) if own_limit else None,
        recipients_per_hour_per_ip=int(ip_limit) if ip_limit else None,
        organization_state=organization_state,
        plan_recipients_per_hour=int(plan_limit),
        token_epoch=int(epoch),
    )


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


def _to_store(taken: Sequence[tuple[Submission, Accepted]], reading: Reading) -> list[Parameter]:
    """The parameters of STORE."""
    messages = [submission for submission, _outcome in taken]
    recipients = [_recipient(each, outcome, to) for each, outcome in taken for to in each.recipients]
    return [
        json.dumps(_debits(reading)).encode(),
        json.dumps([_message(each) for each in messages]).encode(),
        array(each.id for each in messages),
        bytea_array([each.content for each in messages]),
        json.dumps(recipients).encode(),
    ]


def _debits(reading: Reading) -> list[dict[str, Any]]:
    changed = [row for row in reading.rows.values() if row.changed]
    return [{"id": row.id, "minute": row.window.minute, "buckets": row.window.buckets} for row in changed]


def _message(each: Submission) -> dict[str, Any]:
    return {
        "id": str(each.id),
        "reference": each.reference,
        "organization_id": each.organization_id,
        "smtp_user_id": each.smtp_user_id,
        "app_password_id": each.app_password_id,
        "reverse_path": each.reverse_path,
        "header_from": each.header_from,
        "header_message_id": each.header_message_id,
        "subject": each.subject,
        "size_octets": len(each.content),
        "recipient_count": len(each.recipients),
        "route": each.route,
        "smtputf8": each.smtputf8,
        "body_8bit": each.body_8bit,
        "dsn_ret": each.dsn_ret,
        "dsn_envid": each.dsn_envid,
        "received_at": each.received_at.isoformat(),
        "client_ip": each.client_ip or None,
        "client_name": each.client_name,
        "tls_version": each.tls_version,
        "tls_cipher": each.tls_cipher,
        "mechanism": each.mechanism,
        "port": each.port,
        "worker": each.worker,
    }


def _recipient(each: Submission, outcome: Accepted, to: Envelope) -> dict[str, Any]:
    return {
        "message_id": str(each.id),
        "address": to.address,
        "state": Recipient.State.HELD if outcome.held else Recipient.State.QUEUED,
        "notify": to.notify,
        "orcpt": to.orcpt,
        "due_at": NEVER.isoformat() if each.route == Route.HOLD else None,  # None: now, by PostgreSQL's clock
    }
