"""Group commit: while one transaction is in flight, arriving messages collect; the next one takes them all.

Shapes  write(Submission) -> Outcome, once its transaction is committed or refused. Two lanes: messages over 256 KiB go
        alone over a connection of their own, so that they do not hold up the small ones.
Units   seconds on the event loop's clock; octets of content.
Errors  None are raised: what PostgreSQL answers becomes Unavailable (451 4.3.0), and never a false Accepted.
Source  RFC 5321 6.1 (duty after 250); docs/flow.md.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import DeadlockDetected, DiskFull, SerializationFailure

from relay.accept import Acceptor
from relay.database import ONE_PLAN, connect
from relay.limits import LOCK_ROWS, ORGANIZATION, Key, key_arrays
from relay.logs import get_logger
from relay.submission import Accepted, Outcome, Submission, Unavailable

log = get_logger(__name__)

LARGE_OCTETS = 256 * 1024
BATCH_MESSAGES = 500
BATCH_OCTETS = 8 * 1024 * 1024
ANSWER_SECONDS = 60.0  # after it 451: a client must not be left without an answer
LOOK_UP_SECONDS = 10.0
RECONNECT_SECONDS = 0.5
ATTEMPTS = 5  # against deadlock or serialization failure

FIND_COMMITTED = """
    SELECT message.id, bool_or(recipient.state = 'held') FROM relay_message message
    JOIN relay_recipient recipient ON recipient.message_id = message.id
    WHERE message.id = ANY(%s) GROUP BY message.id
"""


@dataclass(slots=True)
class Waiting:
    submission: Submission
    answer: "asyncio.Future[Outcome]"

    def give_up(self) -> None:
        if not self.answer.done():
            self.answer.set_result(Unavailable("no commit within 60 s"))


class Lane:
    """One connection, one transaction at a time."""

    def __init__(self, name: str, *, most: int, on_commit: Callable[[], None], on_batch: Callable[[int], None]) -> None:
        self.name, self._most, self._on_commit, self._on_batch = name, most, on_commit, on_batch
        self._waiting: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._acceptor = Acceptor()
        self._conn: AsyncConnection[Any] | None = None
        self._connect_after = 0.0
        self._closing = False
        self.batches = self.messages = 0

    async def write(self, submission: Submission) -> Outcome:
        loop = asyncio.get_running_loop()
        waiting = Waiting(submission, loop.create_future())
        late = loop.call_later(ANSWER_SECONDS, waiting.give_up)
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            return await waiting.answer
        finally:
            late.cancel()

    async def run(self) -> None:
        try:
            while self._waiting or not self._closing:
                if not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                    continue
                batch = self._take()
                if not batch:
                    continue
                outcomes = await self._answers([waiting.submission for waiting in batch])
                for waiting, outcome in zip(batch, outcomes, strict=True):
                    if not waiting.answer.done():
                        waiting.answer.set_result(outcome)
        finally:
            await self._disconnect()

    def close(self) -> None:
        """Lets run() end once everything that waits is answered."""
        self._closing = True
        self._arrived.set()

    def _take(self) -> list[Waiting]:
        """The next batch. Who stopped waiting has been answered 451: its message must not be stored any more."""
        batch: list[Waiting] = []
        octets = 0
        while self._waiting and len(batch) < self._most and octets < BATCH_OCTETS:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                batch.append(waiting)
                octets += len(waiting.submission.content)
        return batch

    async def _answers(self, batch: Sequence[Submission]) -> Sequence[Outcome]:
        try:
            return await self._commit(batch)
        except Exception:
            # Whatever it is, the lane lives on, and no client hears 250 for what nobody stored.
            log.exception("writer.failed", lane=self.name, messages=len(batch))
            await self._disconnect()
            return [Unavailable("unexpected error")] * len(batch)

    async def _commit(self, batch: Sequence[Submission]) -> Sequence[Outcome]:
        if (conn := await self._connected()) is None:
            return [Unavailable("PostgreSQL is out of reach")] * len(batch)
        try:
            outcomes = await self._try(conn, batch)
        except Exception as error:  # of a value that psycopg cannot write it raises what is no psycopg.Error
            if conn.closed or conn.broken:
                log.warning("writer.connection_lost", lane=self.name, messages=len(batch), error=str(error))
                await self._disconnect()
                return await self._look_up(batch)
            return await self._one_by_one(batch, error)
        self.batches += 1
        self.messages += len(batch)
        self._on_batch(len(batch))
        if any(isinstance(outcome, Accepted) for outcome in outcomes):
            self._on_commit()
        return outcomes

    async def _try(self, conn: AsyncConnection[Any], batch: Sequence[Submission]) -> list[Outcome]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._acceptor.accept(conn, batch)
            except (DeadlockDetected, SerializationFailure):
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _one_by_one(self, batch: Sequence[Submission], error: Exception) -> Sequence[Outcome]:
        """The transaction failed and the connection lives: only the message that is to blame gets 451."""
        cause = getattr(error, "sqlstate", None) or type(error).__name__
        log.warning("writer.refused", lane=self.name, messages=len(batch), cause=cause, error=str(error))
        if isinstance(error, DiskFull):
            return [Unavailable("PostgreSQL has no disk left", disk_is_full=True)] * len(batch)
        if len(batch) == 1:
            return [Unavailable(f"PostgreSQL refused the message: {cause}")]
        return [(await self._commit([submission]))[0] for submission in batch]

    async def _look_up(self, batch: Sequence[Submission]) -> Sequence[Outcome]:
        """The connection died and COMMIT may have been on its way: ask what is stored before answering."""
        until = time.monotonic() + LOOK_UP_SECONDS
        while time.monotonic() < until:
            if conn := await self._connected():
                try:
                    committed = await _committed(conn, batch)
                except psycopg.Error:
                    await self._disconnect()
                else:
                    return [
                        Accepted(held=committed[each.id])
                        if each.id in committed
                        else Unavailable("the connection was lost")
                        for each in batch
                    ]
            await asyncio.sleep(RECONNECT_SECONDS)
        return [Unavailable("PostgreSQL did not come back in time")] * len(batch)

    async def _connected(self) -> AsyncConnection[Any] | None:
        if self._conn and _lives(self._conn):
            return self._conn
        await self._disconnect()
        if time.monotonic() < self._connect_after:
            return None
        try:
            self._conn = await connect(application_name=f"gatepost smtpd writer {self.name}", options=ONE_PLAN)
        except (psycopg.Error, OSError) as error:
            self._connect_after = time.monotonic() + RECONNECT_SECONDS
            log.warning("writer.no_connection", lane=self.name, error=str(error))
        return self._conn

    async def _disconnect(self) -> None:
        if self._conn:
            with contextlib.suppress(psycopg.Error, OSError):
                await self._conn.close()
        self._conn = None


def _lives(conn: AsyncConnection[Any]) -> bool:
    """Whether the server is still there, as far as it has said; else the first message after an outage pays for it."""
    try:
        for _part in ("its last words", "the end of the connection"):
            conn.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return not (conn.closed or conn.broken)


async def _committed(conn: AsyncConnection[Any], batch: Sequence[Submission]) -> dict[Any, bool]:
    """Which messages are stored, and whether held. The locks wait for the lost transaction to end, if it still runs."""
    keys = {Key(ORGANIZATION, submission.organization_id) for submission in batch}
    async with conn.transaction():
        await conn.execute(LOCK_ROWS, key_arrays(keys))
        found = await conn.execute(FIND_COMMITTED, [[submission.id for submission in batch]])
        return dict(await found.fetchall())


class Writer:
    """The writer of one smtpd process."""

    def __init__(self, *, on_commit: Callable[[], None], on_batch: Callable[[int], None]) -> None:
        self.small = Lane("small", most=BATCH_MESSAGES, on_commit=on_commit, on_batch=on_batch)
        self.large = Lane("large", most=1, on_commit=on_commit, on_batch=on_batch)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(lane.run(), name=f"writer {lane.name}") for lane in (self.small, self.large)]

    async def write(self, submission: Submission) -> Outcome:
        lane = self.large if len(submission.content) > LARGE_OCTETS else self.small
        return await lane.write(submission)

    async def stop(self) -> None:
        """Answers everything that waits, then ends."""
        self.small.close()
        self.large.close()
        await asyncio.gather(*self._tasks)
