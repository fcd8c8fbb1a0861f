"""Where mail goes next: a job's route made into next hops, the best first.

Shapes  candidates(job) -> NextHops in the order in which they are tried: of a named route, else of the built-in one.
        The sandbox has none: its mail is kept in Gatepost.
Errors  RouteNotConfiguredError: delivery waits until the operator has named a smarthost. NoNextHopError: the
        destination takes no mail, or cannot be found now.
Source  docs/settings.md, GATEPOST_SMARTHOST; docs/delivery.md.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address

from django.conf import settings

from relay.models.messages import REQUIRETLS, Route
from relay.mx.errors import NoNextHopError
from relay.mx.route import MxRoute
from relay.queue import Job
from relay.sealed import EncryptionKeyMissing, opened
from relay.smtp.next_hop import NextHop

__all__ = ["NextHop", "NoNextHopError", "RouteNotConfiguredError", "candidates", "smarthost"]


class RouteNotConfiguredError(Exception):
    """The route needs something that the settings do not say."""


async def candidates(job: Job, mx: MxRoute) -> Sequence[NextHop]:
    """Never none: where there is no server, NoNextHopError says why."""
    named = named_of(job.named) if job.named else None
    if job.route == Route.MX:
        hops = await mx.next_hops(job.destination, requires_tls=job.dsn_ret == REQUIRETLS)
        if named and named.sources:
            hops = [replace(hop, sources=named.sources) for hop in hops]
    else:
        hops = list(named.hops) if named and named.hops else [smarthost()]
    return _kept_inside(hops) if settings.GATEPOST_DEMO else hops


@dataclass(frozen=True, slots=True)
class Named:
    """What a named route says: hops of a smarthost, none where it is the installation's."""

    hops: tuple[NextHop, ...]
    sources: tuple[str, ...]


@lru_cache(maxsize=256)
def named_of(row: str) -> Named:
    """From a NamedRoute's row as JSON. Raises RouteNotConfiguredError."""
    route = json.loads(row)
    sources = tuple(filter(None, (route["source_ipv4"], route["source_ipv6"])))
    try:
        password = opened(route["password_sealed"].encode()) if route["password_sealed"] else ""
    except EncryptionKeyMissing:
        words = f"The password of route {route['name']} was sealed with a key that GATEPOST_ENCRYPTION_KEYS lacks."
        raise RouteNotConfiguredError(words) from None
    hops = tuple(
        NextHop(
            host,
            port,
            route["tls"],
            ca_file=route["ca_pem"],
            username=route["username"],
            password=password,
            sources=sources,
        )
        for host, port in route["hosts"]
    )
    return Named(hops, sources)


def _kept_inside(hops: Sequence[NextHop]) -> Sequence[NextHop]:
    """The demo lets no mail out of the machine, whatever somebody sets in its panel."""
    inside = [hop for hop in hops if hop.is_loopback or (hop.address and ip_address(hop.address).is_loopback)]
    if not inside:
        raise RouteNotConfiguredError("This is the demo: no mail leaves this machine.")
    return inside


def smarthost() -> NextHop:
    """The installation's, as the settings name it."""
    if not settings.GATEPOST_SMARTHOST:
        raise RouteNotConfiguredError("The route is smarthost, but GATEPOST_SMARTHOST is not set.")
    return NextHop(
        settings.GATEPOST_SMARTHOST,
        settings.GATEPOST_SMARTHOST_PORT,
        settings.GATEPOST_SMARTHOST_TLS,
        str(settings.GATEPOST_SMARTHOST_CA_FILE),
        settings.GATEPOST_SMARTHOST_USERNAME,
        settings.GATEPOST_SMARTHOST_PASSWORD,
    )
