"""relay.reputation.lookups, against a DNS server of the test: what answers of blocklists and names mean."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from relay import resolver
from relay.models import ReputationSpan
from relay.reputation.lookups import Seen, asked_as, look
from tests.dns_server import DnsServer

State = ReputationSpan.State
ADDRESS, SIXTH = "192.0.2.25", "2001:db8::25"
LIST, HOST = "bl.example", "mail.gatepost.example"


@pytest.fixture
def dns(settings: Any) -> Iterator[DnsServer]:
    """A list that works, and a host whose names fit."""
    with DnsServer() as server:
        settings.GATEPOST_RESOLVERS = (server.address,)
        server.put(f"2.0.0.127.{LIST}", "A", "127.0.0.2")
        server.put(resolver.reverse_name(ADDRESS), "PTR", f"{HOST}.")
        server.put(HOST, "A", ADDRESS)
        yield server
        resolver.forget()


def seen(*addresses: str, zones: tuple[str, ...] = (LIST,)) -> dict[str, Seen]:
    looked = asyncio.run(look(addresses or (ADDRESS,), zones=zones, hostname=HOST))
    return {each.zone or each.check: each for each in looked}


def test_good_address_is_asked_as_lists_want_it(dns: DnsServer) -> None:
    """Nobody names it, its name leads back, and the host's name leads to it; octets and nibbles run backwards."""
    assert {name: each.state for name, each in seen().items()} == dict.fromkeys((LIST, "ptr", "helo"), State.GOOD)
    assert (f"25.2.0.192.{LIST}", "A") in {(name, kind) for name, kind, _by in dns.asked}
    assert asked_as(SIXTH) == "5.2.0.0." + "0." * 20 + "8.b.d.0.1.0.0.2"


@pytest.mark.parametrize(
    ("codes", "state", "words"),
    [
        (("127.0.0.2",), State.LISTED, "127.0.0.2. Sends spam, see https://bl.example/?q=1"),
        (("127.0.0.9", "127.0.0.10"), State.LISTED, "127.0.0.10, 127.0.0.9"),
        (("127.255.255.254",), State.REFUSED, "public resolver"),
        (("127.255.255.255",), State.REFUSED, "too often"),
        (("127.255.255.252",), State.REFUSED, "mistyped"),
        (("127.255.255.7",), State.REFUSED, "127.255.255.7"),
        (("203.0.113.80",), State.BROKEN, "no code of a list"),
        (("127.0.0.1",), State.BROKEN, "no code of a list"),
    ],
)
def test_answer_codes(dns: DnsServer, codes: tuple[str, ...], state: str, words: str) -> None:
    """Codes name a listing, a refusal to answer, or nothing that a list says; the list's own words stand beside it."""
    dns.put(f"25.2.0.192.{LIST}", "A", *codes)
    dns.put_text(f"25.2.0.192.{LIST}", "Sends spam, see https://bl.example/?q=1")
    found = seen()[LIST]
    assert found.state == state
    assert words in found.detail


def test_codes_of_a_known_list_have_words(dns: DnsServer) -> None:
    """What 127.0.0.4 means there needs no look at its page."""
    dns.put("2.0.0.127.zen.spamhaus.org", "A", "127.0.0.2", "127.0.0.4")
    dns.put("25.2.0.192.zen.spamhaus.org", "A", "127.0.0.4")
    assert "XBL" in seen(zones=("zen.spamhaus.org",))["zen.spamhaus.org"].detail


def test_list_that_is_none_names_nobody(dns: DnsServer) -> None:
    """Closed lists, mistyped names, lists of everybody, refusals and silence are told as such, and are no listing."""
    dns.put("*.0.0.127.all.example", "A", "127.0.0.2")
    dns.put("2.0.0.127.shy.example", "A", "127.255.255.254")
    dns.trouble["2.0.0.127.dumb.example"] = "servfail"
    for zone in ("all.example", "shy.example", "dumb.example", "gone.example"):
        dns.put(f"25.2.0.192.{zone}", "A", "127.0.0.2")
    found = seen(zones=("all.example", "shy.example", "dumb.example", "gone.example"))
    assert (found["all.example"].state, found["gone.example"].state) == (State.BROKEN, State.BROKEN)
    assert (found["shy.example"].state, found["dumb.example"].state) == (State.REFUSED, State.UNKNOWN)
    assert "closed" in found["all.example"].detail and "mistyped" in found["gone.example"].detail


def test_names_that_do_not_fit(dns: DnsServer) -> None:
    """No PTR, a PTR that leads elsewhere, a host name that leads elsewhere or nowhere, and a resolver that fails."""
    dns.put(HOST, "A", "192.0.2.99")
    found = seen()
    assert (found["ptr"].state, found["helo"].state) == (State.BAD, State.BAD)
    assert "lead back" in found["ptr"].detail and "192.0.2.99" in found["helo"].detail
    resolver.forget()
    dns.remove(resolver.reverse_name(ADDRESS))
    dns.remove(HOST)
    found = seen()
    assert "has no name" in found["ptr"].detail and "no address in the DNS" in found["helo"].detail
    resolver.forget()
    dns.trouble |= {resolver.reverse_name(ADDRESS): "servfail", HOST: "servfail"}
    assert {seen()[name].state for name in ("ptr", "helo")} == {State.UNKNOWN}


def test_ipv6_address_is_compared_as_a_number(dns: DnsServer) -> None:
    """However the record writes it."""
    dns.put(resolver.reverse_name(SIXTH), "PTR", "six.gatepost.example.")
    dns.put("six.gatepost.example", "AAAA", "2001:0db8:0:0:0:0:0:0025")
    assert seen(SIXTH)["ptr"] == Seen("ptr", SIXTH, "", State.GOOD, "six.gatepost.example")


def test_hostile_answers_are_text(dns: DnsServer) -> None:
    """A TXT record with markup and control characters, and a PTR of 250 characters, stay within their column."""
    dns.put(f"25.2.0.192.{LIST}", "A", "127.0.0.2")
    dns.put_text(f"25.2.0.192.{LIST}", "<b>\x1b[2J" * 200)
    dns.put(resolver.reverse_name(ADDRESS), "PTR", *(f"{letter * 60}.{letter * 60}.example." for letter in "abcdefgh"))
    found = seen()
    assert all(len(each.detail) <= 500 for each in found.values())
    assert "\x1b" not in found[LIST].detail
