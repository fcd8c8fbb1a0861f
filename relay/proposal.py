"""Which ranges an allowlist should have, from where sign-ins really came. Arithmetic only: no database, no clock.

Shapes  propose(uses) -> Proposal: disjoint ranges in order, which together hold every address that signed in.
Units   A row of the list costs PRICE, an address that it would open without use costs 1: addresses are joined where
        that is cheaper than a row for each. So a joined IPv4 range is always used by more than 1 / (price + 1).
        No range is wider than a /24 or a /64. If there are more than HANDFUL, the price of a row goes up until there
        are not; where sign-ins came from more neighbourhoods than that, until there are two for each at most.
Errors  None: no uses, no ranges.
Source  RFC 4632 (CIDR); RFC 8981 (a host changes its temporary IPv6 addresses within its /64, daily).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Range = IPv4Network | IPv6Network

HANDFUL = 8
PRICE = 3
PRICE_MOST = 2**16  # above any number of addresses that a range could open
WIDEST = {4: 24, 6: 64}
NARROW_IPV6 = 112  # hosts numbered by hand differ in their last 16 bits; what differs above is a /64's own business
OPEN_IPV6 = 16  # what a /64 costs at most: its 2^64 addresses are one customer's, not as many strangers'


@dataclass(frozen=True, slots=True)
class Use:
    """Accepted sign-ins from one address."""

    ip: Address
    logins: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Proposed:
    """One range with its evidence."""

    network: Range
    logins: int
    addresses: int  # of those in it, so many signed in
    last_at: datetime

    @property
    def size(self) -> int:
        return self.network.num_addresses

    @property
    def share(self) -> float:
        return self.addresses / self.size

    @property
    def joined(self) -> bool:
        return self.size > 1


@dataclass(frozen=True, slots=True)
class Proposal:
    """price: what a row cost in the end; above PRICE, ranges were joined to keep the list short."""

    ranges: tuple[Proposed, ...]
    price: int = PRICE

    @property
    def scattered(self) -> bool:
        """More than a handful, because the addresses have nothing in common: an allowlist may not suit."""
        return len(self.ranges) > HANDFUL

    @property
    def shortened(self) -> bool:
        return self.price > PRICE

    @property
    def logins(self) -> int:
        return sum(each.logins for each in self.ranges)

    @property
    def addresses(self) -> int:
        return sum(each.addresses for each in self.ranges)


def propose(uses: Iterable[Use]) -> Proposal:
    """The ranges of the least cost. The order of the uses does not matter; several of one address are summed."""
    seen = _by_address(uses)
    blocks = list(_neighbourhoods(seen))
    most = HANDFUL if len(blocks) <= HANDFUL else 2 * len(blocks)
    price = PRICE
    networks = _cheapest(blocks, price)
    while len(networks) > most and price < PRICE_MOST:
        price *= 2
        networks = _cheapest(blocks, price)
    return Proposal(tuple(_with_evidence(networks, seen)), price)


def _by_address(uses: Iterable[Use]) -> dict[Address, Use]:
    seen: dict[Address, Use] = {}
    for use in uses:
        if other := seen.get(use.ip):
            use = Use(use.ip, use.logins + other.logins, max(use.last_at, other.last_at))  # noqa: PLW2901
        seen[use.ip] = use
    return seen


def _neighbourhoods(seen: Iterable[Address]) -> Iterator[list[Address]]:
    """The addresses of each /24 or /64, in order."""
    found: dict[tuple[int, int], list[Address]] = defaultdict(list)
    for ip in sorted(seen, key=_place):
        found[ip.version, int(ip) >> (ip.max_prefixlen - WIDEST[ip.version])].append(ip)
    yield from found.values()


def _cheapest(blocks: Iterable[Sequence[Address]], price: int) -> list[Range]:
    return [network for block in blocks for network in _split(block, price, whole=True)[1]]


def _split(block: Sequence[Address], price: int, *, whole: bool = False) -> tuple[int, list[Range]]:
    """The least cost of ranges that hold these addresses, and the ranges. whole: all of one /24 or /64."""
    around = _smallest_around(block[0], block[-1])
    if len(block) == 1:
        return price, [around]
    middle = _first_of_upper_half(block, around)
    left_cost, left = _split(block[:middle], price)
    right_cost, right = _split(block[middle:], price)
    joined = _joined(block, around, whole=whole)
    if joined is None or price + joined[0] > left_cost + right_cost:
        return left_cost + right_cost, left + right
    return price + joined[0], [joined[1]]


def _joined(block: Sequence[Address], around: Range, *, whole: bool) -> tuple[int, Range] | None:
    """What one range for all of them opens, and the range."""
    unused = around.num_addresses - len(block)
    if isinstance(around, IPv4Network):
        return unused, around
    if around.prefixlen >= NARROW_IPV6:
        return min(unused, OPEN_IPV6), around
    if not whole:
        return None  # between a host's neighbours and its /64 no prefix means anything
    changing = sum(_is_temporary(ip) for ip in block) > 1
    return 0 if changing else OPEN_IPV6, IPv6Network((int(around.network_address) >> 64 << 64, 64))


def _smallest_around(first: Address, last: Address) -> Range:
    prefix = first.max_prefixlen - (int(first) ^ int(last)).bit_length()
    low = int(first) >> (first.max_prefixlen - prefix) << (first.max_prefixlen - prefix)
    return IPv4Network((low, prefix)) if first.version == 4 else IPv6Network((low, prefix))


def _first_of_upper_half(block: Sequence[Address], around: Range) -> int:
    half = int(around.network_address) + around.num_addresses // 2
    return next(number for number, ip in enumerate(block) if int(ip) >= half)


def _is_temporary(ip: Address) -> bool:
    """The second half looks drawn by lot: neither numbered by hand (zeros) nor made from a MAC address (ff:fe)."""
    host = int(ip) & (2**64 - 1)
    return (host >> 24) & 0xFFFF != 0xFFFE and f"{host:016x}".count("0") < 8


def _with_evidence(networks: Iterable[Range], seen: dict[Address, Use]) -> Iterator[Proposed]:
    """Both are in order, and each address lies in exactly one of them."""
    uses = iter(sorted(seen.values(), key=lambda use: _place(use.ip)))
    use = next(uses, None)
    for network in networks:
        inside: list[Use] = []
        while use is not None and use.ip in network:
            inside.append(use)
            use = next(uses, None)
        yield Proposed(network, sum(each.logins for each in inside), len(inside), max(each.last_at for each in inside))


def _place(ip: Address) -> tuple[int, int]:
    return ip.version, int(ip)
