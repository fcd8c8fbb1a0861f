"""The route mx of one delivery loop: the next hops of a destination, the best first, each with the TLS it must have.

Shapes  await MxRoute(pool).next_hops(destination) -> NextHops: one for each address that is tried; permit(destination)
        bounds how many go there.
Units   PLAN_SECONDS: for which what was found out about a destination is used again.
Errors  NoNextHopError; what the database raises.
Source  RFC 5321 5.1; RFC 7672 (DANE), 8461 (MTA-STS), 8689 (REQUIRETLS); docs/delivery.md.
"""

import asyncio
import random
from collections import OrderedDict
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import chain
from time import monotonic

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
PLAN_SECONDS = 10.0
PLANS = 20_000

Server = tuple[NextHop, ...]  # one for each address
Plan = tuple[tuple[Server, ...], ...]  # servers of one preference together, the best ones first

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Found:
    """A host with its addresses, and what TLS it must have."""

    name: str
    addresses: Addresses
    requirement: Requirement = NOTHING


@dataclass(frozen=True, slots=True)
class Demands:
    """What a domain has published. validated: its MX, by a resolver that is believed. policy: of MTA-STS, in words."""

    validated: bool
    policy: str


class MxRoute:
    """Belongs to one event loop."""

    def __init__(self, pool: Pool) -> None:
        self._policies = Policies(pool)
        self._pace = Pace(pool)
        self._plans: OrderedDict[tuple[str, bool], tuple[float, Plan]] = OrderedDict()

    def permit(self, destination: str) -> AbstractAsyncContextManager[None]:
        """Waits until another message may go to this destination."""
        return self._pace.permit(destination)

    async def next_hops(self, destination: str, *, requires_tls: bool = False) -> list[NextHop]:
        """requires_tls: REQUIRETLS, so only to servers whose certificate can be verified. Raises NoNextHopError."""
        key = (destination, requires_tls)
        until, plan = self._plans.get(key, (0.0, ()))
        if until <= monotonic():
            plan = await self._planned(destination, requires_tls)
            self._plans[key] = (monotonic() + PLAN_SECONDS, plan)
            self._plans.move_to_end(key)
            if len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        # RFC 5321 5.1: servers of one preference share the load.
        shared = (random.sample(group, len(group)) if len(group) > 1 else group for group in plan)
        return list(chain.from_iterable(chain.from_iterable(shared)))[:CANDIDATES]

    async def demands(self, destination: str) -> Demands:
        """For an operator who asks. Raises NoNextHopError."""
        hosts = await mx.hosts_of(destination)
        policy = await self._policy(hosts)
        return Demands(hosts.authenticated, f"{policy.mode}, {', '.join(policy.mx)}" if policy else "")

    async def _policy(self, hosts: Hosts) -> Policy | None:
        return None if hosts.is_literal else await self._policies.of(hosts.domain)

    async def close(self) -> None:
        await self._policies.close()

    async def _planned(self, destination: str, requires_tls: bool) -> Plan:
        hosts = await mx.hosts_of(destination)
        # At once: a domain whose name servers are slow about policies is slow enough.
        policy, found = await asyncio.gather(self._policy(hosts), _look_up_all(hosts))
        with_address = [each for each in found if each.addresses.usable]
        if not with_address:
            raise mx.nobody(hosts, [each.addresses for each in found])
        judged = [_under(policy, each, hosts, requires_tls) for each in with_address]
        usable = {each.name: _server(hosts, each) for each in judged if not each.requirement.obstacle}
        if not usable:
            raise NoNextHopError(451, "4.7.5", judged[0].requirement.obstacle)
        groups = (tuple(usable[name] for name in group if name in usable) for group in hosts.groups)
        return tuple(group for group in groups if group)


async def _look_up_all(hosts: Hosts) -> list[_Found]:
    return await asyncio.gather(*(_look_up(hosts, name) for name in hosts.names))


async def _look_up(hosts: Hosts, name: str) -> _Found:
    addresses = await mx.addresses_of(hosts, name)
    if not addresses.usable:
        return _Found(name, addresses)
    return _Found(name, addresses, await requirement_of(hosts, name, addresses))


def _under(policy: Policy | None, found: _Found, hosts: Hosts, requires_tls: bool) -> _Found:
    """RFC 8461 2: MTA-STS says nothing where DANE does. Of a policy in testing the log alone tells what is wrong."""
    wanted = found.requirement
    if wanted.tls == DANE or wanted.obstacle:
        return found
    if policy and not policy.allows(found.name):
        log.warning("mta_sts.not_allowed", domain=hosts.domain, host=found.name, mode=policy.mode)
        if policy.mode == ENFORCE:
            words = f"{found.name} is not among the mail servers that the MTA-STS policy of {hosts.domain} allows."
            return _Found(found.name, found.addresses, Requirement(obstacle=words))
    if requires_tls or (policy and policy.mode == ENFORCE):
        return _Found(found.name, found.addresses, Requirement(STARTTLS))
    return found


def _server(hosts: Hosts, found: _Found) -> Server:
    wanted = found.requirement
    return tuple(
        NextHop(
            wanted.base or found.name,
            settings.GATEPOST_MX_PORT,
            wanted.tls,
            ca_file=str(settings.GATEPOST_MX_CA_FILE) if wanted.tls == STARTTLS else "",
            address=address,
            sources=settings.GATEPOST_MX_SOURCES,
            tlsa=wanted.tlsa,
            names=(hosts.domain,) if any(record.usage == DANE_TA for record in wanted.tlsa) else (),
            is_mx=True,
        )
        for address in found.addresses.usable
    )
