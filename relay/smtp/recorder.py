"""Auth events and refusals on their way to the database: buffered, in a transaction of their own, within a second.

Shapes  auth(AuthAttempt), refusal(session, reply, reference): never wait, never fail a session.
Units   BUFFER_MAX rows for each kind and process; beyond it the oldest is dropped, and counted.
Errors  None are raised: while PostgreSQL is away the rows wait here.
"""

import asyncio
import contextlib
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection

from audit.models import Result
from audit.record import AuthAttempt, printable, store_auth_events
from relay.database import connect
from relay.logs import get_logger
from relay.smtp.replies import Reply

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


class Recorder:
    """One for each smtpd process, with a connection of its own."""

    def __init__(self) -> None:
        self._attempts: deque[AuthAttempt] = deque()
        self._refusals: deque[tuple[Any, ...]] = deque()
        self._conn: AsyncConnection[Any] | None = None
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="recorder")

    def auth(self, attempt: AuthAttempt) -> None:
        self._attempts.append(attempt)
        self._bound(self._attempts)

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
                printable(about, 320),
                printable(session.transaction.reverse_path if session.transaction else "", 320),
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
        return len(self._attempts) + len(self._refusals)

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
        while self._attempts or self._refusals:
            attempts = [self._attempts.popleft() for _ in range(min(BATCH_MAX, len(self._attempts)))]
            refusals = [self._refusals.popleft() for _ in range(min(BATCH_MAX, len(self._refusals)))]
            try:
                await self._store(attempts, refusals)
            except (psycopg.Error, OSError) as error:
                self._attempts.extendleft(reversed(attempts))
                self._refusals.extendleft(reversed(refusals))
                log.warning("recorder.waiting", attempts=len(self._attempts), error=str(error))
                return
            except Exception:
                self.dropped += len(attempts) + len(refusals)
                log.exception("recorder.dropped", attempts=len(attempts))

    async def _store(self, attempts: list[AuthAttempt], refusals: list[tuple[Any, ...]]) -> None:
        if self._conn is None or self._conn.closed or self._conn.broken:
            self._conn = await connect(application_name="gatepost smtpd recorder")
        async with self._conn.transaction():
            await store_auth_events(self._conn, attempts)
            used = _last_uses(attempts)
            if used:
                await self._conn.execute(MARK_USED, [list(column) for column in zip(*used, strict=True)])
            if refusals:
                async with self._conn.cursor() as cursor, cursor.copy(COPY_REFUSALS) as copy:
                    for row in refusals:
                        await copy.write_row(row)


def _last_uses(attempts: list[AuthAttempt]) -> list[tuple[int, datetime, str, str]]:
    """The last accepted sign-in of each app password, in the order of their ids: two processes never deadlock."""
    last = {
        each.app_password_id: each
        for each in attempts
        if each.result == Result.ACCEPTED and each.app_password_id is not None
    }
    return [(id, each.at, each.ip, each.client_name) for id, each in sorted(last.items())]
