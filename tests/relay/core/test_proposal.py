"""relay/proposal.py: the smallest sensible ranges from real use."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.proposal import HANDFUL, PRICE, PRICE_MOST, Address, Use, propose

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)

ipv4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ipv6 = st.integers(0, 2**128 - 1).map(IPv6Address)
near4 = st.integers(0, 511).map(lambda number: IPv4Address(0xC0000200 + number))
near6 = st.integers(0, 40).map(lambda number: IPv6Address((0x20010DB8 << 96) + number))
addresses = st.sets(st.one_of(near4, near6, ipv4, ipv6), max_size=60)


def uses(ips: set[Address] | list[Address]) -> list[Use]:
    return [Use(ip, 1, NOON) for ip in ips]


def proposed(*ips: str) -> list[str]:
    return [str(each.network) for each in propose(uses([ip_address(ip) for ip in ips])).ranges]


def neighbourhoods(ips: set[Address]) -> int:
    return len({(ip.version, int(ip) >> (8 if ip.version == 4 else 64)) for ip in ips})


@given(addresses)
def test_every_address_is_in_exactly_one_range(ips: set[Address]) -> None:
    """Nothing that signed in is left out, and no two ranges overlap."""
    ranges = [each.network for each in propose(uses(ips)).ranges]
    assert all(sum(ip in network for network in ranges) == 1 for ip in ips)


@given(addresses)
def test_no_range_is_wider_than_a_neighbourhood(ips: set[Address]) -> None:
    """A /24 or a /64 at most, and none without a sign-in; what is wider than one address holds two at least."""
    for each in propose(uses(ips)).ranges:
        assert each.network.prefixlen >= (24 if each.network.version == 4 else 64)
        inside = sum(ip in each.network for ip in ips)
        assert inside == each.addresses >= (2 if each.joined else 1)


@given(addresses)
def test_there_are_a_handful_at_most(ips: set[Address]) -> None:
    """Wherever the neighbourhoods are a handful; else two for each at most, and the proposal says that they scatter."""
    proposal, blocks = propose(uses(ips)), neighbourhoods(ips)
    assert len(proposal.ranges) <= (HANDFUL if blocks <= HANDFUL else 2 * blocks)
    assert proposal.scattered == (len(proposal.ranges) > HANDFUL)


@given(st.sets(near4, max_size=60))
def test_use_justifies_each_joined_range(ips: set[Address]) -> None:
    """More of it is used than one in (price + 1), and the price is the usual one unless the list was too long."""
    proposal = propose(uses(ips))
    for each in proposal.ranges:
        assert each.share > 1 / (proposal.price + 1)
    if len(ips) <= HANDFUL:
        assert proposal.price == PRICE


@given(st.sets(st.integers(0, 31), min_size=1, max_size=8))
def test_no_other_list_is_cheaper(numbers: set[int]) -> None:
    """Against every list that aligned ranges could make, reckoned from left to right."""
    ips: set[Address] = {IPv4Address(0xC0000200 + number) for number in numbers}
    got = sum(PRICE + each.size - each.addresses for each in propose(uses(ips)).ranges)
    least = [0] * 33
    for start in range(31, -1, -1):
        sizes = [size for size in (1, 2, 4, 8, 16, 32) if start % size == 0]
        costs = [PRICE + size - len(numbers & set(range(start, start + size))) + least[start + size] for size in sizes]
        least[start] = min([*costs, least[start + 1]] if start not in numbers else costs)
    assert got == least[0]


@given(st.lists(st.tuples(near4, st.integers(1, 99), st.integers(0, 99)), max_size=40), st.randoms())
def test_the_order_does_not_matter_and_nothing_is_lost(rows: list[tuple[Address, int, int]], lot: object) -> None:
    """Shuffled uses give the same; the evidence sums to all sign-ins, and its newest is the newest."""
    given_uses = [Use(ip, logins, NOON + timedelta(hours=hours)) for ip, logins, hours in rows]
    proposal = propose(given_uses)
    lot.shuffle(given_uses)  # type: ignore[attr-defined]
    assert propose(given_uses) == proposal
    assert proposal.logins == sum(use.logins for use in given_uses)
    if rows:
        assert max(each.last_at for each in proposal.ranges) == max(use.last_at for use in given_uses)


@pytest.mark.parametrize(
    ("ips", "ranges"),
    [
        ([], []),  # no use, no range
        (["192.0.2.7"], ["192.0.2.7/32"]),
        (["2001:db8::7"], ["2001:db8::7/128"]),
        (["192.0.2.6", "192.0.2.7"], ["192.0.2.6/31"]),
        (["192.0.2.7", "192.0.2.8"], ["192.0.2.7/32", "192.0.2.8/32"]),  # neighbours, but no range is small around both
        (["192.0.2.7", "198.51.100.9"], ["192.0.2.7/32", "198.51.100.9/32"]),
        ([f"192.0.2.{n}" for n in (16, 18, 19, 21, 22, 25, 28, 30)], ["192.0.2.16/28"]),
        ([f"192.0.2.{n}" for n in (1, 100)], ["192.0.2.1/32", "192.0.2.100/32"]),
        ([f"192.0.2.{n}" for n in range(0, 256, 3)], ["192.0.2.0/24"]),
        (["2001:db8::1", "2001:db8::2", "2001:db8::3"], ["2001:db8::/126"]),
    ],
)
def test_as_a_person_would(ips: list[str], ranges: list[str]) -> None:
    """One address stays one, a used block becomes a block, far ones are not joined."""
    assert proposed(*ips) == ranges


def test_temporary_addresses_make_their_64() -> None:
    """Two that a host drew by lot will be followed by others of the same /64; two numbered by hand will not."""
    assert proposed("2001:db8::3c1f:8a2b:99e1:4d02", "2001:db8::b1d4:72e8:5f3a:96c7") == ["2001:db8::/64"]
    by_hand = ["2001:db8::25", "2001:db8::1:0:0:25"]
    assert proposed(*by_hand) == ["2001:db8::25/128", "2001:db8::1:0:0:25/128"]
    from_mac = ["2001:db8::211:22ff:fe33:4455", "2001:db8::a11:22ff:fe33:4466"]
    assert len(proposed(*from_mac)) == 2


def test_a_long_list_is_shortened_where_it_can_be() -> None:
    """Sixteen far addresses of one /24 become few ranges of it; the proposal says that it joined for shortness."""
    proposal = propose(uses([IPv4Address(0xC0000200 + 16 * number) for number in range(16)]))
    assert proposal.shortened and not proposal.scattered
    assert [str(each.network) for each in proposal.ranges] == ["192.0.2.0/24"]


def test_what_scatters_is_not_opened_for_nothing() -> None:
    """Thirty addresses of thirty networks stay thirty single addresses."""
    proposal = propose(uses([IPv4Address(number << 24 | 7) for number in range(1, 31)]))
    assert proposal.scattered and not proposal.shortened
    assert {each.size for each in proposal.ranges} == {1}


def test_evidence_tells_how_much_of_a_range_is_used() -> None:
    """Logins, addresses, last time and share of each range."""
    later = NOON + timedelta(days=1)
    ips = [
        Use(ip_address("192.0.2.4"), 40, NOON),
        Use(ip_address("192.0.2.5"), 2, later),
        Use(ip_address("192.0.2.7"), 1, NOON),
    ]
    (only,) = propose(ips).ranges
    assert (str(only.network), only.logins, only.addresses, only.last_at, only.share) == (
        "192.0.2.4/30", 43, 3, later, 0.75,
    )  # fmt: skip


def test_many_addresses_take_no_time() -> None:
    """A whole /16 and twenty thousand addresses of one /64, far below a second."""
    ips: list[Address] = [IPv4Address(0x0A000000 + number) for number in range(0, 2**16, 3)]
    ips += [IPv6Address((0x20010DB8 << 96) + number * 0x9E3779B97F4A7C15 % 2**64) for number in range(1, 20_000)]
    started = datetime.now(UTC)
    proposal = propose(uses(ips))
    assert datetime.now(UTC) - started < timedelta(seconds=10)
    assert len(proposal.ranges) == 257 and proposal.price < PRICE_MOST
