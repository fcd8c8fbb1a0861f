"""The resolver against a real DNS server on loopback: outcomes, caching, TCP, chains, and answers that are none."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import dns.flags
import dns.message
import pytest
from django.core.exceptions import ImproperlyConfigured

from config.settings import servers
from relay import resolver
from relay.resolver import Answer, Outcome, query
from tests.dns_server import DnsServer


@pytest.fixture
def dns_server(settings: Any) -> Iterator[DnsServer]:
    with DnsServer() as server:
        settings.GATEPOST_RESOLVERS = (server.address,)
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "TRY_SECONDS", (0.15, 0.15))


async def test_outcomes_are_told_apart(dns_server: DnsServer) -> None:
    """Records, no such name, no such record, a failure, silence and a name that cannot be are six different things."""
    dns_server.put("mail.example", "MX", "10 mx1.mail.example.", "20 mx2.mail.example.", ttl=77)
    dns_server.put("deep.down.mail.example", "A", "192.0.2.1")
    dns_server.trouble = {"ill.example": "servfail", "shy.example": "refused", "mute.example": "timeout"}
    found = await query("Mail.Example.", "MX")
    assert (found.outcome, found.ttl) == (Outcome.RECORDS, 77)
    assert sorted(found.targets) == ["mx1.mail.example", "mx2.mail.example"]
    assert not found.authenticated
    expected = {
        "none.mail.example": Outcome.NXDOMAIN,
        "down.mail.example": Outcome.NO_DATA,
        "ill.example": Outcome.SERVFAIL,
        "shy.example": Outcome.SERVFAIL,
        "mute.example": Outcome.TIMEOUT,
        "two..dots.example": Outcome.NXDOMAIN,
        "x" * 64 + ".example": Outcome.NXDOMAIN,
        "y." * 200 + "example": Outcome.NXDOMAIN,
        "nul\0\udc80.example": Outcome.NXDOMAIN,
    }
    answers = await asyncio.gather(*(query(name, "MX") for name in expected))
    assert [answer.outcome for answer in answers] == list(expected.values())
    assert [answer.is_known for answer in answers] == [True, True, False, False, False, True, True, True, True]


async def test_what_holds_is_asked_once(dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers and denials are kept for their TTL, many who ask at once ask once, and fresh asks again."""
    dns_server.put("kept.example", "A", "192.0.2.7", ttl=60)
    answers = await asyncio.gather(*(query("kept.example", "A") for _ in range(20)), query("gone.example", "A"))
    assert {answer.addresses for answer in answers[:-1]} == {("192.0.2.7",)}
    await query("kept.example", "A")
    await query("gone.example", "A")
    assert [name for name, _type, _how in dns_server.asked].count("kept.example") == 1
    assert [name for name, _type, _how in dns_server.asked].count("gone.example") == 1
    dns_server.put("kept.example", "A", "192.0.2.8", ttl=0)
    assert (await query("kept.example", "A", fresh=True)).addresses == ("192.0.2.8",)
    dns_server.put("kept.example", "A", "192.0.2.9")
    assert (await query("kept.example", "A")).addresses == ("192.0.2.9",)
    later = resolver.monotonic() + 61
    monkeypatch.setattr(resolver, "monotonic", lambda: later)
    dns_server.put("kept.example", "A", "192.0.2.10")
    assert (await query("kept.example", "A")).addresses == ("192.0.2.10",)


async def test_long_answers_come_by_tcp(dns_server: DnsServer) -> None:
    """What does not fit a datagram is asked again by TCP, and strings of a TXT record are put together."""
    dns_server.put_text("long.example", "v=spf1 " + "a" * 3000)
    dns_server.put("cut.example", "A", "192.0.2.1")
    dns_server.trouble["cut.example"] = "truncate"
    found = await query("long.example", "TXT")
    assert [len(text) for text in found.texts] == [3007]
    assert (await query("cut.example", "A")).addresses == ("192.0.2.1",)
    assert [how for _name, _type, how in dns_server.asked] == ["udp", "tcp", "udp", "tcp"]


async def test_chains(dns_server: DnsServer) -> None:
    """CNAMEs are followed and told; one that leads nowhere has no such record, one that goes round is a failure."""
    dns_server.put("one.example", "CNAME", "two.example.", ttl=20)
    dns_server.put("two.example", "CNAME", "three.example.")
    dns_server.put("three.example", "A", "192.0.2.3")
    dns_server.put("astray.example", "CNAME", "nowhere.example.")
    dns_server.put("round.example", "CNAME", "about.example.")
    dns_server.put("about.example", "CNAME", "round.example.")
    found = await query("one.example", "A")
    assert (found.addresses, found.canonical, found.ttl) == (("192.0.2.3",), "three.example", 20)
    assert found.aliases == ("one.example", "two.example")
    astray = await query("astray.example", "A")
    assert (astray.outcome, astray.canonical) == (Outcome.NXDOMAIN, "nowhere.example")
    assert (await query("round.example", "A")).outcome is Outcome.SERVFAIL
    assert (await query("one.example", "CNAME")).targets == ("two.example",)


async def test_authenticated_only_from_believed_servers(
    dns_server: DnsServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The AD bit counts from a server that the setting names, and from the system's only if it is on this machine."""
    dns_server.put("safe.example", "TXT", '"x"')
    dns_server.signed.add("safe.example")
    assert (await query("safe.example", "TXT")).authenticated
    assert (await query("below.safe.example", "TXT")).authenticated
    settings.GATEPOST_RESOLVERS = ()
    monkeypatch.setattr(resolver, "_system_servers", lambda: (dns_server.address,))
    resolver.forget()
    assert (await query("safe.example", "TXT")).authenticated
    assert not resolver._Resolver((), named=False)._believes(("192.0.2.53", 53))


async def test_answers_that_are_none(dns_server: DnsServer, settings: Any) -> None:
    """Garbage, another id and another question are passed over; the next server is asked."""
    with DnsServer("127.0.0.2") as second:
        settings.GATEPOST_RESOLVERS = (dns_server.address, second.address)
        for name, trouble in (("a.example", "garbage"), ("b.example", "wrong id"), ("c.example", "wrong question")):
            for server in (dns_server, second):
                server.put(name, "A", "192.0.2.66" if server is dns_server else "192.0.2.1")
            dns_server.trouble[name] = trouble
            assert (await query(name, "A")).addresses == ("192.0.2.1",)
        dns_server.trouble["d.example"] = "servfail"
        second.put("d.example", "A", "192.0.2.4")
        assert (await query("d.example", "A")).addresses == ("192.0.2.4",)


async def test_an_answer_that_breaks_the_parser(dns_server: DnsServer) -> None:
    """Whatever bytes follow a right header, the question ends with a failure in time, never an error."""

    def broken(query_message: dns.message.Message) -> bytes:
        wire = dns.message.make_response(query_message).to_wire()
        return wire[:6] + b"\xff\xff" + wire[8:] + b"\xc0\x0c\x00\x01"

    dns_server.trouble["odd.example"] = broken
    assert not (await query("odd.example", "A")).is_known


def query_now(name: str, record_type: str) -> Answer:
    return asyncio.run(query(name, record_type))


def test_from_threads_and_with_nobody_there(dns_server: DnsServer, settings: Any) -> None:
    """Threads side by side are served from one cache; where no server is, the answer is a timeout at once."""
    dns_server.put("threads.example", "A", "192.0.2.5")
    found: list[tuple[str, ...]] = []
    asking = [
        threading.Thread(target=lambda: found.append(query_now("threads.example", "A").addresses)) for _ in range(8)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert found == [("192.0.2.5",)] * 8
    settings.GATEPOST_RESOLVERS = (("127.0.0.1", 9),)
    assert query_now("threads.example", "A").outcome is Outcome.TIMEOUT


def test_servers_and_reverse_names() -> None:
    """Servers are written with a port or without; an address becomes the name of its PTR."""
    assert servers(["192.0.2.1", "192.0.2.1:5353", "::1", "[2001:db8::1]:54"], port=53) == (
        ("192.0.2.1", 53),
        ("192.0.2.1", 5353),
        ("::1", 53),
        ("2001:db8::1", 54),
    )
    with pytest.raises(ImproperlyConfigured):
        servers(["ns.example"], port=53)
    assert resolver.reverse_name("192.0.2.10") == "10.2.0.192.in-addr.arpa"
    with pytest.raises(ValueError, match="address"):
        resolver.reverse_name("not an address")


async def test_many_questions_wait_for_their_turn(dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of domains at once take no more sockets than a process has, and all of them are answered."""
    monkeypatch.setattr(resolver, "AT_ONCE", 3)
    monkeypatch.setattr(resolver, "SECONDS", 2.0)
    resolver.forget()
    asking, most = 0, 0
    exchange = resolver._exchange

    async def counted(*arguments: Any) -> Any:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        try:
            return await exchange(*arguments)
        finally:
            asking -= 1

    monkeypatch.setattr(resolver, "_exchange", counted)
    answers = await asyncio.gather(*(query(f"d{number}.example", "MX") for number in range(40)))
    assert most == 3 and {answer.outcome for answer in answers} == {Outcome.NXDOMAIN}
