"""relay.mx: which servers the DNS names for a destination, and what is said where there are none."""

from ipaddress import ip_address
from typing import Any

import pytest

from relay import resolver
from relay.mx import route
from relay.mx.errors import NoNextHopError
from relay.mx.hosts import may_go_to
from relay.mx.route import CANDIDATES, MxRoute
from tests.dns_server import DnsServer


async def reached(mx_route: MxRoute, destination: str) -> list[tuple[str, str]]:
    return [(hop.host, hop.address) for hop in await mx_route.next_hops(destination)]


async def refusal(mx_route: MxRoute, destination: str) -> tuple[int, str, str]:
    with pytest.raises(NoNextHopError) as caught:
        await mx_route.next_hops(destination)
    return caught.value.code, caught.value.enhanced_code, str(caught.value)


async def test_the_order_of_preference(mx_route: MxRoute, dns_server: DnsServer) -> None:
    """Lowest preference first, equals in any order, each host with its addresses of both families in turn."""
    dns_server.put("order.example", "MX", "20 c.order.example.", "10 a.order.example.", "10 b.order.example.")
    for number, host in enumerate("abc", start=1):
        dns_server.put(f"{host}.order.example", "A", f"127.0.0.{number}")
    dns_server.put("c.order.example", "AAAA", "::1")
    seen = {tuple(await reached(mx_route, "Order.Example.")) for _ in range(60)}
    a, b = ("a.order.example", "127.0.0.1"), ("b.order.example", "127.0.0.2")
    rest = (("c.order.example", "127.0.0.3"), ("c.order.example", "::1"))
    assert seen == {(a, b, *rest), (b, a, *rest)}


async def test_what_was_found_out_is_used_again(
    mx_route: MxRoute, dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For some seconds, with the load shared all the same; a refusal is asked for anew."""
    monkeypatch.setattr(route, "PLAN_SECONDS", 60.0)
    dns_server.put("two.example", "MX", "10 a.two.example.", "10 b.two.example.", ttl=0)
    dns_server.put("a.two.example", "A", "127.0.0.1", ttl=0)
    dns_server.put("b.two.example", "A", "127.0.0.2", ttl=0)
    assert {(await reached(mx_route, "two.example"))[0][0][0] for _ in range(40)} == {"a", "b"}
    assert len([name for name, kind, _by in dns_server.asked if kind == "MX"]) == 1
    assert (await refusal(mx_route, "late.example"))[0] == 550
    dns_server.put("late.example", "A", "127.0.0.1")
    resolver.forget()
    assert await reached(mx_route, "late.example")


async def test_the_families_are_the_operators(mx_route: MxRoute, dns_server: DnsServer, settings: Any) -> None:
    """IPv6 first, or alone; and each hop has the source addresses of the settings."""
    dns_server.put("six.example", "A", "127.0.0.1")
    dns_server.put("six.example", "AAAA", "::1")
    settings.GATEPOST_MX_FAMILIES = ("ipv6", "ipv4")
    settings.GATEPOST_MX_SOURCES = ("127.0.0.9",)
    hops = await mx_route.next_hops("six.example")
    assert [(hop.address, hop.sources, hop.tls, hop.is_mx) for hop in hops] == [
        ("::1", ("127.0.0.9",), "opportunistic", True), ("127.0.0.1", ("127.0.0.9",), "opportunistic", True),
    ]  # fmt: skip
    settings.GATEPOST_MX_FAMILIES = ("ipv4",)
    assert await reached(mx_route, "six.example") == [("six.example", "127.0.0.1")]


async def test_without_mx_the_domain_is_its_own_server(mx_route: MxRoute, dns_server: DnsServer) -> None:
    """By its address, also where a CNAME leads to it; and literals need no DNS."""
    dns_server.put("plain.example", "A", "127.0.0.1")
    dns_server.put("alias.example", "CNAME", "plain.example.")
    assert await reached(mx_route, "plain.example") == [("plain.example", "127.0.0.1")]
    assert await reached(mx_route, "alias.example") == [("alias.example", "127.0.0.1")]
    asked = len(dns_server.asked)
    assert await reached(mx_route, "[127.0.0.5]") == [("127.0.0.5", "127.0.0.5")]
    assert await reached(mx_route, "[IPv6:::1]") == [("::1", "::1")]
    assert len(dns_server.asked) == asked


async def test_cnames_are_followed_even_where_they_are_forbidden(mx_route: MxRoute, dns_server: DnsServer) -> None:
    """A domain that is an alias has its target's MX; an MX that names an alias leads to the alias's address."""
    dns_server.put("real.example", "MX", "10 mx.real.example.")
    dns_server.put("mx.real.example", "CNAME", "host.real.example.")
    dns_server.put("host.real.example", "A", "127.0.0.1")
    dns_server.put("alias.example", "CNAME", "real.example.")
    assert await reached(mx_route, "alias.example") == [("mx.real.example", "127.0.0.1")]
    dns_server.put("round.example", "MX", "10 mx.round.example.")
    dns_server.put("mx.round.example", "CNAME", "mx2.round.example.")
    dns_server.put("mx2.round.example", "CNAME", "mx.round.example.")
    assert (await refusal(mx_route, "round.example"))[:2] == (451, "4.4.3")


async def test_what_the_dns_says_of_nobody(
    mx_route: MxRoute, dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own code and words: refused where the DNS is sure, tried again where it says nothing."""
    monkeypatch.setattr(resolver, "TRY_SECONDS", (1.0,))
    dns_server.put("null.example", "MX", "0 .")
    dns_server.put("ours.example", "MX", "10 MAIL.gatepost.example.", "10 other.example.", "20 backup.example.")
    dns_server.put("text.example", "TXT", "no mail here")
    dns_server.put("lost.example", "MX", "10 nowhere.lost.example.")
    dns_server.put("inside.example", "MX", "10 mx.inside.example.")
    dns_server.put("mx.inside.example", "A", "10.0.0.1", "169.254.169.254")
    dns_server.put("mx.inside.example", "AAAA", "::ffff:192.168.1.1", "fd00::1")
    dns_server.put("half.example", "MX", "10 ill.half.example.", "20 gone.half.example.")
    dns_server.trouble = {"ill.example": "servfail", "mute.example": "timeout", "ill.half.example": "servfail"}
    assert {name: await refusal(mx_route, name) for name in (
        "no.example", "null.example", "ours.example", "text.example", "lost.example", "inside.example", "ill.example",
        "mute.example", "half.example", "two..dots", "[not an address]", "x" * 70 + ".example", "",
    )} == {
        "no.example": (550, "5.1.2", "There is no domain no.example."),
        "null.example": (556, "5.1.10", "null.example takes no mail (null MX)."),
        "ours.example": (
            554, "5.4.6", "The mail of ours.example would come back to Gatepost: its MX is this server.",
        ),
        "text.example": (550, "5.1.2", "text.example has neither a mail server (MX) nor an address."),
        "lost.example": (550, "5.4.4", "The mail servers of lost.example have no address: nowhere.lost.example"),
        "inside.example": (550, "5.4.4", "The mail servers of inside.example have no public address."),
        "ill.example": (451, "4.4.3", "The DNS does not say now who takes the mail of ill.example."),
        "mute.example": (451, "4.4.3", "The DNS does not say now who takes the mail of mute.example."),
        "half.example": (451, "4.4.3", "The DNS does not say now where the mail servers of half.example are."),
        "two..dots": (550, "5.1.2", "The recipient's domain cannot stand in the DNS."),
        "[not an address]": (550, "5.1.2", "The recipient's address literal is no address."),
        "x" * 70 + ".example": (550, "5.1.2", "The recipient's domain cannot stand in the DNS."),
        "": (550, "5.1.2", "The recipient's domain cannot stand in the DNS."),
    }  # fmt: skip


async def test_we_are_a_backup(mx_route: MxRoute, dns_server: DnsServer) -> None:
    """Only servers preferred to this one are left, so that mail cannot go in circles (RFC 5321 5.1)."""
    dns_server.put("backed.example", "MX", "5 a.backed.example.", "10 mail.gatepost.example.", "10 b.backed.example.")
    dns_server.put("a.backed.example", "A", "127.0.0.1")
    dns_server.put("b.backed.example", "A", "127.0.0.2")
    assert await reached(mx_route, "backed.example") == [("a.backed.example", "127.0.0.1")]


async def test_a_dead_name_server_of_one_host_stops_no_other(mx_route: MxRoute, dns_server: DnsServer) -> None:
    """What is known is used: another host, and the other family of the same host; private addresses are left out."""
    dns_server.put("some.example", "MX", "10 ill.some.example.", "20 well.some.example.")
    dns_server.put("well.some.example", "A", "192.168.7.7", "127.0.0.2")
    dns_server.trouble["ill.some.example"] = "servfail"
    assert await reached(mx_route, "some.example") == [("well.some.example", "127.0.0.2")]


async def test_hostile_answers_are_bounded(mx_route: MxRoute, dns_server: DnsServer) -> None:
    """Fifty servers with fifty addresses each are eight connections, and few questions."""
    dns_server.put("many.example", "MX", *(f"{n} h{n}.many.example." for n in range(50)))
    for n in range(50):
        dns_server.put(f"h{n}.many.example", "A", *(f"127.0.{n}.{each}" for each in range(1, 51)))
    found = await reached(mx_route, "many.example")
    assert len(found) == CANDIDATES and {host for host, _address in found} == {"h0.many.example", "h1.many.example"}
    assert len(dns_server.asked) < 40


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "127.0.0.1", "10.1.1.1", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1", "fd00::1"]
)
def test_inside_addresses_are_not_gone_to(address: str) -> None:
    """Unless the operator allows the network."""
    assert not may_go_to(ip_address(address))


def test_names_in_other_letters_are_asked_in_a_labels() -> None:
    """An internationalized domain is one domain, however it is written."""
    from relay.mx.hosts import a_labels

    assert a_labels("BÜCHER.example.") == a_labels("xn--bcher-kva.example") == "xn--bcher-kva.example"
