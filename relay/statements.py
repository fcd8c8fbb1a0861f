"""Prepared statements of one connection, several to a round trip: what psycopg's cursors do, without the cursors.

Shapes  exchange((text, parameters), ...) -> one PGresult each. A parameter is text in octets, None, or Binary.
Errors  psycopg.Error of the first statement that failed; those behind it were skipped, and an open transaction waits
        for its ROLLBACK. Whatever else happens in the middle of an exchange closes the connection.
Source  PostgreSQL's manual, libpq, Pipeline Mode; psycopg.pq is psycopg's public name for libpq.

With cursors, pipeline and transaction contexts, the statements that accept mail cost smtpd twice as much processor
time: docs/performance.md.
"""

import asyncio
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection, pq
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGresult

GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
BYTEA_OID = 17
PLACEHOLDER = re.compile("%[sb]")


class Binary(NamedTuple):
    """A parameter in PostgreSQL's binary form."""

    octets: bytes


Parameter = bytes | Binary | None
Call = tuple[str, Sequence[Parameter]]


def array(values: Iterable[object]) -> bytes:
    """The text form of an array of numbers, ids or addresses: nothing that needs quotes. None is NULL."""
    return ("{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}").encode()


def bytea_array(values: Sequence[bytes]) -> Binary:
    """The binary form: as text, content would double in size and be parsed again."""
    parts = [struct.pack("!iiiii", 1, 0, BYTEA_OID, len(values), 1)]
    for value in values:
        parts += (struct.pack("!i", len(value)), value)
    return Binary(b"".join(parts))


def numbered(text: str) -> str:
    """psycopg's placeholders as PostgreSQL's own: $1, $2."""
    number = count(1)
    return PLACEHOLDER.sub(lambda _placeholder: f"${next(number)}", text)


class Statements:
    """Of one connection in autocommit, which nobody else uses meanwhile."""

    def __init__(self, conn: AsyncConnection[Any], *texts: str) -> None:
        """texts: every statement that will be exchanged."""
        self.conn = conn
        self._names = {text: f"gatepost{number}".encode() for number, text in enumerate(texts)}

    async def prepare(self) -> None:
        """Once, before the first exchange."""
        await self._round_trip(self._send_prepare, list(self._names))

    async def exchange(self, *calls: Call) -> list[PGresult]:
        """One round trip. Raises the error of the first statement that failed."""
        return await self._round_trip(self._send_call, calls)

    async def _round_trip(self, send: Callable[[Any], None], what: Sequence[Any]) -> list[PGresult]:
        pgconn = self.conn.pgconn
        try:
            pgconn.enter_pipeline_mode()
            for each in what:
                send(each)
            pgconn.pipeline_sync()
            *results, _sync = await self._receive()
            pgconn.exit_pipeline_mode()
        except BaseException:  # cancelled too: answers that nobody read would be taken for those of the next exchange
            pgconn.finish()
            raise
        for result in results:
            if result.status not in GOOD:
                raise error_from_result(result)
        return results

    def _send_prepare(self, text: str) -> None:
        self.conn.pgconn.send_prepare(self._names[text], numbered(text).encode())

    def _send_call(self, call: Call) -> None:
        text, parameters = call
        values = [each.octets if isinstance(each, Binary) else each for each in parameters]
        formats = [int(isinstance(each, Binary)) for each in parameters]
        self.conn.pgconn.send_query_prepared(self._names[text], values, formats)

    async def _receive(self) -> list[PGresult]:
        """Every result up to and with that of the sync."""
        pgconn, results = self.conn.pgconn, list[PGresult]()
        unsent = pgconn.flush()
        while True:
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is not None:
                    results.append(result)
                    if result.status == pq.ExecStatus.PIPELINE_SYNC:
                        return results
                elif pgconn.status == pq.ConnStatus.BAD:  # otherwise None stands between two statements
                    raise psycopg.OperationalError("the connection was lost")
            await _ready(pgconn.socket, to_write=bool(unsent))
            pgconn.consume_input()
            if unsent:
                unsent = pgconn.flush()


async def _ready(socket: int, *, to_write: bool) -> None:
    """Until there is something to read, or room to write: a server that answers early must not wait for us."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(socket, _note, ready)
    if to_write:
        loop.add_writer(socket, _note, ready)
    try:
        await ready
    finally:
        loop.remove_reader(socket)
        if to_write:
            loop.remove_writer(socket)


def _note(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
