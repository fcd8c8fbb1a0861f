"""The route mx of one delivery loop: the next hops of a destination, the best first.

Shapes  await MxRoute(pool).next_hops(destination) -> NextHops: one for each address that is tried.
Errors  NoNextHopError; what the database raises.
Source  RFC 5321 5.1; docs/delivery.md.
"""

import asyncio

from django.conf import settings

from relay.connections import Pool
from relay.mx import hosts as mx
from relay.smtp.next_hop import OPPORTUNISTIC, NextHop

CANDIDATES = 8  # addresses of one destination that one attempt may come to


class MxRoute:
    """Belongs to one event loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def next_hops(self, destination: str) -> list[NextHop]:
        """Raises NoNextHopError."""
        hosts = await mx.hosts_of(destination)
        found = await asyncio.gather(*(mx.addresses_of(hosts, name) for name in hosts.names))
        hops = [
            NextHop(
                name,
                settings.GATEPOST_MX_PORT,
                OPPORTUNISTIC,
                address=address,
                sources=tuple(settings.GATEPOST_MX_SOURCES),
                is_mx=True,
            )
            for name, addresses in zip(hosts.names, found, strict=True)
            for address in addresses.usable
        ]
        if not hops:
            raise mx.nobody(hosts, found)
        return hops[:CANDIDATES]
