"""Auth events and refusals on their way to the database: buffered, in a transaction of their own, within a second.

Shapes  auth(AuthAttempt) -> Recorded: the reference under which it will be found, its own or that of a run
        (relay.smtp.folding); refusal(session, reply, reference). Neither waits, nor fails a session.
        A Batch is stored once: if the connection dies during COMMIT, PostgreSQL is asked what became of it.
Units   BUFFER_MAX rows for each kind and process; beyond it the oldest is dropped, and counted.
Errors  None are raised: while PostgreSQL is away the rows wait here.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple

import psycopg
from psycopg import AsyncConnection

from audit.folded import store_runs
from audit.models import Reason, Result
from audit.record import AuthAttempt, printable, store_auth_events
from relay.database import connect
from relay.logs import get_logger
from relay.smtp.folding import Folder
from relay.smtp.replies import Reply
from relay.smtp.sightings import Alarms, Sightings, store_alarms

if TYPE_CHECKING:
    from relay.smtp.state import SessionState

log = get_logger(__name__)

BUFFER_MAX = 10_000
FLUSH_SECONDS = 0.5
BATCH_MAX = 2_000

MARK_USED = """
    UPDATE relay_apppassword SET last_used_at = used.at, last_used_ip = used.ip, last_used_client = used.client
    FROM unnest(%s::bigint[], %s::timestamptz[], %s::inet[], %s::text[]) AS used (id, at, ip, client)
    WHERE relay_apppassword.id = used.id AND (last_used_at IS NULL OR last_used_at < used.at)
"""
COPY_REFUSALS = """
    COPY relay_refusal (at, reference, organization_id, smtp_user_id, ip, client_name, code, enhanced_code, text, about,
                        reverse_path, worker) FROM STDIN
"""


class Recorded(NamedTuple):
    """reference: under which the attempt will be found. is_repeated: others were told the same before."""

    reference: str
    is_repeated: bool = False


@dataclass(slots=True)
class Batch:
    """What goes in one transaction. transaction: its id, once it was begun."""

    attempts: list[AuthAttempt]
    runs: list[dict[str, Any]]
    refusals: list[tuple[Any, ...]]
    alarms: Alarms
    transaction: str = ""

    def __bool__(self) -> bool:
        return bool(len(self) or self.alarms.canaries or self.alarms.seen)

    def __len__(self) -> int:
        return len(self.attempts) + len(self.runs) + len(self.refusals)


class Recorder:
    """One for each smtpd process, with a connection of its own."""

    def __init__(self, *, share: int = 1) -> None:
        """share: among how many processes the machine's bounds are divided."""
        self._folder = Folder(share=share)
        self._batch: Batch | None = None
        self._attempts: deque[AuthAttempt] = deque()
        self._refusals: deque[tuple[Any, ...]] = deque()
        self._conn: AsyncConnection[Any] | None = None
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.sightings = Sightings()
        self.dropped = 0

    def start(self) -> None:
        self.sightings.start()
        self._task = asyncio.create_task(self._run(), name="recorder")

    def auth(self, attempt: AuthAttempt, *, trusted: bool = False) -> Recorded:
        """trusted: somebody signed in from this address lately."""
        run = self._folder.place(attempt, trusted=trusted)
        if run is None:
            self._attempts.append(attempt)
            self._bound(self._attempts)
        elif attempt.reason == Reason.CANARY:
            attempt = replace(attempt, reference=run.reference)
        self.sightings.note_canary(attempt)
        if run is None:
            return Recorded(attempt.reference)
        return Recorded(run.reference, is_repeated=run.all > 1)

    def refusal(self, session: "SessionState", reply: Reply, reference: str, *, about: str = "") -> None:
        assert session.identity is not None
        self._refusals.append(
            (
                datetime.now(UTC),
                reference,
                session.identity.organization_id,
                session.identity.smtp_user_id,
                session.ip,
                session.session.host_name or "",
                reply.code,
                reply.enhanced,
                printable(reply.text, 512),
                printable(about, 320, "sender"),
                printable(session.transaction.reverse_path if session.transaction else "", 320, "sender"),
                session.server.name,
            )
        )
        self._bound(self._refusals)

    def _bound(self, buffer: deque[Any]) -> None:
        if len(buffer) > BUFFER_MAX:
            buffer.popleft()
            self.dropped += 1

    @property
    def waiting(self) -> int:
        return len(self._attempts) + len(self._refusals) + self._folder.waiting + len(self._batch or ())

    async def stop(self) -> None:
        """Writes what waits, if PostgreSQL takes it at once."""
        self._closing.set()
        if self._task:
            await self._task

    async def _run(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._closing.wait()
            await self._flush()
        if self._conn:
            await self._conn.close()

    async def _flush(self) -> None:
        while self._batch or self._take():
            assert self._batch is not None
            try:
                await self._store(self._batch)
            except (psycopg.DataError, psycopg.IntegrityError):  # would fail again
                self.dropped += len(self._batch)
                log.exception("recorder.refused", rows=len(self._batch))
            except (psycopg.Error, OSError) as error:
                log.warning("recorder.waiting", rows=self.waiting, error=str(error))
                return
            except Exception:
                self.dropped += len(self._batch)
                log.exception("recorder.dropped", rows=len(self._batch))
            self._batch = None

    def _take(self) -> bool:
        """Puts what waits into a batch; False if nothing does."""
        self._batch = Batch(
            attempts=[self._attempts.popleft() for _ in range(min(BATCH_MAX, len(self._attempts)))],
            runs=[run.take() for run in self._folder.take()],
            refusals=[self._refusals.popleft() for _ in range(min(BATCH_MAX, len(self._refusals)))],
            alarms=self.sightings.taken(),
        )
        return bool(self._batch)

    async def _store(self, batch: Batch) -> None:
        if self._conn is None or self._conn.closed or self._conn.broken:
            self._conn = await connect(application_name="gatepost smtpd recorder")
        if batch.transaction and await self._is_committed(self._conn, batch.transaction):
            return
        async with self._conn.transaction():
            batch.transaction = await _value(self._conn, "SELECT pg_current_xact_id()::text")
            await store_auth_events(self._conn, batch.attempts)
            await store_runs(self._conn, batch.runs)
            await store_alarms(self._conn, batch.alarms)
            used = _last_uses(batch.attempts)
            if used:
                await self._conn.execute(MARK_USED, [list(column) for column in zip(*used, strict=True)])
            if batch.refusals:
                async with self._conn.cursor() as cursor, cursor.copy(COPY_REFUSALS) as copy:
                    for row in batch.refusals:
                        await copy.write_row(row)

    async def _is_committed(self, conn: AsyncConnection[Any], transaction: str) -> bool:
        """What became of a transaction whose COMMIT was not answered. One that still runs is waited for."""
        status = await _value(conn, "SELECT pg_xact_status(%s::text::xid8)", transaction)
        if status == "in progress":
            raise psycopg.OperationalError("the last transaction is not decided yet")
        return bool(status == "committed")


async def _value(conn: AsyncConnection[Any], query: LiteralString, *parameters: object) -> Any:
    row = await (await conn.execute(query, parameters)).fetchone()
    return row[0] if row else None


def _last_uses(attempts: list[AuthAttempt]) -> list[tuple[int, datetime, str, str]]:
    """The last accepted sign-in of each app password, in the order of their ids: two processes never deadlock."""
    last = {
        each.app_password_id: each
        for each in attempts
        if each.result == Result.ACCEPTED and each.app_password_id is not None
    }
    return [(id, each.at, each.ip, each.client_name) for id, each in sorted(last.items())]
