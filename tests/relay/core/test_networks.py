"""relay.networks: what people type, what a list holds, and who it would have shut out."""

from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from django.db import IntegrityError
from django.utils import timezone
from hypothesis import given, strategies

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.credentials import create_app_password, create_smtp_user
from relay.models import CredentialChange, Network
from relay.networks import (
    NETWORKS_MAX,
    NetworkRefused,
    add_network,
    allowed,
    list_of,
    parse_address,
    parse_network,
    remove_network,
)
from tests.relay.core.conftest import at_once

NONSENSE = " is not an address or range. Write it like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48."
ALL = "/0 allows every address. Remove the list instead, if that is what you want."
ZONE = "Leave out the interface, the part behind the percent sign."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *[
            (text, f"“{text.strip()}”{NONSENSE}")
            for text in (
                *["", "a", "10", "10/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/a"],
                *["192.0.2.0 /24", "192.0.2.0/24/24", "010.0.0.1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "3221225985"],
                *[
                    "10.0.0.1-10.0.0.9",
                    "10.0.0.*",
                    "１92.0.2.0",
                    "a\0b",
                    "example.com",
                    "2001:db8:::",
                    "::/129",
                    "[::1]",
                ],
            )
        ],
        ("x" * 100, f"“{'x' * 64}”{NONSENSE}"),
        ("0.0.0.0/0", ALL),
        ("192.0.2.1/0", ALL),
        ("::/0", ALL),
        ("::ffff:0:0/96", ALL),
        ("::ffff:192.0.2.1/96", ALL),
        ("fe80::1%eth0", ZONE),
        ("fe80::%eth0/64", ZONE),
        ("192.0.2.1/24", "“192.0.2.1/24” names an address inside a range. Did you mean 192.0.2.0/24?"),
        ("2001:db8::1/48", "“2001:db8::1/48” names an address inside a range. Did you mean 2001:db8::/48?"),
    ],
)
def test_what_is_no_range_says_why(text: str, words: str) -> None:
    """The whole message, with what was typed and what to type instead."""
    with pytest.raises(NetworkRefused) as refused:
        parse_network(text)
    assert refused.value.messages == [words]


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        (" 192.0.2.0/24\n", "192.0.2.0/24"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("2001:DB8:0::/48", "2001:db8::/48"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/97", "0.0.0.0/1"),
        ("::/1", "::/1"),
    ],
)
def test_ranges_are_stored_in_one_spelling(text: str, network: str) -> None:
    """IPv4-mapped ones are their IPv4, an address alone is a range of one."""
    assert str(parse_network(text)) == network


@given(strategies.one_of(strategies.text(max_size=50), strategies.text("0123456789abcdef:./% ", max_size=30)))
def test_no_text_raises_anything_else(text: str) -> None:
    """A range, or NetworkRefused in words that can be shown."""
    try:
        assert parse_network(text).prefixlen > 0
    except NetworkRefused as refused:
        assert refused.messages


ADDRESSES = strategies.one_of(strategies.ip_addresses(v=4), strategies.ip_addresses(v=6))


@given(address=ADDRESSES, prefix=strategies.integers(1, 128))
def test_parsing_agrees_with_ipaddress(address: IPv4Address | IPv6Address, prefix: int) -> None:
    """Every network there is comes back as it is; with host bits set, the message names the network around it."""
    text = f"{address}/{min(prefix, address.max_prefixlen)}"
    loose = ip_network(text, strict=False)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return
    assert parse_network(str(loose)) == loose
    if loose.network_address != address:
        with pytest.raises(NetworkRefused) as refused:
            parse_network(text)
        assert str(loose) in refused.value.messages[0]


@given(address=strategies.ip_addresses(v=4), prefix=strategies.integers(1, 32))
def test_mapped_addresses_are_their_ipv4(address: IPv4Address, prefix: int) -> None:
    """On both sides: in the list as typed, and in the peer's address as the socket tells it."""
    network = ip_network(f"{address}/{prefix}", strict=False)
    mapped = f"::ffff:{network.network_address}/{prefix + 96}"
    assert parse_network(mapped) == network
    assert parse_address(f"::ffff:{address}") == address
    assert allowed(parse_address(f"::ffff:{address}"), (parse_network(mapped),))


@given(address=ADDRESSES, lists=strategies.lists(strategies.lists(ADDRESSES, max_size=3), max_size=3))
def test_an_address_must_pass_every_list(address: Any, lists: list[list[Any]]) -> None:
    """Against sets of single addresses: None is no list, an empty one holds nobody."""
    ranges = [tuple(ip_network(each) for each in one) for one in lists]
    assert allowed(address, *ranges) == all(address in one for one in lists)
    assert allowed(address, None, None)
    assert allowed(address, None, (ip_network(address),))
    assert not allowed(address, None, ())


def test_a_zone_is_no_part_of_a_peers_address() -> None:
    """Link-local peers come with their interface."""
    assert parse_address("fe80::1%eth0") == ip_address("fe80::1")
    with pytest.raises(ValueError, match="does not appear"):
        parse_address("nonsense")


@pytest.mark.parametrize(
    ("there", "added", "words"),
    [
        ("192.0.2.0/24", "192.0.2.0/24", "192.0.2.0/24 is in this list already."),
        ("192.0.2.0/24", "::ffff:192.0.2.0/120", "192.0.2.0/24 is in this list already."),
        ("192.0.2.0/24", "192.0.2.7", "192.0.2.7/32 lies inside 192.0.2.0/24, which this list already allows."),
        ("192.0.2.7", "192.0.2.0/24", "192.0.2.0/24 takes in 192.0.2.7/32 of this list. Remove that one first."),
        ("2001:db8::/48", "2001:db8::1", "2001:db8::1/128 lies inside 2001:db8::/48, which this list already allows."),
    ],
)
def test_overlaps_name_the_other_range(alice_org: Organization, there: str, added: str, words: str) -> None:
    """And nothing is added."""
    add_network(alice_org, cidr=there, actor=SYSTEM)
    with pytest.raises(NetworkRefused) as refused:
        add_network(alice_org, cidr=added, actor=SYSTEM)
    assert refused.value.messages == [words]
    assert Network.objects.count() == 1


def test_lists_of_others_do_not_overlap(alice_org: Organization, bob_org: Organization) -> None:
    """The organization's, an SMTP user's, an app password's and another organization's are four lists."""
    user = create_smtp_user(alice_org, name="app", excess="hold", actor=SYSTEM)
    password = create_app_password(user, name="n", actor=SYSTEM).app_password
    owners: list[dict[str, Any]] = [{}, {"smtp_user": user}, {"smtp_user": user, "app_password": password}]
    for owner in owners:
        add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM, **owner)
        assert list_of(alice_org, **owner).count() == 1
    add_network(bob_org, cidr="192.0.2.0/24", actor=SYSTEM)
    add_network(alice_org, cidr="::/16", actor=SYSTEM)
    assert Network.objects.count() == 5


def test_an_ended_range_may_come_again(alice_org: Organization) -> None:
    """It is replaced by the same range, and no obstacle to another; a new end must lie ahead."""
    past = timezone.now() - timedelta(seconds=1)
    Network.objects.create(organization=alice_org, cidr="192.0.2.0/24", ends_at=past)
    with pytest.raises(NetworkRefused, match="in the past"):
        add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM, ends_at=past)
    add_network(alice_org, cidr="192.0.2.7", actor=SYSTEM)
    add_network(alice_org, cidr="198.51.100.0/24", actor=SYSTEM)
    Network.objects.filter(cidr="192.0.2.7/32").delete()
    added = add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM, label=" Office ")
    assert (added.label, added.ends_at) == ("Office", None)
    assert Network.objects.filter(cidr="192.0.2.0/24").count() == 1


def test_a_list_is_bounded(alice_org: Organization) -> None:
    """The whole of it is read at each sign-in; a label is bounded too."""
    Network.objects.bulk_create(
        Network(organization=alice_org, cidr=f"192.0.2.{number}/32") for number in range(NETWORKS_MAX)
    )
    with pytest.raises(NetworkRefused, match="200 ranges"):
        add_network(alice_org, cidr="198.51.100.0/24", actor=SYSTEM)
    with pytest.raises(NetworkRefused, match="64 characters"):
        add_network(alice_org, cidr="198.51.100.0/24", actor=SYSTEM, label="x" * 65)


def test_adding_and_removing_are_recorded_and_announced(alice_org: Organization) -> None:
    """Range and owner in the chain, a row for smtpd each; no session ends."""
    user = create_smtp_user(alice_org, name="app", excess="hold", actor=SYSTEM)
    CredentialChange.objects.all().delete()
    remove_network(add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM, smtp_user=user), actor=SYSTEM)
    events = ChangeEvent.objects.filter(action__startswith="network.").order_by("sequence")
    assert [(each.action, each.subject, (each.values or {})["cidr"]) for each in events] == [
        ("network.added", "app.alice-works", "192.0.2.0/24"),
        ("network.removed", "app.alice-works", "192.0.2.0/24"),
    ]
    rows = CredentialChange.objects.values_list("smtp_user_id", "app_password_id", "ends_sessions")
    assert list(rows) == [(user.pk, None, False)] * 2
    assert not Network.objects.exists()


def test_the_same_range_is_added_once(transactional_db: None, alice_org: Organization) -> None:
    """Five forms at once: one row, four refusals, no error of the database."""

    def add() -> Network:
        return add_network(Organization.objects.get(pk=alice_org.pk), cidr="192.0.2.0/24", actor=SYSTEM)

    results = at_once([add] * 5)
    assert sum(isinstance(result, Network) for result in results) == 1
    assert sum(isinstance(result, NetworkRefused) for result in results) == 4
    assert not any(isinstance(result, IntegrityError) for result in results)
