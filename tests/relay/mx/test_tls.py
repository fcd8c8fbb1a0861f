"""TLS towards mail servers, as the route mx wants it: opportunistic, by MTA-STS, by DANE, by REQUIRETLS."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.mx import tlsa
from relay.mx.route import MxRoute
from relay.smtp.client import Client, Envelope
from relay.smtp.next_hop import NextHop
from tests.dns_server import DnsServer
from tests.relay.delivery.conversing import BODY, yes
from tests.relay.delivery.scripted_server import DROP, FEATURES, make_certificate
from tests.relay.mx.offering import domain, offer, tlsa_of

Servers = Callable[..., Any]
TLS = (*FEATURES, "STARTTLS")


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For mx1.example.net, its own authority."""
    return make_certificate(tmp_path_factory.mktemp("good"), "mx1.example.net")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("other"), "other.example")


# --- Opportunistic ----------------------------------------------------------------------------------------------------


async def test_any_certificate_will_do(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, other: Path
) -> None:
    """Opportunistic TLS is not verified: a wrong name under an unknown authority is better than clear."""
    server = await mail_server(features=TLS, certificate=other)
    domain(dns_server)
    (done,) = await offer(mx_route)
    assert (done.outcome, done.tls_version, server.sessions) == ("delivered", "TLSv1.3", 1)
    assert "* TLSv1.3, the certificate is not verified" in done.conversation


@pytest.mark.parametrize(
    "script",
    [
        {"STARTTLS": "454 4.7.0 No certificate today"},
        {"STARTTLS": b"220 Go\r\nthis is not TLS at all, and more of it, so that OpenSSL sees it\r\n"},
        {"STARTTLS": DROP},
    ],
)
async def test_starttls_that_breaks(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, good: Path, script: dict[str, Any]
) -> None:
    """The mail goes in clear, on a new connection, which asks for no TLS; the conversation tells why."""
    server = await mail_server(script=script, features=TLS, certificate=good)
    domain(dns_server)
    (done,) = await offer(mx_route)
    assert (done.outcome, done.tls_version, server.sessions) == ("delivered", "", 2)
    assert [command.split()[0] for command in server.commands][:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]
    assert "* Once more in clear, on a new connection" in done.conversation


# --- DANE -------------------------------------------------------------------------------------------------------------

RECORDS = [(3, 1, 1), (3, 1, 2), (3, 0, 1), (3, 0, 0), (3, 1, 0)]


@pytest.mark.parametrize(("usage", "selector", "matching"), RECORDS)
async def test_the_certificate_that_the_zone_names(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, good: Path, other: Path,
    usage: int, selector: int, matching: int,
) -> None:  # fmt: skip
    """Usage 3 in each form lets in this certificate, whatever name it bears, and no other; clear is no way out."""
    server = await mail_server(features=TLS, certificate=other)
    domain(dns_server)
    kind = {"usage": usage, "selector": selector, "matching": matching}
    dns_server.signed = {"example.net"}
    name = f"_{server.port}._tcp.mx1.example.net"
    dns_server.put(name, "TLSA", tlsa_of(good, **kind), tlsa_of(other, **kind), ttl=0)
    (done,) = await offer(mx_route)
    assert (done.outcome, done.tls_version) == ("delivered", "TLSv1.3")
    assert "* TLSv1.3, the certificate is verified by DANE" in done.conversation
    dns_server.put(name, "TLSA", tlsa_of(good, **kind), ttl=0)
    (done,) = await offer(mx_route)
    assert (done.outcome, len(server.taken)) == ("deferred", 1)
    assert done.text == (
        f"No session with mx1.example.net:{server.port}: "
        "its certificate is not the one that its TLSA records name (DANE)"
    )


@pytest.mark.parametrize(
    ("script", "features", "words"),
    [
        ({}, FEATURES, "does not offer STARTTLS; nothing is sent in clear."),
        ({"STARTTLS": "454 4.7.0 Later"}, TLS, "refused (STARTTLS): 454 4.7.0 Later"),
        ({"STARTTLS": DROP}, TLS, "No session with mx1.example.net"),
    ],
)
async def test_dane_never_goes_in_clear(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, good: Path,
    script: dict[str, Any], features: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    """Nor does a server whose TLSA records are all of kinds that say nothing: TLS it must have (RFC 7672 2.2)."""
    server = await mail_server(script=script, features=features, certificate=good)
    domain(dns_server)
    dns_server.signed = {"example.net"}
    name = f"_{server.port}._tcp.mx1.example.net"
    for record in (tlsa_of(good), tlsa_of(good, usage=1), "3 1 7 abcd"):
        dns_server.put(name, "TLSA", record, ttl=0)
        (done,) = await offer(mx_route)
        assert done.outcome == "deferred" and words in done.text
    assert not server.taken


async def test_records_that_say_nothing(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, other: Path
) -> None:
    """Usages 0 and 1, unknown usages and digests alone: TLS, with any certificate."""
    server = await mail_server(features=TLS, certificate=other)
    domain(dns_server)
    dns_server.signed = {"example.net"}
    dns_server.put(
        f"_{server.port}._tcp.mx1.example.net", "TLSA",
        tlsa_of(other, usage=0), tlsa_of(other, usage=1), "3 1 7 abcd", "9 1 1 " + "00" * 32,
    )  # fmt: skip
    (done,) = await offer(mx_route)
    assert (done.outcome, done.tls_version) == ("delivered", "TLSv1.3")


@pytest.mark.parametrize("unsigned", ["example.net", "mx1.example.net", "_tcp.mx1.example.net"])
async def test_what_nobody_validated_demands_nothing(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, other: Path, good: Path, unsigned: str
) -> None:
    """One link without the AD bit, MX, address or TLSA, and the records are as if they were not there."""
    server = await mail_server(features=TLS, certificate=other)
    domain(dns_server)
    name = f"_{server.port}._tcp.mx1.example.net"
    dns_server.put(name, "TLSA", tlsa_of(good))
    chain = {"example.net": {"mx1.example.net"}, "mx1.example.net": {name}, "_tcp.mx1.example.net": set()}
    dns_server.signed = chain[unsigned]
    if unsigned == "_tcp.mx1.example.net":
        dns_server.signed = {"example.net"}
        dns_server.trouble[name] = lambda query: _without_ad(dns_server, query)
    elif unsigned == "mx1.example.net":
        dns_server.signed = {"example.net"}
        dns_server.trouble["mx1.example.net"] = lambda query: _without_ad(dns_server, query)
    (done,) = await offer(mx_route)
    assert (done.outcome, done.tls_version) == ("delivered", "TLSv1.3")
    assert "is not verified" in done.conversation


def _without_ad(server: DnsServer, query: Any) -> bytes:
    import dns.flags

    response = server._response(query, "")
    response.flags &= ~dns.flags.AD
    return response.to_wire()


async def test_no_answer_about_tlsa_is_no_permission(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, other: Path
) -> None:
    """Where the zone is signed and TLSA cannot be asked, the server is left out: the next one is, or the mail waits."""
    one, two = await mail_server(features=TLS, certificate=other), await mail_server("127.0.0.2")
    domain(dns_server, servers=["127.0.0.1", "127.0.0.2"])
    dns_server.signed = {"example.net"}
    dns_server.trouble[f"_{one.port}._tcp.mx1.example.net"] = "servfail"
    (done,) = await offer(mx_route)
    assert (done.outcome, one.sessions, len(two.taken)) == ("delivered", 0, 1)
    dns_server.trouble[f"_{one.port}._tcp.mx2.example.net"] = "servfail"
    (waits,) = await offer(mx_route, "example.net")
    assert (waits.outcome, waits.code) == ("delivered", 250)  # what the DNS denied before is remembered
    domain(dns_server, "example.com")
    dns_server.signed.add("example.com")
    dns_server.trouble[f"_{one.port}._tcp.mx1.example.com"] = "servfail"
    (waits,) = await offer(mx_route, "example.com")
    assert (waits.outcome, waits.reply) == (
        "deferred",
        "451 4.7.5 The DNS does not say now which certificate mx1.example.com must show (DANE).",
    )


async def test_dane_by_an_authority(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Usage 2 alone lets the mail wait, with the reason, where Python cannot tell the chain; beside 3, 3 decides."""
    monkeypatch.setattr(tlsa, "KNOWS_CHAINS", False)
    server = await mail_server(features=TLS, certificate=good)
    domain(dns_server)
    dns_server.signed = {"example.net"}
    name = f"_{server.port}._tcp.mx1.example.net"
    dns_server.put(name, "TLSA", tlsa_of(good, usage=2), ttl=0)
    (done,) = await offer(mx_route)
    assert (done.outcome, done.reply, server.sessions) == (
        "deferred",
        "451 4.7.5 The TLSA records of mx1.example.net name an authority (DANE-TA), which Gatepost can verify "
        "from Python 3.13 on.",
        0,
    )
    dns_server.put(name, "TLSA", tlsa_of(good, usage=2), tlsa_of(good), ttl=0)
    (done,) = await offer(mx_route)
    assert done.outcome == "delivered"


async def test_a_signed_alias_has_its_records_at_its_end(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, good: Path
) -> None:
    """RFC 7672 2.2.2: where an MX names an alias, the records of the name that it leads to come first."""
    server = await mail_server(features=TLS, certificate=good)
    dns_server.put("example.net", "MX", "10 alias.example.net.")
    dns_server.put("alias.example.net", "CNAME", "mx1.example.net.")
    dns_server.put("mx1.example.net", "A", "127.0.0.1")
    dns_server.signed = {"example.net"}
    dns_server.put(f"_{server.port}._tcp.mx1.example.net", "TLSA", tlsa_of(good))
    (done,) = await offer(mx_route)
    assert "verified by DANE" in done.conversation and done.next_hop.startswith("mx1.example.net:")


# --- REQUIRETLS -------------------------------------------------------------------------------------------------------


async def test_requiretls(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, tmp_path: Path, other: Path, settings: Any
) -> None:
    """Only to a server with a verified certificate that promises the same, the third here; it is said in MAIL."""
    trusted = make_certificate(tmp_path, "*.example.net")
    settings.GATEPOST_MX_CA_FILE = str(trusted)
    untrusted = await mail_server("127.0.0.1", features=(*TLS, "REQUIRETLS"), certificate=other)
    silent = await mail_server("127.0.0.2", features=TLS, certificate=trusted)
    promising = await mail_server("127.0.0.3", features=(*TLS, "REQUIRETLS"), certificate=trusted)
    domain(dns_server, servers=["127.0.0.1", "127.0.0.2", "127.0.0.3"])
    (done,) = await offer(mx_route, dsn_ret="hdrs")
    assert (done.outcome, done.next_hop_ip) == ("delivered", "127.0.0.3")
    assert promising.taken[0].mail.endswith(" REQUIRETLS")
    assert (untrusted.sessions, silent.sessions, untrusted.taken + silent.taken) == (1, 1, [])
    assert "* TLSv1.3, the certificate is verified by the system's authorities" in done.conversation


@pytest.mark.parametrize("tls", ["none", "encrypted", "opportunistic"])
async def test_requiretls_by_a_route_that_verifies_nothing(mail_server: Servers, good: Path, tls: str) -> None:
    """A smarthost in clear, or with any certificate, cannot promise it, whatever it says."""
    server = await mail_server(features=(*TLS, "REQUIRETLS"), certificate=good)
    client = await Client.connect(NextHop("127.0.0.1", server.port, tls), local_name="a.example")
    envelope = Envelope("app@alice.example", ("you@example.net",), requires_tls=True)
    result = await client.send(envelope, BODY, before_final_dot=yes)
    assert str(result.replies[0]).startswith("550 5.7.30") and not server.taken
    client.abort()


@pytest.mark.parametrize("features", [TLS, (*FEATURES, "REQUIRETLS")])
async def test_requiretls_that_nobody_fulfils(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, good: Path, settings: Any, features: tuple[str, ...]
) -> None:
    """Where no server promises it the sender learns it at once; without TLS the mail waits for it. A report goes."""
    settings.GATEPOST_MX_CA_FILE = str(good)
    server = await mail_server(features=features, certificate=good)
    domain(dns_server)
    (done,) = await offer(mx_route, dsn_ret="hdrs")
    assert not server.taken
    if "STARTTLS" in features:
        assert (done.outcome, done.reply) == (
            "failed",
            "550 5.7.30 The next hop does not promise to pass the message on under verified TLS alone (REQUIRETLS).",
        )
        assert "< 250 STARTTLS" in done.conversation  # what it does promise is seen
        (report,) = await offer(mx_route, dsn_ret="hdrs", reverse_path="")
        assert report.outcome == "delivered" and "REQUIRETLS" not in server.taken[0].mail
    else:
        assert done.outcome == "deferred" and "does not offer STARTTLS" in done.text
    (other,) = await offer(mx_route)
    assert other.outcome == "delivered"


async def test_dane_is_verification_enough_for_requiretls(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, good: Path
) -> None:
    """RFC 8689 4.2.1: by DANE, too, with an authority that nobody else knows."""
    server = await mail_server(features=(*TLS, "REQUIRETLS"), certificate=good)
    domain(dns_server)
    dns_server.signed = {"example.net"}
    dns_server.put(f"_{server.port}._tcp.mx1.example.net", "TLSA", tlsa_of(good))
    (done,) = await offer(mx_route, dsn_ret="hdrs")
    assert done.outcome == "delivered" and server.taken[0].mail.endswith(" REQUIRETLS")
