"""relay.mx.pace: how much goes to one domain at once, and how fast."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from config.settings import env_addresses, env_bounds, env_choices
from relay.connections import make_pool
from relay.models import Worker
from relay.mx import pace
from relay.mx.pace import Pace

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]


@pytest.fixture
async def ways() -> AsyncIterator[Pace]:
    pool = make_pool(name="test")
    await pool.open()
    yield Pace(pool)
    await pool.close()


async def most_at_once(ways: Pace, domain: str, messages: int = 12) -> int:
    """How many are on their way when nobody comes to an end until no further one begins."""
    going = most = 0

    async def one() -> None:
        nonlocal going, most
        async with ways.permit(domain):
            going += 1
            most = max(most, going)
            for _turn in range(20):
                await asyncio.sleep(0)
            going -= 1

    await asyncio.gather(*(one() for _ in range(messages)))
    return most


async def test_so_many_at_once(ways: Pace, settings: Any) -> None:
    """By the settings, by the domain's own bound, and without one all together."""
    settings.GATEPOST_MX_CONCURRENCY = 3
    settings.GATEPOST_MX_DOMAINS = {"slow.example": (1, 0), "free.example": (0, 0)}
    assert await most_at_once(ways, "example.net") == 3
    assert await most_at_once(ways, "slow.example") == 1
    assert await most_at_once(ways, "free.example") == 12
    assert not ways._ways


async def test_a_domain_does_not_wait_for_another(ways: Pace, settings: Any) -> None:
    """Who waits for one domain holds up nobody else."""
    settings.GATEPOST_MX_CONCURRENCY = 1
    async with ways.permit("a.example"):
        waits = asyncio.create_task(most_at_once(ways, "a.example", 1))
        assert await most_at_once(ways, "b.example", 2) == 1
        assert not waits.done()
    assert await waits == 1


async def test_workers_share(ways: Pace, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes its part of the installation's bound, and one at least."""
    settings.GATEPOST_MX_CONCURRENCY = 6
    now = timezone.now()
    for number in range(3):
        await Worker.objects.acreate(name=f"d{number}", kind="delivery", started_at=now, seen_at=now, figures={})
    await Worker.objects.acreate(name="s", kind="smtpd", started_at=now, seen_at=now, figures={})
    assert await most_at_once(ways, "example.net") == 2
    monkeypatch.setattr(pace, "COUNTED_AGAIN", 0.0)
    settings.GATEPOST_MX_CONCURRENCY = 2
    assert await most_at_once(ways, "example.net") == 1


async def test_so_many_a_minute(ways: Pace, settings: Any) -> None:
    """Evenly, from the first one on; who is ended while it waits leaves nothing behind."""
    settings.GATEPOST_MX_RATE = 1200  # one each 50 ms
    began = monotonic()
    for _ in range(5):
        async with ways.permit("example.net"):
            pass
    assert 0.19 < monotonic() - began < 2
    settings.GATEPOST_MX_RATE = 1
    waiting = asyncio.create_task(most_at_once(ways, "example.com", 2))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert ways._ways["example.com"].users == ways._ways["example.com"].going == 0


def test_bounds_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings hold, and what they refuse at the start."""
    monkeypatch.setenv("X", "Example.COM=5/300, example.net.=2")
    assert env_bounds("X") == {"example.com": (5, 300), "example.net": (2, 0)}
    for wrong in ("example.com", "example.com=", "example.com=x/1", "=1", "a b=1"):
        monkeypatch.setenv("X", wrong)
        with pytest.raises(ImproperlyConfigured):
            env_bounds("X")
    monkeypatch.setenv("X", "192.0.2.1, 2001:db8::1")
    assert env_addresses("X") == ("192.0.2.1", "2001:db8::1")
    for wrong in ("192.0.2.1, 192.0.2.2", "mail.example"):
        monkeypatch.setenv("X", wrong)
        with pytest.raises(ImproperlyConfigured):
            env_addresses("X")
    monkeypatch.setenv("X", "ipv6")
    assert env_choices("X", ("ipv4", "ipv6")) == ("ipv6",)
    monkeypatch.setenv("X", "ipv5")
    with pytest.raises(ImproperlyConfigured):
        env_choices("X", ("ipv4", "ipv6"))
