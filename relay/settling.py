"""What became of recipients is written down: the mark before the final dot, and the end of each attempt.

Shapes  mark_final_dots() makes the attempt row of each recipient whose final dot is about to go. settle() ends attempts
        and recipients' states, makes the row where there was no mark, and lets relay.after_settle write what follows.
Units   Each is one transaction for as many as are given: committed when it returns.
Errors  psycopg.Error, after which nothing is written.
Source  docs/flow.md, Delivery.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from relay.after_settle import Settled, after_settle
from relay.connections import Connection
from relay.queue import GIVE_UP_AFTER, ClaimedRecipient, Job, Settlement, retry_seconds
from relay.smtp.transcript import OCTETS
from relay.statements import Statements

BEGIN, COMMIT, ROLLBACK = "BEGIN", "COMMIT", "ROLLBACK"
# The lease is asked for in the same statement. A row that is there already is that of an earlier transaction of this
# attempt: the next hop had said 452 to some.
_MARK = """
    WITH ours AS (
        SELECT given.* FROM json_to_recordset(%s::json) AS given (id bigint, lease uuid, attempt bigint, number int,
                                                                  started timestamptz, route text, worker text)
        JOIN relay_recipient own ON own.id = given.id AND own.lease = given.lease
    ), made AS (
        INSERT INTO relay_deliveryattempt (recipient_id, number, started_at, outcome, route, next_hop, tls_version,
                                           reached_final_dot, enhanced_code, text, worker)
        SELECT id, number, started, '', route, '', '', true, '', '', worker FROM ours WHERE attempt IS NULL
        RETURNING recipient_id, id
    )
    SELECT recipient_id, id FROM made UNION ALL SELECT id, attempt FROM ours WHERE attempt IS NOT NULL
"""
_SETTLE = f"""
    WITH given AS (
        SELECT * FROM json_to_recordset(%s::json) AS given (id bigint, lease uuid, attempt bigint, number int,
            outcome text, ends timestamptz, retry float8, possibly bool, reply text, started timestamptz, route text,
            next_hop text, ip inet, tls text, dot bool, code int, enhanced text, text text, worker text, said text)
    ), settled AS (
        UPDATE relay_recipient own
        SET state = CASE WHEN given.outcome <> 'deferred' THEN given.outcome
                         WHEN given.ends <= now() THEN 'failed' ELSE 'queued' END,
            lease = NULL, leased_until = NULL,
            due_at = CASE WHEN given.outcome = 'deferred' AND given.ends > now()
                          THEN least(now() + given.retry * interval '1 second', given.ends) ELSE own.due_at END,
            settled_at = CASE WHEN given.outcome = 'deferred' AND given.ends > now() THEN NULL
                              ELSE clock_timestamp() END,
            possibly_delivered = own.possibly_delivered OR given.possibly,
            reply = CASE WHEN given.outcome = 'deferred' AND given.ends <= now()
                         THEN left('Given up after {GIVE_UP_AFTER.days} days. The last answer: ' || given.reply, 512)
                         ELSE given.reply END
        FROM given WHERE own.id = given.id AND own.lease = given.lease
        RETURNING given.*, own.state
    ), marked AS (
        UPDATE relay_deliveryattempt row
        SET started_at = settled.started, finished_at = clock_timestamp(), outcome = settled.outcome,
            next_hop = settled.next_hop, next_hop_ip = settled.ip, tls_version = settled.tls,
            reached_final_dot = settled.dot, code = settled.code, enhanced_code = settled.enhanced,
            text = settled.text, conversation = settled.said
        FROM settled WHERE row.id = settled.attempt
    ), made AS (
        INSERT INTO relay_deliveryattempt (recipient_id, number, started_at, finished_at, outcome, route, next_hop,
            next_hop_ip, tls_version, reached_final_dot, code, enhanced_code, text, worker, conversation)
        SELECT id, number, started, clock_timestamp(), outcome, route, next_hop, ip, tls, dot, code, enhanced, text,
               worker, said
        FROM settled WHERE attempt IS NULL
    )
    SELECT id, state FROM settled
"""  # noqa: S608  # made of constants


@dataclass(frozen=True, slots=True)
class Mark:
    """One recipient whose final dot is about to go."""

    job: Job
    recipient: ClaimedRecipient
    started_at: datetime
    attempt_id: int | None = None  # its row, where this attempt has one already


async def mark_final_dots(connection: Connection, marks: Sequence[Mark], worker: str) -> dict[int, int]:
    """Commits that these final dots are about to be sent, so that a death after it is not taken for one before.

    Returns the attempt's id for each recipient whose lease is still ours: to no other may a dot be sent.
    """
    rows = [
        {
            "id": mark.recipient.id,
            "lease": str(mark.job.lease),
            "attempt": mark.attempt_id,
            "number": mark.recipient.attempts,
            "started": mark.started_at.isoformat(),
            "route": mark.job.route,
            "worker": worker,
        }
        for mark in marks
    ]
    statements = await _prepared(connection)
    (result,) = await statements.exchange((_MARK, [json.dumps(rows).encode()]))
    return {_int(result, row, 0): _int(result, row, 1) for row in range(result.ntuples)}


async def settle(
    connection: Connection, settlements: Sequence[tuple[Job, Settlement]], *, worker: str = "", alone: bool = False
) -> list[Settled]:
    """Writes down what became of each recipient. Returns those that it still owned, with the state they have now.

    A recipient whose lease has passed to another worker is left to that worker. alone: nothing else is written with it.
    """
    rows = [_row(job, done, worker) for job, done in settlements]
    given = {done.recipient.id: (job, done) for job, done in settlements}
    statements = await _prepared(connection)
    try:
        _begun, result = await statements.exchange((BEGIN, ()), (_SETTLE, [json.dumps(rows).encode()]))
        settled = [(*given[_int(result, row, 0)], _text(result, row, 1)) for row in range(result.ntuples)]
        if not alone:
            await after_settle(connection, settled)
        (committed,) = await statements.exchange((COMMIT, ()))
    except Exception:
        if not connection.closed:
            await statements.exchange((ROLLBACK, ()))
        raise
    except BaseException:  # left in the middle: PostgreSQL rolls back what loses its connection
        connection.pgconn.finish()
        raise
    if committed.command_status != b"COMMIT":
        raise psycopg.InternalError(f"COMMIT was answered {committed.command_status!r}")
    return settled


def _row(job: Job, done: Settlement, worker: str) -> dict[str, Any]:
    """As json_to_recordset wants it; what comes from outside holds no NUL any more (relay.smtp.wire)."""
    return {
        "id": done.recipient.id,
        "lease": str(job.lease),
        "attempt": done.attempt_id,
        "number": done.recipient.attempts,
        "outcome": done.outcome,
        "ends": (job.received_at + GIVE_UP_AFTER).isoformat(),
        "retry": retry_seconds(done.recipient.attempts),
        "possibly": done.possibly_delivered,
        "reply": done.reply,
        "started": done.started_at.isoformat(),
        "route": job.route,
        "next_hop": done.next_hop[:255],
        "ip": done.next_hop_ip,
        "tls": done.tls_version[:16],
        "dot": done.reached_final_dot,
        "code": done.code,
        "enhanced": done.enhanced_code[:9],
        "text": done.text[:512],
        "worker": worker,
        "said": done.conversation[:OCTETS],
    }


# --- Statements, prepared once for each connection ----------------------------------------------------------------

_statements: "WeakKeyDictionary[Connection, Statements]" = WeakKeyDictionary()


async def _prepared(connection: Connection) -> Statements:
    statements = _statements.get(connection)
    if statements is None:
        statements = Statements(connection, BEGIN, COMMIT, ROLLBACK, _MARK, _SETTLE)
        await statements.prepare()
        _statements[connection] = statements
    return statements


def _text(result: Any, row: int, column: int) -> str:
    return str(result.get_value(row, column), "ascii")


def _int(result: Any, row: int, column: int) -> int:
    return int(result.get_value(row, column))
