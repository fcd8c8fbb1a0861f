"""A DNS server for the records of sending domains, and a resolver that does not wait long."""

from collections.abc import Iterator
from typing import Any

import pytest

from relay import resolver
from tests.dns_server import DnsServer


@pytest.fixture
def dns_server(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsServer]:
    monkeypatch.setattr(resolver, "TRY_SECONDS", (0.15, 0.15))
    with DnsServer() as server:
        settings.GATEPOST_RESOLVERS = (server.address,)
        yield server
