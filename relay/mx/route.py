"""The route mx of one delivery loop: the next hops of a destination, the best first, each with the TLS it must have.

Shapes  await MxRoute(pool).next_hops(destination) -> NextHops: one for each address that is tried; permit(destination)
        bounds how many go there.
Errors  NoNextHopError; what the database raises.
Source  RFC 5321 5.1; RFC 7672 (DANE), 8461 (MTA-STS), 8689 (REQUIRETLS); docs/delivery.md.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from django.conf import settings

from relay.connections import Pool
from relay.logs import get_logger
from relay.mx import hosts as mx
from relay.mx.errors import NoNextHopError
from relay.mx.hosts import Addresses, Hosts
from relay.mx.pace import Pace
from relay.mx.policies import Policies
from relay.mx.sts import ENFORCE, Policy
from relay.mx.tlsa import NOTHING, Requirement, requirement_of
from relay.smtp.dane import DANE_TA
from relay.smtp.next_hop import DANE, STARTTLS, NextHop

CANDIDATES = 8  # addresses of one destination that one attempt may come to

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Server:
    """A host with its addresses, and what TLS it must have."""

    name: str
    addresses: Addresses
    requirement: Requirement = NOTHING


class MxRoute:
    """Belongs to one event loop."""

    def __init__(self, pool: Pool) -> None:
        self._policies = Policies(pool)
        self._pace = Pace(pool)

    def permit(self, destination: str) -> AbstractAsyncContextManager[None]:
        """Waits until another message may go to this destination."""
        return self._pace.permit(destination)

    async def next_hops(self, destination: str, *, requires_tls: bool = False) -> list[NextHop]:
        """requires_tls: REQUIRETLS, so only to servers whose certificate can be verified. Raises NoNextHopError."""
        hosts = await mx.hosts_of(destination)
        policy = None if hosts.is_literal else await self._policies.of(hosts.domain)
        found = await asyncio.gather(*(_server(hosts, name) for name in hosts.names))
        with_address = [server for server in found if server.addresses.usable]
        if not with_address:
            raise mx.nobody(hosts, [server.addresses for server in found])
        judged = [_under(policy, server, hosts, requires_tls) for server in with_address]
        usable = [server for server in judged if not server.requirement.obstacle]
        if not usable:
            raise NoNextHopError(451, "4.7.5", judged[0].requirement.obstacle)
        return [_hop(hosts, server, address) for server in usable for address in server.addresses.usable][:CANDIDATES]

    async def close(self) -> None:
        await self._policies.close()


async def _server(hosts: Hosts, name: str) -> _Server:
    addresses = await mx.addresses_of(hosts, name)
    if not addresses.usable:
        return _Server(name, addresses)
    return _Server(name, addresses, await requirement_of(hosts, name, addresses))


def _under(policy: Policy | None, server: _Server, hosts: Hosts, requires_tls: bool) -> _Server:
    """RFC 8461 2: MTA-STS says nothing where DANE does. Of a policy in testing the server is told in the log alone."""
    wanted = server.requirement
    if wanted.tls == DANE or wanted.obstacle:
        return server
    if policy and not policy.allows(server.name):
        log.warning("mta_sts.not_allowed", domain=hosts.domain, host=server.name, mode=policy.mode)
        if policy.mode == ENFORCE:
            words = f"{server.name} is not among the mail servers that the MTA-STS policy of {hosts.domain} allows."
            return _Server(server.name, server.addresses, Requirement(obstacle=words))
    if requires_tls or (policy and policy.mode == ENFORCE):
        return _Server(server.name, server.addresses, Requirement(STARTTLS))
    return server


def _hop(hosts: Hosts, server: _Server, address: str) -> NextHop:
    wanted = server.requirement
    return NextHop(
        wanted.base or server.name,
        settings.GATEPOST_MX_PORT,
        wanted.tls,
        ca_file=str(settings.GATEPOST_MX_CA_FILE) if wanted.tls == STARTTLS else "",
        address=address,
        sources=settings.GATEPOST_MX_SOURCES,
        tlsa=wanted.tlsa,
        names=(hosts.domain,) if any(record.usage == DANE_TA for record in wanted.tlsa) else (),
        is_mx=True,
    )
