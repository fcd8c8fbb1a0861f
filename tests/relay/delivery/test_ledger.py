"""relay.ledger and relay.committer: many results in one transaction, and none lost."""

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from accounts.models import Organization
from relay import after_settle
from relay.committer import Committer
from relay.connections import Connection
from relay.models import DeliveryAttempt
from tests.relay.delivery.running import ABC, all_settled, amake_message, delivering, recipients, smarthost
from tests.relay.delivery.scripted_server import ScriptedServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]


async def test_what_arrives_meanwhile_goes_together(transactional_db: None) -> None:
    """The first goes alone; all that was put while it was written is one transaction."""
    batches: list[list[int]] = []

    async def write(connection: Connection, items: Sequence[int]) -> list[int]:
        await connection.execute("SELECT pg_sleep(0.05)")
        batches.append(list(items))
        return [item * 10 for item in items]

    committer = Committer[int, int](write, name="test", most=100)
    running = asyncio.create_task(committer.run())
    first = committer.put(1)
    await asyncio.sleep(0.01)
    rest = [committer.put(number) for number in (2, 3, 4)]
    assert [await first, *[await each for each in rest]] == [10, 20, 30, 40]
    assert batches == [[1], [2, 3, 4]]
    running.cancel()


async def test_only_the_item_to_blame_fails(transactional_db: None) -> None:
    """A batch that PostgreSQL refuses is written one by one."""

    async def write(connection: Connection, items: Sequence[int]) -> list[int]:
        cursor = await connection.execute("SELECT 1 / number FROM unnest(%s::int[]) number", [list(items)])
        return [row[0] for row in await cursor.fetchall()]

    committer = Committer[int, int](write, name="test", most=100)
    answers = [committer.put(number) for number in (1, 0, 1)]
    running = asyncio.create_task(committer.run())
    await committer.drained()
    assert (await answers[0], await answers[2]) == (1, 1)
    with pytest.raises(psycopg.errors.DivisionByZero):
        await answers[1]
    running.cancel()


@pytest.mark.parametrize("insists", [True, False])
async def test_a_connection_that_dies(transactional_db: None, insists: bool) -> None:
    """Marks fail, so that no final dot is sent; settlements are written by the next connection."""
    tries = 0

    async def write(connection: Connection, items: Sequence[int]) -> list[int]:
        nonlocal tries
        tries += 1
        if tries == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return list(items)

    committer = Committer[int, int](write, name="test", most=100, retry=0.01, insists=insists)
    answer = committer.put(7)
    running = asyncio.create_task(committer.run())
    if insists:
        assert await answer == 7
    else:
        with pytest.raises(psycopg.OperationalError):
            await answer
    running.cancel()


async def test_a_hook_that_fails_sends_no_mail_twice(alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else would be written with the settle is left out, as the next hop has the mail."""

    async def fail(_connection: Connection, _results: Sequence[Any]) -> None:
        raise ValueError("a hook of ours")

    monkeypatch.setattr(after_settle, "hooks", [fail])
    await amake_message(alice_org, route="smarthost", recipients=ABC)
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_settled()
    assert len(server.taken) == 1
    assert {row.state for row in (await recipients()).values()} == {"delivered"}


async def test_the_conversation_is_kept(alice_org: Organization) -> None:
    """With the attempt: what was said and heard, without content, whatever the outcome."""
    await amake_message(alice_org, route="smarthost", recipients=ABC[:2])
    async with ScriptedServer({"RCPT": ["250 Ok", "550 5.1.1 No such user"]}) as server, delivering():
        with smarthost(server):
            await all_settled()
    async for row in DeliveryAttempt.objects.all():
        assert "> RCPT TO:<b@example.net>" in row.conversation and "< 550 5.1.1 No such user" in row.conversation
        assert "Hello" not in row.conversation and row.worker == "delivery@test:1"
