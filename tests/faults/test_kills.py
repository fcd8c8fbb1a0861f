"""kill -9 of everything, in one run, under load: what was acknowledged reaches the mail server that the DNS names."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from accounts.models import Organization
from embedded.postgres import Postgres
from embedded.valkey import Valkey
from relay.database import connect
from relay.models import Message, NamedRoute, RouteChoice
from relay.models.messages import Route
from relay.next_hops import PER_HOP
from tests.dns_server import DnsServer
from tests.faults.running import Load, Workers, drained, taken_of, until
from tests.relay.delivery.scripted_server import ScriptedServer
from tests.smtp.conftest import Processes, Sender, free_port
from tests.smtp.load import kill_nine

pytestmark = pytest.mark.faults

BACKLOG = 300  # messages on their way at most, so that the queue is empty soon after the last kill
# What the next hop has taken when a worker dies, and the worker has not written down, comes again: at most one message
# for each of its sessions with the hop. In small counts that is more than 0.1 % of all.
SESSIONS = PER_HOP
DESTINATION = "dest.example"  # where tests.smtp.load sends to


class Killer:
    """Each kill strikes while messages come in and go out."""

    def __init__(
        self, *, smtpd: Processes, workers: Workers, postgres: Postgres, valkey: Valkey, lot: random.Random
    ) -> None:
        self.smtpd, self.workers, self.postgres, self.valkey, self.lot = smtpd, workers, postgres, valkey, lot
        self.killed: Counter[str] = Counter()

    async def strike(self, name: str) -> None:
        await asyncio.sleep(self.lot.uniform(0, 0.3))  # a moment that no code chose
        await getattr(self, f"_{name}")()
        self.killed[name] += 1

    async def _process(self) -> None:
        kill_nine(self.lot.choice(self.smtpd.children()))

    async def _smtpd(self) -> None:
        """Master and processes at once."""
        await asyncio.to_thread(self.smtpd.kill)
        await asyncio.to_thread(self.smtpd.start)

    async def _worker(self) -> None:
        await asyncio.to_thread(self.workers.kill, self.lot.randrange(len(self.workers)))

    async def _backend(self) -> None:
        """PostgreSQL then ends every other session as well, and recovers."""
        conn = await connect(application_name="killer")
        async with conn:
            words = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'gatepost %' ORDER BY pid"
            pids = [row[0] for row in await (await conn.execute(words)).fetchall()]
            kill_nine(self.lot.choice(pids))

    async def _postmaster(self) -> None:
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGKILL)
        await asyncio.to_thread(self.postgres.start)

    async def _broker(self) -> None:
        assert self.valkey.pid is not None
        os.kill(self.valkey.pid, signal.SIGKILL)
        await asyncio.to_thread(self.valkey.start)


KINDS = ("worker", "process", "backend", "broker", "postmaster", "process", "smtpd", "worker", "backend", "process")


@pytest.fixture
def by_mx(transactional_db: None, alice_org: Organization) -> Iterator[dict[str, str]]:
    """Her mail goes where the DNS says, which is to 127.0.0.1: settings of the workers."""
    route = NamedRoute.objects.create(name="by the DNS", kind=Route.MX)
    RouteChoice.objects.create(route=route, organization=alice_org)
    with DnsServer() as dns:
        dns.put(DESTINATION, "MX", f"10 mx.{DESTINATION}.")
        dns.put(f"mx.{DESTINATION}", "A", "127.0.0.1")
        yield {"GATEPOST_RESOLVERS": "{}:{}".format(*dns.address), "GATEPOST_MX_ALLOWED": "127.0.0.0/8"}


def test_kill_nine_of_everything(
    smtpd: Callable[..., Processes],
    roomy: None,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    by_mx: dict[str, str],
    postgres: Postgres,
    valkey_server: Valkey,
    tmp_path: Path,
    counted: Callable[[int, int], int],
    soaking: bool,
    seed: int,
) -> None:
    """Nothing acknowledged is lost; at most 0.1 % comes twice to the next hop, and then octet for octet the same."""
    kills, between = counted(8, 500), (800 if soaking else 40)
    senders = [sender_of(alice_org, name=f"app{number}") for number in range(3)]
    port = free_port()
    processes = smtpd(2)
    lot = random.Random(seed)
    kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
    lot.shuffle(kinds)

    async def play() -> tuple[Load, ScriptedServer, Killer]:
        async with ScriptedServer(port=port) as hop:
            # A lease that ended while PostgreSQL recovered would be another's, and its message come twice.
            lease = 15.0 if soaking else 5.0
            settings = {**by_mx, "GATEPOST_MX_PORT": str(port)}
            with Workers(2, log=tmp_path / "deliver.log", lease_seconds=lease, **settings) as workers:
                killer = Killer(smtpd=processes, workers=workers, postgres=postgres, valkey=valkey_server, lot=lot)
                async with Load(
                    processes.tls_port,
                    senders,
                    connections=8,
                    may_send=lambda load: len(load.accepted) < len(hop.taken) + BACKLOG,
                ) as load:
                    for kind in kinds:
                        await flowing(load, hop, between, killer)
                        await killer.strike(kind)
                    await flowing(load, hop, between, killer)
                await drained(seconds=60)
        return load, hop, killer

    async def flowing(load: Load, hop: ScriptedServer, messages: int, killer: Killer) -> None:
        accepted, taken = len(load.accepted), len(hop.taken)

        def flows() -> bool:
            return len(load.accepted) >= accepted + messages and len(hop.taken) >= taken + messages

        def words() -> Any:
            return killer.killed, len(load.accepted), len(hop.taken), load.refused[-3:], load.turned_away[-3:]

        await until(flows, seconds=90, why=words)

    load, hop, killer = asyncio.run(play())
    connection.close()
    assert sum(killer.killed.values()) == kills
    taken = taken_of(hop)
    assert sorted(set(load.accepted) - set(taken)) == []
    # What the next hop got beyond that: the answer of a commit was lost with its connection, or PostgreSQL came back
    # too late to ask it. Nobody may have got what is not stored.
    assert set(taken) <= set(Message.objects.values_list("subject", flat=True))
    assert len(set(load.accepted)) == len(load.accepted)
    twice = {subject: contents for subject, contents in taken.items() if len(contents) > 1}
    print(f"{kills} kills {dict(killer.killed)}; {len(taken)} messages, {len(twice)} came twice")
    assert all(len(set(contents)) == 1 and contents[0].count(b"\r\nMessage-ID: <") == 1 for contents in twice.values())
    allowed = len(taken) / 1000 if soaking else max(len(taken) / 1000, SESSIONS * killer.killed["worker"])
    assert len(twice) <= allowed
