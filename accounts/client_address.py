"""From where a request comes: as guesses are counted, and as it is.

Shapes  peer_address(request): the address itself, for the change log; None if it cannot be read.
        client_address(request): as guesses are counted: the peer's address, or behind GATEPOST_PROXY_COUNT proxies what
        the outermost one saw. An IPv6 address counts as its /64: whoever has one address has all of those.
Errors  An address that cannot be read counts as 0.0.0.0: together with all others like it.
Source  RFC 7239 5.2 on trust in forwarded addresses; django-axes calls it (AXES_CLIENT_IP_CALLABLE).
"""

from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest


def peer_address(request: HttpRequest) -> str | None:
    try:
        address = ip_address(_reported(request))
    except ValueError:
        return None
    return str((address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address)


def client_address(request: HttpRequest) -> str:
    try:
        address = ip_address(_reported(request))
    except ValueError:
        return "0.0.0.0"  # noqa: S104  # a value to count by, nothing is bound to it
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((address, 64), strict=False).network_address)
    return str(address)


def _reported(request: HttpRequest) -> str:
    """Each proxy appends what it saw: only the last N entries were written by ours, the rest by the client."""
    proxies: int = settings.AXES_IPWARE_PROXY_COUNT
    forwarded = request.headers.get("X-Forwarded-For", "").split(",") if proxies else []
    if len(forwarded) >= proxies > 0:
        return forwarded[-proxies].strip()
    return str(request.META.get("REMOTE_ADDR", ""))
