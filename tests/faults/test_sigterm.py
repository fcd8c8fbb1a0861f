"""SIGTERM: nothing acknowledged is lost, and the door is closed in time."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounts.models import Organization
from relay.database import conninfo
from relay.models import Message
from relay.smtp import server as smtp_server
from tests.faults.running import Load, events_of, until
from tests.smtp.conftest import Processes, RunningDoor, Sender, content

pytestmark = pytest.mark.faults

STOP_SECONDS = 30.0


def test_sigterm_under_load(
    smtpd: Callable[..., Processes],
    roomy: None,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    counted: Callable[[int, int], int],
    seed: int,
) -> None:
    """Out within 30 s with status 0; what was acknowledged is stored once, and nothing else."""
    senders = [sender_of(alice_org, name=f"app{number}") for number in range(3)]
    lot = random.Random(seed)
    processes = smtpd(2)

    async def play(turn: int) -> tuple[Load, float]:
        async with Load(processes.tls_port, senders, connections=12, name=f"turn {turn}") as load:
            await until(lambda: len(load.accepted) >= 50, seconds=60, why=lambda: load.refused[-3:])
            await asyncio.sleep(lot.uniform(0, 0.2))
            assert processes.process is not None
            processes.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            status = await asyncio.to_thread(processes.process.wait, 40)
            took = time.monotonic() - began
            assert status == 0
        return load, took

    for turn in range(counted(2, 50)):  # one process, and two
        processes.processes = 1 + turn % 2
        if processes.process is None or processes.process.poll() is not None:
            processes.start()
        load, took = asyncio.run(play(turn))
        assert took < STOP_SECONDS
        stored = Counter(Message.objects.filter(subject__startswith=f"turn {turn} ").values_list("subject", flat=True))
        connection.close()
        assert [subject for subject in load.accepted if stored[subject] != 1] == []
        assert set(stored) - set(load.accepted) <= set(load.lost)
        # 250, or 421 between two messages: a message whose data was on its way is never answered with silence.
        assert load.lost == []
        assert {line[:9] for line in load.refused} <= {"421 4.3.2"}
    assert list(events_of(processes.log)) == []


@pytest.fixture
def locked_out() -> Iterator[Callable[[], Callable[[], None]]]:
    """unlock = locked_out(): nobody else can store a message before unlock()."""
    held: list[psycopg.Connection[Any]] = []

    def lock() -> Callable[[], None]:
        held.append(psycopg.connect(conninfo(application_name="fault test")))
        held[0].execute("LOCK TABLE relay_message IN EXCLUSIVE MODE")
        return held[0].close

    yield lock
    for each in held:
        each.close()


def blocked() -> bool:
    """The writer waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND application_name LIKE 'gatepost smtpd writer%'"
        )
        return bool(cursor.fetchone()[0])


def test_a_database_that_hangs_does_not_hold_the_door_open(
    door: RunningDoor,
    sender: Sender,
    locked_out: Callable[[], Callable[[], None]],
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit that never comes: 421 without a 250 when the time is up, and the process ends all the same."""
    monkeypatch.setattr(smtp_server, "STOP_SECONDS", 1.0)
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    client.say("DATA")
    unlock = locked_out()
    client.send(content())
    eventually(blocked)
    began = time.monotonic()
    door.server.loop.call_soon_threadsafe(door.server.stop)
    assert client.reply() == "421 4.3.2 Shutting down, try again shortly"
    assert client.closed()
    eventually(lambda: not door.server.loop.is_running(), 10)
    assert time.monotonic() - began < 10
    unlock()
    assert Message.objects.count() == 0  # who heard 421 sends again


def test_a_database_that_is_frozen_does_not_either(
    smtpd: Callable[..., Processes],
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    postgres: Any,
    soaking: bool,
) -> None:
    """Nor one that does not even answer a cancellation: out within 30 s with status 0 (it takes all of them)."""
    if not soaking:
        pytest.skip("it takes 30 s: make soak")
    sender = sender_of(alice_org)
    processes = smtpd(1)

    async def play() -> tuple[Load, float, int]:
        async with Load(processes.tls_port, [sender], connections=4) as load:
            await until(lambda: len(load.accepted) >= 10, seconds=60)
            frozen = [postgres.pid, *children_of(postgres.pid)]
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                assert processes.process is not None
                processes.process.send_signal(signal.SIGTERM)
                began = time.monotonic()
                status = await asyncio.to_thread(processes.process.wait, 40)
                took = time.monotonic() - began
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
        return load, took, status

    load, took, status = asyncio.run(play())
    connection.close()
    assert (status, took < STOP_SECONDS) == (0, True)
    assert set(load.accepted) <= set(Message.objects.values_list("subject", flat=True))


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
