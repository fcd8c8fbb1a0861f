"""relay.statements: several statements to a round trip, and what is left when one of them fails."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest
from psycopg.errors import DivisionByZero

from relay.database import ONE_PLAN, connect
from relay.statements import Statements, array, bytea_array, numbered

ECHO = "SELECT unnest(%s::bytea[])"
NUMBERS = "SELECT coalesce(n, -1) FROM unnest(%s::int[]) AS given (n)"
DIVIDE = "SELECT 1 / %s::int"
SLOW = "SELECT pg_sleep(30)"
BEGIN, ROLLBACK = "BEGIN", "ROLLBACK"

pytestmark = pytest.mark.django_db(transaction=True)


def over_a_connection(what: Callable[[Statements], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with await connect(application_name="test statements", options=ONE_PLAN) as conn:
            statements = Statements(conn, ECHO, NUMBERS, DIVIDE, SLOW, BEGIN, ROLLBACK)
            await statements.prepare()
            await what(statements)

    asyncio.run(run())


def test_placeholders_become_numbers() -> None:
    """Text and binary ones alike, in order."""
    assert numbered("a %s b %b c %s") == "a $1 b $2 c $3"


def test_each_call_has_its_result() -> None:
    """In order; NULL within an array stays NULL."""

    async def what(statements: Statements) -> None:
        first, second = await statements.exchange((NUMBERS, [array([3, None, 5])]), (DIVIDE, [b"1"]))
        assert [first.get_value(row, 0) for row in range(first.ntuples)] == [b"3", b"-1", b"5"]
        assert second.get_value(0, 0) == b"1"

    over_a_connection(what)


def test_content_larger_than_every_buffer_comes_back_whole() -> None:
    """Both directions are full at once: neither side waits for the other."""

    async def what(statements: Statements) -> None:
        contents = [bytes(range(256)) * 20_000, b"", b"\0\r\n."]
        results = await statements.exchange(*[(ECHO, [bytea_array(contents)])] * 4)
        for result in results:
            hexes = [result.get_value(row, 0) or b"" for row in range(result.ntuples)]
            assert [bytes.fromhex(each[2:].decode()) for each in hexes] == contents

    over_a_connection(what)


def test_the_first_failure_is_raised_and_the_transaction_waits_for_its_rollback() -> None:
    """Those behind it are skipped; after ROLLBACK the connection serves on."""

    async def what(statements: Statements) -> None:
        with pytest.raises(DivisionByZero):
            await statements.exchange((BEGIN, ()), (DIVIDE, [b"0"]), (NUMBERS, [array([1])]))
        assert statements.conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        await statements.exchange((ROLLBACK, ()))
        (result,) = await statements.exchange((NUMBERS, [array([1])]))
        assert result.get_value(0, 0) == b"1"
        assert await (await statements.conn.execute("SELECT 2")).fetchone() == (2,)

    over_a_connection(what)


def test_a_cancelled_exchange_closes_the_connection() -> None:
    """Its answers are never taken for those of the next."""

    async def what(statements: Statements) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await statements.exchange((SLOW, ()))
        assert statements.conn.closed

    over_a_connection(what)


def test_a_lost_connection_is_an_operational_error() -> None:
    """A backend that is ended in the middle of an exchange."""

    async def what(statements: Statements) -> None:
        waiting = asyncio.create_task(statements.exchange((SLOW, ())))
        async with await connect(application_name="test") as other:
            pid, ended = statements.conn.info.backend_pid, False
            while not ended:
                row = await (await other.execute("SELECT pg_terminate_backend(%s)", [pid])).fetchone()
                ended = row == (True,)
        with pytest.raises(psycopg.OperationalError):
            await waiting
        assert statements.conn.closed

    over_a_connection(what)
