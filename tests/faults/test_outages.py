"""PostgreSQL and Valkey go away and come back: no false 250, and all is well within 10 s, without a restart."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection

from accounts.models import Organization
from embedded.postgres import Postgres
from relay.models import Message
from tests.faults.running import Load, Workers, drained, taken_of, until
from tests.relay.delivery.scripted_server import ScriptedServer
from tests.smtp import load as clients
from tests.smtp.conftest import Processes, Sender, free_port

pytestmark = pytest.mark.faults

RECOVERY_SECONDS = 10.0
BACKLOG = 200


def test_postgresql_goes_away(
    smtpd: Callable[..., Processes],
    roomy: None,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    relayed: Callable[[Organization, int], None],
    postgres: Postgres,
    tmp_path: Path,
    counted: Callable[[int, int], int],
    soaking: bool,
) -> None:
    """Shut down, or killed: messages are 451, sign-ins 454; within 10 s of its return mail is taken and relayed."""
    turns = counted(2, 20)
    sender = sender_of(alice_org)
    strangers = [sender_of(alice_org, name=f"late{turn}") for turn in range(turns)]  # whom no cache knows
    port = free_port()
    relayed(alice_org, port)
    processes = smtpd(1)
    took: list[float] = []
    paused = asyncio.Event()

    async def away(load: Load, stranger: Sender) -> None:
        refused = len(load.refused)
        await until(lambda: len(load.refused) >= refused + 5, seconds=60)
        with pytest.raises(clients.Refused, match=r"^454 4\.7\.0 Temporary authentication failure"):
            await clients.Connection(processes.tls_port, stranger).__aenter__()

    async def play() -> tuple[Load, ScriptedServer]:
        async with ScriptedServer(port=port) as hop:
            with Workers(1, log=tmp_path / "deliver.log"):
                async with Load(
                    processes.tls_port,
                    [sender],
                    connections=4,
                    may_send=lambda load: len(load.accepted) < len(hop.taken) + BACKLOG and not paused.is_set(),
                ) as load:

                    def flows(accepted: int, taken: int) -> bool:
                        return len(load.accepted) >= accepted + 10 and len(hop.taken) >= taken + 10

                    await until(lambda: flows(0, 0), seconds=60, why=lambda: load.refused[-3:])
                    for turn in range(turns):
                        if (
                            not soaking or turn % 3
                        ):  # with messages in the writer's hands it asks for 10 s what became of them
                            paused.set()
                            await drained(seconds=30)
                        if turn % 2:
                            os.kill(postgres.pid or 0, signal.SIGKILL)
                        else:
                            await asyncio.to_thread(postgres.stop)
                        paused.clear()
                        before = len(load.accepted), len(hop.taken)
                        await away(load, strangers[turn])
                        await asyncio.to_thread(postgres.start)
                        returned = await until(
                            lambda at=before: flows(*at),
                            seconds=RECOVERY_SECONDS,
                            why=lambda at=before: (at, len(load.accepted), len(hop.taken), load.refused[-3:]),
                        )
                        took.append(returned)
                        async with clients.Connection(processes.tls_port, strangers[turn]):
                            pass
                await drained(seconds=30)
        return load, hop

    load, hop = asyncio.run(play())
    connection.close()
    stored = Counter(Message.objects.values_list("subject", flat=True))
    print(f"recovered in {', '.join(f'{seconds:.1f}' for seconds in took)} s")
    assert {stored[subject] for subject in load.accepted} == {1}
    assert {line[:10] for line in load.refused} == {"451 4.3.0 "}
    assert set(load.accepted) <= set(taken_of(hop))


def test_valkey_goes_away(
    smtpd: Callable[..., Processes],
    roomy: None,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    relayed: Callable[[Organization, int], None],
    valkey_server: Any,
    tmp_path: Path,
    counted: Callable[[int, int], int],
) -> None:
    """Mail is taken and relayed all the same, and within 10 s of its return delivery is woken by it again."""
    sender = sender_of(alice_org)
    port = free_port()
    relayed(alice_org, port)
    processes = smtpd(1)

    async def play() -> Load:
        async with ScriptedServer(port=port) as hop:
            with Workers(1, log=tmp_path / "deliver.log"):
                async with Load(
                    processes.tls_port, [sender], connections=2, may_send=lambda load: len(load.accepted) < wanted[0]
                ) as load:

                    async def passes(messages: int) -> None:
                        wanted[0] = len(load.accepted) + messages
                        await until(lambda: len(hop.taken) >= wanted[0], seconds=30, why=lambda: load.refused[-3:])

                    await passes(5)
                    for turn in range(counted(1, 20)):
                        if turn % 2:
                            os.kill(valkey_server.pid, signal.SIGKILL)
                        else:
                            await asyncio.to_thread(valkey_server.stop)
                        await passes(10)
                        await asyncio.to_thread(valkey_server.start)
                        with redis.Redis.from_url(settings.REDIS_URL) as told:
                            await asyncio.to_thread(woken, told, passes, asyncio.get_running_loop())
                    return load

    wanted = [0]
    load = asyncio.run(play())
    connection.close()
    assert load.refused == load.turned_away == []
    assert set(load.accepted) == set(Message.objects.values_list("subject", flat=True))


def woken(told: "redis.Redis", passes: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> None:
    """The worker listens again, and the door publishes again: seen by a listener beside it."""
    with told.pubsub() as channel:
        channel.subscribe("gatepost:queued")
        for _look in range(int(RECOVERY_SECONDS / 0.5)):
            asyncio.run_coroutine_threadsafe(passes(1), loop).result(30)
            heard = channel.get_message(ignore_subscribe_messages=True, timeout=0.5)
            if heard and told.pubsub_numsub("gatepost:queued")[0][1] == 2:
                return
    raise AssertionError(f"nobody is woken {RECOVERY_SECONDS} s after its return")
