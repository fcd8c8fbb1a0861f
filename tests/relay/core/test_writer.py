"""relay.smtp.writer: one answer for each message, true whatever happens to its batch or its connection."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg import AsyncConnection

from accounts.models import Organization
from relay.accept import Acceptor
from relay.database import connect
from relay.limits import ORGANIZATION
from relay.models import Message
from relay.smtp.writer import Lane, Writer
from relay.submission import Accepted, Outcome, Submission, Unavailable
from tests.relay.core.conftest import Sender, set_plan, used

GATE = 4711  # the advisory lock behind which a commit waits


def a_lane() -> Lane:
    return Lane("test", most=100, on_commit=lambda: None, on_batch=lambda _messages: None)


def written(batch: Sequence[Submission], *, acceptor: Any = None, meanwhile: Any = None) -> list[Outcome]:
    """All of them as one batch through a lane."""

    async def run() -> list[Outcome]:
        lane = a_lane()
        lane._acceptor = acceptor or lane._acceptor
        answers = asyncio.gather(*(lane.write(submission) for submission in batch))
        await asyncio.sleep(0)  # all of them wait before the lane begins
        running = asyncio.create_task(lane.run())
        if meanwhile is not None:
            await meanwhile(lane)
        outcomes = await answers
        lane.close()
        await running
        return list(outcomes)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "bad",
    [
        {"dsn_envid": "x" * 101},
        {"subject": "\0"},
        {"header_from": "\ud800@alice.example"},
        {"organization_id": -1},
        {"client_ip": "nonsense"},
    ],
    ids=["too long", "NUL", "surrogate", "foreign key", "address"],
)
def test_only_the_bad_message_is_refused(sender: Sender, alice_org: Organization, bad: dict[str, Any]) -> None:
    """A batch that PostgreSQL, or its driver, refuses is tried one by one: its neighbours are stored once."""
    batch = [sender.submission(), sender.submission(**bad), sender.submission(), sender.submission()]
    outcomes = written(batch)
    assert [isinstance(outcome, Accepted) for outcome in outcomes] == [True, False, True, True]
    assert isinstance(outcomes[1], Unavailable)
    assert set(Message.objects.values_list("pk", flat=True)) == {batch[0].id, batch[2].id, batch[3].id}
    assert used(ORGANIZATION, alice_org.pk) == 3


def test_a_good_batch_is_one_transaction(sender: Sender) -> None:
    """Group commit: what arrived together has the same transaction number."""
    assert written([sender.submission() for _message in range(5)]) == [Accepted()] * 5
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT xmin::text), count(*) FROM relay_message")
        assert cursor.fetchone() == (1, 5)


class KilledAfterCommit(Acceptor):
    """Commits, and then its backend is ended before anybody could be told."""

    async def accept(self, conn: AsyncConnection[Any], batch: Sequence[Submission]) -> list[Outcome]:
        await super().accept(conn, batch)
        await terminate(conn.info.backend_pid)
        await conn.execute("SELECT 1")
        raise AssertionError("the backend lives")


class KilledBeforeCommit(Acceptor):
    async def accept(self, conn: AsyncConnection[Any], batch: Sequence[Submission]) -> list[Outcome]:
        await terminate(conn.info.backend_pid)
        return await super().accept(conn, batch)


async def terminate(pid: int) -> None:
    async with await connect(application_name="test") as other:
        await other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def test_killed_after_the_commit_is_accepted(
    sender: Sender, alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """The look-up finds what was stored, and whether it is held; what was refused is not made an accept."""
    set_plan(alice_org, 1)
    holding = sender_of(alice_org, name="holding", excess="hold")
    batch = [sender.submission(), holding.submission(), sender.submission()]
    taken, held, over = written(batch, acceptor=KilledAfterCommit())
    assert (taken, held) == (Accepted(), Accepted(held=True))
    assert isinstance(over, Unavailable)
    assert Message.objects.count() == 2


def test_killed_before_the_commit_is_not_accepted(sender: Sender) -> None:
    """Nothing is stored, so nothing is acknowledged."""
    (outcome,) = written([sender.submission()], acceptor=KilledBeforeCommit())
    assert isinstance(outcome, Unavailable)
    assert not Message.objects.exists()


@pytest.fixture
def gate(transactional_db: None) -> Iterator[None]:
    """Every commit of a message waits for the advisory lock."""
    with connection.cursor() as cursor:
        cursor.execute(f"""
            CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON relay_message DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION wait_at_gate()
        """)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER gate ON relay_message; DROP FUNCTION wait_at_gate()")


async def pid_at_gate(conn: AsyncConnection[Any]) -> int:
    """The backend that waits in its COMMIT."""
    while True:
        found = await conn.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        if record := await found.fetchone():
            return int(record[0])
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["backend killed", "connection cut"])
def test_lost_during_the_commit_is_what_is_stored(sender: Sender, gate: None, how: str) -> None:
    """A backend ended within COMMIT stored nothing; one that only lost its client goes on, and is waited for."""

    async def lose(lane: Lane) -> None:
        async with await connect(application_name="test") as other:
            await other.execute("SELECT pg_advisory_lock(%s)", [GATE])
            pid = await asyncio.wait_for(pid_at_gate(other), 20)
            if how == "backend killed":
                await terminate(pid)
            else:
                cut(lane)
                await asyncio.sleep(0.3)  # the look-up asks while the lost transaction still runs
            await other.execute("SELECT pg_advisory_unlock(%s)", [GATE])

    (outcome,) = written([sender.submission()], meanwhile=lose)
    if how == "backend killed":
        assert isinstance(outcome, Unavailable)
        assert not Message.objects.exists()
    else:
        assert outcome == Accepted()
        assert Message.objects.count() == 1


def cut(lane: Lane) -> None:
    """Ends the client's half of its connection: the backend does not notice while it waits."""
    assert lane._conn is not None
    with contextlib.closing(socket.socket(fileno=os.dup(lane._conn.fileno()))) as half:
        half.shutdown(socket.SHUT_RDWR)


def test_the_next_batch_has_a_new_connection(sender: Sender) -> None:
    """After a kill the lane goes on by itself."""

    class KilledOnce(Acceptor):
        killed = False

        async def accept(self, conn: AsyncConnection[Any], batch: Sequence[Submission]) -> list[Outcome]:
            if not self.killed:
                self.killed = True
                await terminate(conn.info.backend_pid)
            return await super().accept(conn, batch)

    async def run() -> tuple[Outcome, Outcome]:
        lane = a_lane()
        lane._acceptor = KilledOnce()
        running = asyncio.create_task(lane.run())
        first, second = await lane.write(sender.submission()), await lane.write(sender.submission())
        lane.close()
        await running
        return first, second

    first, second = asyncio.run(run())
    assert isinstance(first, Unavailable)
    assert second == Accepted()


def test_a_deadlock_is_tried_again(sender: Sender) -> None:
    """40P01 costs an attempt, not the mail; five of them cost it."""

    class Deadlocked(Acceptor):
        def __init__(self, times: int) -> None:
            super().__init__()
            self.left = times

        async def accept(self, conn: AsyncConnection[Any], batch: Sequence[Submission]) -> list[Outcome]:
            if self.left:
                self.left -= 1
                raise psycopg.errors.DeadlockDetected
            return await super().accept(conn, batch)

    assert written([sender.submission()], acceptor=Deadlocked(4)) == [Accepted()]
    (outcome,) = written([sender.submission()], acceptor=Deadlocked(5))
    assert isinstance(outcome, Unavailable)
    assert Message.objects.count() == 1


def test_who_stopped_waiting_is_not_stored(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answered 451 after 60 s, the message is not stored behind the client's back."""
    monkeypatch.setattr("relay.smtp.writer.ANSWER_SECONDS", 0.01)

    async def run() -> tuple[Outcome, int]:
        lane = a_lane()
        outcome = await lane.write(sender.submission())
        lane.close()
        await lane.run()
        return outcome, lane.messages

    assert asyncio.run(run()) == (Unavailable("no commit within 60 s"), 0)
    assert not Message.objects.exists()


def test_large_messages_have_a_lane_of_their_own(sender: Sender) -> None:
    """Over 256 KiB they do not hold up the small ones; both are stored, and a commit is told each time."""
    commits: list[None] = []
    batches: list[int] = []

    async def run() -> tuple[list[Outcome], int, int]:
        writer = Writer(on_commit=lambda: commits.append(None), on_batch=batches.append)
        writer.start()
        sizes = [256 * 1024 + 1, 256 * 1024, 1]
        outcomes = await asyncio.gather(*(writer.write(sender.submission(content=b"x" * size)) for size in sizes))
        await writer.stop()
        return list(outcomes), writer.small.messages, writer.large.messages

    assert asyncio.run(run()) == ([Accepted()] * 3, 2, 1)
    assert len(commits) == len(batches) >= 2
    assert sum(batches) == 3
