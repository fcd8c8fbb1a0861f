"""Whose address it is, for those who count guesses: its neighbourhood, and whether it is never banned.

Shapes  An address is text as `str(ip_address())` writes it; a neighbourhood is the text of its /24 or /64.
Source  RFC 1918, 6598, 4193, 3927 (private, shared, unique local and link-local ranges).
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_network

from audit.record import network_around
from relay.networks import Range, parse_address

# Behind one of these may stand a whole site, or a balancer that does not say whom it speaks for.
PRIVATE: tuple[Range, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.168.0.0/16", "::/127", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip

neighbourhood = lru_cache(maxsize=20_000)(network_around)


def is_shared(ip: str) -> bool:
    """IPv6 customers have a whole /64 each: there the neighbourhood is one party, in IPv4 it is 256."""
    return ":" not in ip


def host_range(ip: str) -> str:
    """The address itself as a range."""
    return f"{ip}/{32 if is_shared(ip) else 128}"


class Protected:
    """The ranges that are never banned: private ones, configured proxies, and those that the operator named."""

    def __init__(self, always: Iterable[Range] = ()) -> None:
        self._always = (*PRIVATE, *always)
        self._named: tuple[Range, ...] = ()
        self._answers: dict[str, bool] = {}

    def name(self, ranges: Iterable[Range]) -> None:
        """The operator's ranges as they are now."""
        named = tuple(ranges)
        if named != self._named:
            self._named = named
            self._answers.clear()

    def __contains__(self, ip: object) -> bool:
        assert isinstance(ip, str)
        answer = self._answers.get(ip)
        if answer is None:
            if len(self._answers) >= 20_000:
                self._answers.clear()
            address = parse_address(ip)
            answer = self._answers[ip] = any(address in each for each in (*self._always, *self._named))
        return answer
