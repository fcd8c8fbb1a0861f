"""What was acknowledged is there, once, whatever dies; and nothing is acknowledged that is not."""

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from accounts.models import Organization, Plan
from relay.models import Message
from tests.smtp import load
from tests.smtp.conftest import Processes, RunningDoor, Sender, content

pytestmark = pytest.mark.faults

KILLS = 20


@pytest.fixture
def roomy(transactional_db: None) -> None:
    Plan.objects.filter(code="trial").update(recipients_per_hour=10_000_000)


def stored() -> Counter[str]:
    return Counter(Message.objects.values_list("subject", flat=True))


def test_kill_nine_loses_nothing_acknowledged(
    smtpd: Callable[[int], Processes],
    roomy: None,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
) -> None:
    """20 times kill -9 under load: every message that got 250 is stored exactly once, and none twice."""
    senders = [sender_of(alice_org, name=f"app{number}") for number in range(3)]
    processes = smtpd(2)
    stop = threading.Event()
    numbers = itertools.count()

    def subjects() -> "load.Iterator[str]":
        while not stop.is_set():
            yield f"message {next(numbers)}"

    killed: list[int] = []

    def kill() -> None:
        for _kill in range(KILLS):
            time.sleep(random.uniform(0.3, 0.8))  # a moment that no code chose
            children = processes.children()
            if children:
                pid = random.choice(children)
                load.kill_nine(pid)
                killed.append(pid)
        stop.set()

    killer = threading.Thread(target=kill)
    killer.start()
    tally = asyncio.run(load.run(processes.tls_port, senders, connections=12, messages=subjects()))
    killer.join()
    found = stored()
    connection.close()
    assert len(killed) == KILLS
    assert len(tally.accepted) > 100
    assert len(set(tally.accepted)) == len(tally.accepted)
    assert [subject for subject in tally.accepted if found[subject] != 1] == []
    assert [subject for subject, count in found.items() if count != 1] == []
    # What is stored beyond the acknowledged is exactly what lost its connection after the final dot.
    assert set(found) - set(tally.accepted) <= set(tally.lost)


def test_postgresql_stopped_under_load(
    smtpd: Callable[[int], Processes],
    roomy: None,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    postgres: Any,
) -> None:
    """While PostgreSQL is away every answer is 4xx; when it is back, mail is accepted again without a restart."""
    sender = sender_of(alice_org)
    processes = smtpd(1)
    phase = {"name": "before"}
    accepted: Counter[str] = Counter()
    refused: list[str] = []

    async def send() -> None:
        async with load.Connection(processes.tls_port, sender) as one:
            for number in itertools.count():
                if phase["name"] == "done":
                    return
                during = phase["name"]
                tally = load.Tally()
                await one.message(f"{during} {number}", 1, tally)
                if phase["name"] == during:
                    accepted[during] += len(tally.accepted)
                refused.extend(tally.refused)
                await asyncio.sleep(0.01)

    def wait_for(condition: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, (accepted, refused[-3:])
            time.sleep(0.05)

    def play() -> None:
        try:
            wait_for(lambda: accepted["before"] >= 20, 20)
            postgres.stop()
            phase["name"] = "away"
            wait_for(lambda: len(refused) >= 20, 20)
            phase["name"] = "starting"
            postgres.start()
            phase["name"] = "after"
            wait_for(lambda: accepted["after"] >= 20, 10)
        except BaseException as error:
            failures.append(error)
        finally:
            phase["name"] = "done"

    failures: list[BaseException] = []
    player = threading.Thread(target=play)
    player.start()
    asyncio.run(send())
    player.join()
    connection.close()
    if failures:
        raise failures[0]
    assert accepted["away"] == 0
    assert refused
    assert all(line.startswith("451 4.3.0 ") for line in refused)
    assert [subject for subject, count in stored().items() if count != 1] == []


def test_valkey_stopped(door: RunningDoor, sender: Sender, valkey_server: Any) -> None:
    """Without Valkey mail is accepted as before."""
    valkey_server.stop()
    client = door.signed_in(sender)
    for _number in range(3):
        assert client.message(sender.address, "a@dest.example", content=content()).startswith("250 2.0.0 OK")
    assert Message.objects.count() == 3
    valkey_server.start()
