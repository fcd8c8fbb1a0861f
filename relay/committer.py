"""Group commit for the delivery loop: what arrives while a transaction is in flight goes together into the next one.

Shapes  Committer(write) with write(connection, items) -> one result each, in order. put(item) -> a future with its
        result, once the transaction is committed. One connection of its own, one transaction at a time.
Units   linger: seconds in which a batch may grow before it is written.
Errors  The future raises what write raised: an error of the database itself at once for the whole batch, or never if
        the committer insists; any other only for the item that is to blame.
Source  docs/flow.md, Delivery.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import psycopg

from relay.connections import DATABASE_ERRORS, Connection
from relay.database import ONE_PLAN, connect
from relay.logs import get_logger

T = TypeVar("T")
R = TypeVar("R")

log = get_logger(__name__)


class Committer(Generic[T, R]):
    """run() as a task of the loop that puts."""

    def __init__(
        self,
        write: Callable[[Connection, Sequence[T]], Awaitable[Sequence[R]]],
        *,
        name: str,
        most: int,
        linger: float = 0,
        retry: float = 1,
        insists: bool = False,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """on_wait: called when the database is away and what was put must wait."""
        self._write, self._name, self._most = write, name, most
        self._linger, self._retry, self._insists, self._on_wait = linger, retry, insists, on_wait
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._arrived, self._empty = asyncio.Event(), asyncio.Event()
        self._empty.set()
        self._connection: Connection | None = None

    def put(self, item: T) -> "asyncio.Future[R]":
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._empty.clear()
        self._arrived.set()
        return answer

    async def drained(self) -> None:
        """Until all that was put is written."""
        await self._empty.wait()

    async def run(self) -> None:
        try:
            while True:
                await self._arrived.wait()
                if self._linger and len(self._waiting) < self._most:
                    await asyncio.sleep(self._linger)
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                await self._commit([each for each in batch if not each[1].done()])
                if not self._waiting:
                    self._arrived.clear()
                    self._empty.set()
        finally:
            await self._disconnect()

    async def _commit(self, batch: list[tuple[T, "asyncio.Future[R]"]]) -> None:
        while batch:
            try:
                results = await self._write(await self._connected(), [item for item, _answer in batch])
            except DATABASE_ERRORS as error:
                log.warning("committer.database_away", committer=self._name, error=str(error) or type(error).__name__)
                await self._disconnect()
                if not self._insists:
                    return _fail(batch, error)
                self._on_wait()
                await asyncio.sleep(self._retry)
            except Exception as error:
                return await self._one_by_one(batch, error)
            else:
                for (_item, answer), result in zip(batch, results, strict=True):
                    if not answer.done():
                        answer.set_result(result)
                return None
        return None

    async def _one_by_one(self, batch: list[tuple[T, "asyncio.Future[R]"]], error: Exception) -> None:
        """The connection lives, so one of them is to blame: the others are written all the same."""
        if len(batch) == 1:
            log.error("committer.refused", committer=self._name, exc_info=error)
            return _fail(batch, error)
        for each in batch:
            await self._commit([each])
        return None

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(application_name=f"gatepost {self._name}", options=ONE_PLAN)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close()
            except psycopg.Error:
                log.info("committer.close_failed", committer=self._name)


def _fail(batch: Sequence[tuple[T, "asyncio.Future[R]"]], error: Exception) -> None:
    for _item, answer in batch:
        if not answer.done():
            answer.set_exception(error)
            answer.exception()  # whoever does not ask for it has no use for it
