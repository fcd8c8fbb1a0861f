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

KILLS, BETWEEN = 8, 15  # acknowledged messages between two of them


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
    counted: Callable[[int, int], int],
) -> None:
    """Time and again kill -9 under load: every message that got 250 is stored exactly once, and none twice."""
    senders = [sender_of(alice_org, name=f"app{number}") for number in range(3)]
    processes = smtpd(2)
    stop = threading.Event()
    numbers = itertools.count()

    def subjects() -> "load.Iterator[str]":
        while not stop.is_set():
            yield f"message {next(numbers)}"

    killed: list[int] = []
    tally = load.Tally()
    kills = counted(KILLS, 200)

    def kill() -> None:
        end = time.monotonic() + 30 + 10 * kills
        while len(killed) < kills and time.monotonic() < end:
            wanted = len(tally.accepted) + BETWEEN
            while len(tally.accepted) < wanted and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(random.uniform(0, 0.2))  # a moment that no code chose
            if children := processes.children():
                killed.append(random.choice(children))
                load.kill_nine(killed[-1])
        stop.set()

    killer = threading.Thread(target=kill)
    killer.start()
    asyncio.run(load.run(processes.tls_port, senders, connections=12, messages=subjects(), tally=tally))
    killer.join()
    found = stored()
    connection.close()
    assert len(killed) == kills
    assert len(tally.accepted) > 100
    assert len(set(tally.accepted)) == len(tally.accepted)
    assert [subject for subject in tally.accepted if found[subject] != 1] == []
    assert [subject for subject, count in found.items() if count != 1] == []
    # What is stored beyond the acknowledged is exactly what lost its connection after the final dot.
    assert set(found) - set(tally.accepted) <= set(tally.lost)


def test_valkey_stopped(door: RunningDoor, sender: Sender, valkey_server: Any) -> None:
    """Without Valkey mail is accepted as before."""
    valkey_server.stop()
    client = door.signed_in(sender)
    for _number in range(3):
        assert client.message(sender.address, "a@dest.example", content=content()).startswith("250 2.0.0 OK")
    assert Message.objects.count() == 3
    valkey_server.start()
