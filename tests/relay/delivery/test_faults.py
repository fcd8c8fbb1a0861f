"""Delivery while things die: workers, PostgreSQL, Valkey, the broker."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, connections

from accounts.models import Organization
from embedded.postgres import Postgres
from embedded.valkey import Valkey
from relay.models import Worker
from relay.next_hops import PER_HOP
from tests.relay.delivery.running import (
    all_settled,
    amake_message,
    attempts,
    delivering,
    eventually,
    recipients,
    smarthost,
)
from tests.relay.delivery.scripted_server import HANG, ScriptedServer

pytestmark = [
    pytest.mark.faults,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("async_orm"),
]
LEASE_SECONDS = 2.0


@pytest.fixture
def stoppable(transactional_db: None, postgres_server: Postgres) -> Iterator[Postgres]:
    """PostgreSQL, running again and with a fresh connection when the tables are emptied."""
    yield postgres_server
    if not postgres_server.running():
        postgres_server.start()
    connection.close()


def _environment(**changes: str) -> dict[str, str]:
    """The test's own database, for a process of its own."""
    named = connection.settings_dict
    words = {"host": named["HOST"], "port": named["PORT"], "user": named["USER"], "password": named["PASSWORD"]}
    query = urlencode({name: value for name, value in words.items() if value})
    return {**os.environ, "DATABASE_URL": f"postgresql:///{named['NAME']}?{query}", **changes}


@contextmanager
def process(*arguments: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A real process, killed at the end if it still runs."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=settings.BASE_DIR,
            env=_environment(**environment),
            stdout=output,
            stderr=output,
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait(10)


def deliver(server: ScriptedServer, *, log: Path) -> Any:
    """`manage.py deliver` with a short lease, towards this server."""
    return process(
        "manage.py",
        "deliver",
        "--lease-seconds",
        str(LEASE_SECONDS),
        log=log,
        GATEPOST_SMARTHOST="127.0.0.1",
        GATEPOST_SMARTHOST_PORT=str(server.port),
        GATEPOST_SMARTHOST_TLS="none",
    )


@pytest.mark.parametrize(("verb", "possibly"), [("DATA", False), ("DOT", True)])
async def test_a_worker_is_killed_in_mid_attempt(
    alice_org: Organization, tmp_path: Path, verb: str, possibly: bool
) -> None:
    """Its lease ends, another worker delivers; whether the final dot had been sent is known."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer({verb: [HANG, "354 Go on" if verb == "DATA" else "250 Ok"]}) as server:
        with deliver(server, log=tmp_path / "first.log") as first:
            await asyncio.wait_for((server.dotted if verb == "DOT" else server.asked_data).wait(), 30)
            first.kill()
        with deliver(server, log=tmp_path / "second.log"):
            await all_settled()
    recipient = (await recipients())["you@example.net"]
    assert (recipient.state, recipient.possibly_delivered) == ("delivered", possibly)
    assert [(row.number, row.outcome, row.reached_final_dot) for row in await attempts()] == [
        (1, "lost", possibly),
        (2, "delivered", True),
    ]
    assert len(server.taken) == (2 if possibly else 1)


async def test_two_workers_deliver_each_recipient_once(alice_org: Organization, tmp_path: Path) -> None:
    """Two real processes share 200 messages: the next hop sees each exactly once, in a few sessions that both keep."""
    for number in range(200):
        await amake_message(alice_org, route="smarthost", recipients=[f"{number}@example.net"])
    async with ScriptedServer() as server:
        with deliver(server, log=tmp_path / "first.log"), deliver(server, log=tmp_path / "second.log"):
            await all_settled()
    got = [address for taken in server.taken for address in taken.recipients]
    assert sorted(got) == sorted(f"{number}@example.net" for number in range(200))
    assert server.sessions <= 2 * PER_HOP
    assert {row.outcome for row in await attempts()} == {"delivered"}


async def test_sigterm_ends_a_worker(alice_org: Organization, tmp_path: Path) -> None:
    """`manage.py deliver` ends by itself with status 0, and its heartbeat is gone."""
    async with ScriptedServer() as server:
        with deliver(server, log=tmp_path / "worker.log") as worker:
            await eventually(Worker.objects.aexists)
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, 10) == 0
    assert not await Worker.objects.aexists()


async def test_postgresql_is_away_for_a_while(alice_org: Organization, stoppable: Postgres) -> None:
    """The loop goes on trying, and delivers after the return without a restart."""
    await amake_message(alice_org)
    async with delivering() as delivery:
        await all_settled()
        await asyncio.to_thread(stoppable.stop)

        async def noticed() -> bool:
            return delivery.figures["database_errors"] > 0

        await eventually(noticed)
        await asyncio.to_thread(stoppable.start)
        await sync_to_async(connections.close_all)()
        await amake_message(alice_org, recipients=["after@example.net"])
        await all_settled()


async def test_postgresql_is_away_when_the_next_hop_has_said_yes(alice_org: Organization, stoppable: Postgres) -> None:
    """The result is written down after the return: the next hop gets the mail once."""
    await amake_message(alice_org, route="smarthost")

    async def while_the_database_stops() -> str:
        await asyncio.to_thread(stoppable.stop)
        return "250 2.0.0 Queued"

    async with ScriptedServer({"DOT": while_the_database_stops}) as server:
        with smarthost(server):
            async with delivering() as delivery:

                async def noticed() -> bool:
                    return delivery.figures["settles_late"] > 0

                await eventually(noticed)
                await asyncio.to_thread(stoppable.start)
                await sync_to_async(connections.close_all)()
                await all_settled()
        assert len(server.taken) == 1
    assert [row.outcome for row in await attempts()] == ["delivered"]


async def test_valkey_is_away(alice_org: Organization, valkey_server: Valkey) -> None:
    """Mail is delivered without it, and wake-ups work again when it is back."""
    async with delivering() as delivery:

        async def listening() -> bool:
            return delivery.figures["redis_up"] == 1

        async def alone() -> bool:
            return delivery.figures["redis_up"] == 0

        await eventually(listening)
        await asyncio.to_thread(valkey_server.stop)
        await eventually(alone)
        await amake_message(alice_org)
        await all_settled()
        await asyncio.to_thread(valkey_server.start)
        await eventually(listening)


async def test_a_celery_worker_delivers_without_a_broker(alice_org: Organization, tmp_path: Path) -> None:
    """With the broker dead from the start, the worker's own loop delivers."""
    await amake_message(alice_org)
    nowhere = f"unix://{tmp_path}/none.sock?db=0"
    with celery_worker(tmp_path, pool="prefork", REDIS_URL=nowhere):
        await all_settled()
        await eventually(lambda: _exists(tmp_path / "ready"))


@pytest.mark.parametrize("pool", ["prefork", "solo"])
async def test_a_celery_worker_ends_its_loop(alice_org: Organization, tmp_path: Path, pool: str) -> None:
    """Each pool has a loop that delivers; SIGTERM ends worker and loop, and the heartbeat is gone."""
    await amake_message(alice_org)
    with celery_worker(tmp_path, pool=pool) as celery:
        await all_settled()
        await eventually(Worker.objects.aexists)
        # Before Celery itself is ready, SIGTERM ends it where it stands.
        await eventually(lambda: _says(tmp_path / "celery.log", "ready."))
        celery.send_signal(signal.SIGTERM)
        await asyncio.to_thread(celery.wait, 30)
    assert not await Worker.objects.aexists()


def celery_worker(folder: Path, *, pool: str, **environment: str) -> Any:
    arguments = ("-m", "celery", "-A", "config", "worker", "-c", "1", "-P", pool, "-l", "info")
    log, ready = folder / "celery.log", str(folder / "ready")
    return process(*arguments, log=log, GATEPOST_READY_FILE=ready, **environment)


async def _says(path: Path, word: str) -> bool:
    return word in await asyncio.to_thread(path.read_text)


async def _exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)
