"""A DNS of our own, and mail servers on loopback addresses that share one port.

Shapes  dns_server: what Gatepost asks; ask it by put(). mail_server(address="127.0.0.1", …) -> a ScriptedServer that
        listens there; the port is the one that the route mx goes to.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Any

import pytest

from relay import resolver
from relay.connections import make_pool
from relay.mx import route
from relay.mx.route import MxRoute
from tests.dns_server import DnsServer
from tests.relay.delivery.conftest import async_orm, certificate  # noqa: F401  # the same fixtures
from tests.relay.delivery.scripted_server import ScriptedServer


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One try of the DNS, and nothing used again but what the DNS lets us keep."""
    monkeypatch.setattr(resolver, "TRY_SECONDS", (5.0,))
    monkeypatch.setattr(route, "PLAN_SECONDS", 0.0)


@pytest.fixture
def dns_server(settings: Any) -> Iterator[DnsServer]:
    with DnsServer() as server:
        settings.GATEPOST_RESOLVERS = (server.address,)
        settings.GATEPOST_HOSTNAME = "mail.gatepost.example"
        settings.GATEPOST_MX_ALLOWED = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
        yield server


@pytest.fixture
async def mail_server(settings: Any) -> AsyncIterator[Callable[..., Any]]:
    """Makes servers; the first one chooses the port."""
    async with AsyncExitStack() as stack:
        started: list[ScriptedServer] = []

        async def start(address: str = "127.0.0.1", *arguments: Any, **keywords: Any) -> ScriptedServer:
            port = started[0].port if started else 0
            server = ScriptedServer(*arguments, address=address, port=port, **keywords)
            await stack.enter_async_context(server)
            started.append(server)
            settings.GATEPOST_MX_PORT = server.port
            return server

        yield start


@pytest.fixture
async def mx_route(dns_server: DnsServer, settings: Any) -> AsyncIterator[MxRoute]:
    """Without policies: nothing here asks the database."""
    settings.GATEPOST_MX_MTA_STS = False
    found = MxRoute(make_pool(name="test"))
    yield found
    await found.close()
