"""relay.dns_records.spf against records in a real DNS: results, limits, macros, and mistakes."""

from ipaddress import ip_address

from relay.dns_records.spf import Result, evaluate
from relay.dns_records.spf_macros import Facts, expanded, is_valid
from tests.dns_server import DnsServer

US = "192.0.2.10"


def zone(server: DnsServer, **records: str) -> None:
    for name, text in records.items():
        server.put_text(f"{name}.example", f"v=spf1 {text}")


async def result_of(name: str, ip: str = US, sender: str = "") -> str:
    return str((await evaluate(f"{name}.example", ip=ip, sender=sender)).result)


async def test_mechanisms(dns_server: DnsServer) -> None:
    """Each mechanism matches what it should, with its qualifier, and the first match counts."""
    zone(
        dns_server,
        four="ip4:192.0.2.0/24 -all", six="ip6:2001:db8::/32 ~all", bare="a -all", host="a:www.host.example/28 -all",
        mail="mx -all", there="exists:%{ir}.list.example -all", points="ptr -all", neutral="?ip4:192.0.2.10 -all",
        outer="include:four.example ?all", moved="redirect=four.example", both="redirect=four.example ~all",
        nothing="", upper="IP4:192.0.2.10 -ALL", soft="a:soft.example mx:nomail.example ~all", any="+all",
    )  # fmt: skip
    dns_server.put("bare.example", "A", US)
    dns_server.put("www.host.example", "A", "192.0.2.1")
    dns_server.put("mail.example", "MX", "10 mx.mail.example.")
    dns_server.put("mx.mail.example", "A", "192.0.2.9", US)
    dns_server.put("mx.mail.example", "AAAA", "2001:db8::9")
    dns_server.put("10.2.0.192.list.example", "A", "127.0.0.2")
    dns_server.put("10.2.0.192.in-addr.arpa", "PTR", "out.points.example.")
    dns_server.put("out.points.example", "A", US)
    expected = {
        "four": "pass", "six": "softfail", "bare": "pass", "host": "pass", "mail": "pass", "there": "pass",
        "points": "pass", "neutral": "neutral", "outer": "pass", "moved": "pass", "both": "softfail",
        "nothing": "neutral", "upper": "pass", "soft": "softfail", "any": "pass",
    }  # fmt: skip
    assert {name: await result_of(name) for name in expected} == expected
    assert await result_of("six", "2001:db8::1") == "pass"
    assert await result_of("mail", "2001:db8::9") == "pass"
    assert await result_of("four", "198.51.100.1") == "fail"
    assert await result_of("outer", "198.51.100.1") == "neutral"
    assert await result_of("host", "192.0.2.16") == "fail"


async def test_errors(dns_server: DnsServer) -> None:
    """Mistakes anywhere, two records, a target without a record, and a DNS that fails are what the RFC calls them."""
    zone(
        dns_server,
        typo="ip4:192.0.2.10 ipv4:192.0.2.1 -all", network="ip4:192.0.2.300 -all", colon="include: -all",
        empty="include:none.example -all", away="redirect=none.example", twice="redirect=a.b redirect=c.d",
        ill="include:sick.example -all", macro="exists:%{z}.example -all", text="all:x", length="a/33 -all",
    )  # fmt: skip
    dns_server.put("two.example", "TXT", '"v=spf1 -all"', '"v=spf1 ~all"')
    dns_server.put("none.example", "TXT", '"hello"')
    dns_server.trouble["sick.example"] = "servfail"
    names = ("typo", "network", "colon", "empty", "away", "twice", "two", "macro", "text", "length")
    assert {name: await result_of(name) for name in names} == dict.fromkeys(names, "permerror")
    assert await result_of("ill") == "temperror"
    assert await result_of("none") == await result_of("nowhere") == "none"
    assert (await evaluate("typo.example", ip=None)).subject == "ipv4:192.0.2.1"
    assert (await evaluate("empty.example", ip=None)).problem == "spf_target_empty"


async def test_ten_lookups(dns_server: DnsServer) -> None:
    """The eleventh lookup is a permerror for a receiver; a walk goes on, counts them all and ends even in a loop."""
    for at in range(13):
        zone(dns_server, **{f"i{at}": "ip4:198.51.100.7 -all"})
    zone(dns_server, ten=" ".join(f"include:i{at}.example" for at in range(10)) + " -all")
    zone(dns_server, many=" ".join(f"include:i{at}.example" for at in range(13)) + " -all")
    zone(dns_server, early="ip4:192.0.2.10 include:many.example -all", loop="include:loop.example -all")
    assert await result_of("ten") == "fail"
    assert await result_of("many") == "permerror"
    assert await result_of("early") == "pass"
    walk = await evaluate("early.example", ip=None)
    assert (walk.lookups, walk.result, walk.included[:2]) == (14, Result.NEUTRAL, ("many.example", "i0.example"))
    assert (await evaluate("loop.example", ip=US)).problem == "spf_lookups"
    assert (await evaluate("loop.example", ip=None)).lookups > 10


async def test_void_lookups(dns_server: DnsServer) -> None:
    """The third name that is not there ends it; a walk tells how many there are."""
    zone(dns_server, voids="a:x.none.example a:y.none.example a:z.none.example -all", two="a:x.none.example mx -all")
    assert await result_of("voids") == "permerror"
    assert await result_of("two") == "fail"
    assert (await evaluate("voids.example", ip=None)).voids == 3


def test_macros_of_the_rfc() -> None:
    """RFC 7208 7.4: the examples given there."""
    facts = Facts(ip_address("192.0.2.3"), "strong-bad@email.example.com", "email.example.com")
    six = Facts(ip_address("2001:db8::cb01"), facts.sender, facts.domain)
    examples = {
        "%{s}": "strong-bad@email.example.com",
        "%{o}": "email.example.com",
        "%{d4}": "email.example.com",
        "%{d2}": "example.com",
        "%{d1}": "com",
        "%{dr}": "com.example.email",
        "%{d2r}": "example.email",
        "%{l}": "strong-bad",
        "%{l-}": "strong.bad",
        "%{lr-}": "bad.strong",
        "%{l1r-}": "strong",
        "%{ir}.%{v}._spf.%{d2}": "3.2.0.192.in-addr._spf.example.com",
        "%{lr-}.lp._spf.%{d2}": "bad.strong.lp._spf.example.com",
        "%{d2}.trusted-domains.example.net": "example.com.trusted-domains.example.net",
        "a%%b%_%-": "a%b %20",
    }
    assert {text: expanded(text, facts) for text in examples} == examples
    assert expanded("%{ir}.%{v}._spf.%{d2}", six) == (
        "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
    )
    assert [is_valid(text) for text in ("%{s}", "%{x}", "%", "%{d0}", "é", "a\0", "%{l1r-}")] == [
        True, False, False, False, False, False, True,
    ]  # fmt: skip
    assert len(expanded("%{d}." + "a." * 120 + "example", facts)) <= 253
