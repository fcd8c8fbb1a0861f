"""64 connections over 4 processes against the limit of one SMTP user, and against that of each address."""

import asyncio
import base64
import re
from collections.abc import Callable
from itertools import count

import pytest

from accounts.models import Organization
from relay.models import LimitWindow, Recipient
from tests.smtp import load
from tests.smtp.conftest import Processes, Sender

pytestmark = pytest.mark.faults

USER, ADDRESS = 2, 3  # scopes


class From(load.Connection):
    """From an address of its own."""

    source = "127.0.0.1"

    async def __aenter__(self) -> "From":
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=load.CONTEXT, local_addr=(self.source, 0)
        )
        await self.expect("220")
        await self.say("EHLO load.example", "250")
        token = base64.b64encode(f"\0{self.sender.username}\0{self.sender.secret}".encode()).decode()
        await self.say(f"AUTH PLAIN {token}", "235")
        return self


async def race(
    port: int, sender: Sender, *, sources: list[str], attempts: int, recipients: int
) -> dict[str, load.Tally]:
    """64 connections, each address with its share of them and of the attempts."""
    tallies = {source: load.Tally() for source in sources}
    numbers = {source: count() for source in sources}

    async def one(source: str) -> None:
        connection = From(port, sender)
        connection.source = source
        async with connection:
            while (number := next(numbers[source])) < attempts:
                await connection.message(f"{source} {number}", recipients, tallies[source])

    await asyncio.gather(*(one(sources[number % len(sources)]) for number in range(64)))
    return tallies


def told(refused: list[str], whose: str, limit: int) -> bool:
    """Each refusal names this limit and the wait, or is the 452 that makes a client split."""
    words = re.compile(rf"451 4\.7\.1 The limit of {limit} emails an hour {whose} is reached; room in \d+ seconds .*")
    return all(words.fullmatch(line) or line.startswith("452 4.5.3 Room for ") for line in refused)


@pytest.mark.parametrize("recipients", [1, 10])
def test_the_limit_of_an_smtp_user(
    smtpd: Callable[..., Processes], alice_org: Organization, sender_of: Callable[..., Sender], recipients: int
) -> None:
    """An SMTP user with 300 an hour gets exactly 300 in, and the reply says whose limit it is."""
    sender = sender_of(alice_org, recipients_per_hour=300)
    processes = smtpd(4)
    tally = asyncio.run(
        race(processes.tls_port, sender, sources=["127.0.0.1"], attempts=900 // recipients, recipients=recipients)
    )["127.0.0.1"]
    assert len(tally.accepted) * recipients == Recipient.objects.count() == 300
    assert sum(LimitWindow.objects.get(scope=USER, owner_id=sender.smtp_user.id).buckets) == 300
    assert len(tally.refused) == 600 // recipients
    assert told(tally.refused, "of this SMTP user", 300)
    assert not tally.lost


def test_the_limit_of_each_address(
    smtpd: Callable[..., Processes], alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """With 100 an hour for each address, each of four gets exactly 100 in."""
    sender = sender_of(alice_org, recipients_per_hour_per_ip=100)
    sources = [f"127.0.0.{number}" for number in range(2, 6)]
    processes = smtpd(4)
    tallies = asyncio.run(race(processes.tls_port, sender, sources=sources, attempts=200, recipients=1))
    windows = LimitWindow.objects.filter(scope=ADDRESS, owner_id=sender.smtp_user.id)
    assert {source: len(tally.accepted) for source, tally in tallies.items()} == dict.fromkeys(sources, 100)
    assert {str(window.ip): sum(window.buckets) for window in windows} == dict.fromkeys(sources, 100)
    assert all(len(tally.refused) == 100 and told(tally.refused, "of your address", 100) for tally in tallies.values())
