"""MTA-STS end to end: a zone, a web server with the policy, mail servers, and the table in which policies are kept."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from relay import resolver
from relay.connections import make_pool
from relay.models import MtaStsPolicy
from relay.mx import policies
from relay.mx.policies import forget_ended_policies
from relay.mx.route import MxRoute
from tests.dns_server import DnsServer
from tests.relay.delivery.scripted_server import FEATURES, make_certificate
from tests.relay.mx.offering import domain, offer, tlsa_of
from tests.relay.outside_server import OutsideServer

Servers = Callable[..., Any]
TLS = (*FEATURES, "STARTTLS")
PATH = "/.well-known/mta-sts.txt"
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]


@pytest.fixture
async def route(dns_server: DnsServer) -> AsyncIterator[MxRoute]:
    """With the database, as the delivery loop has it."""
    pool = make_pool(name="test")
    await pool.open()
    found = MxRoute(pool)
    yield found
    await found.close()
    await pool.close()


@pytest.fixture
def web(tmp_path: Path, settings: Any, dns_server: DnsServer) -> Iterator[OutsideServer]:
    """mta-sts.example.net at 127.0.0.2, and the record that names its policy."""
    server = OutsideServer(tmp_path, "mta-sts.example.net")
    settings.GATEPOST_OUTSIDE_ALLOWED = (ip_network("127.0.0.2/32"),)
    settings.GATEPOST_OUTSIDE_CA_FILE = str(server.ca_file)
    settings.GATEPOST_MTA_STS_PORT = server.port
    dns_server.put("mta-sts.example.net", "A", "127.0.0.2")
    put_record(dns_server, "one")
    yield server
    server.stop()


def put_record(dns_server: DnsServer, name: str) -> None:
    dns_server.put("_mta-sts.example.net", "TXT", f'"v=STSv1; id={name};"', ttl=0)


def policy(*mx: str, mode: str = "enforce", max_age: int = 86400, **headers: str) -> tuple[int, dict[str, str], bytes]:
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {name}" for name in mx), f"max_age: {max_age}"]
    return 200, {"Content-Type": "text/plain; charset=utf-8", **headers}, "\r\n".join([*lines, ""]).encode()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path, "mx2.example.net")


async def test_the_policy_is_obeyed(
    route: MxRoute, dns_server: DnsServer, mail_server: Servers, web: OutsideServer, certificate: Path, settings: Any
) -> None:
    """Servers that it does not name are passed over; one that it names must show a valid certificate for its name."""
    one = await mail_server("127.0.0.1", features=TLS, certificate=certificate)
    two = await mail_server("127.0.0.2", features=TLS, certificate=certificate)
    three = await mail_server("127.0.0.3", features=TLS, certificate=certificate)
    domain(dns_server, servers=["127.0.0.1", "127.0.0.3", "127.0.0.2"])
    dns_server.put("mx2.example.net", "A", "127.0.0.2")
    dns_server.put("mx3.example.net", "A", "127.0.0.3")
    dns_server.put("example.net", "MX", "1 mx1.example.net.", "2 mx3.example.net.", "3 mx2.example.net.")
    web.answers[PATH] = policy("mx2.example.net", "mx3.example.net")
    settings.GATEPOST_MX_CA_FILE = str(certificate)
    done = await asyncio.gather(*(offer(route) for _ in range(5)))
    assert [(each.outcome, each.next_hop_ip, each.tls_version) for (each,) in done] == [
        ("delivered", "127.0.0.2", "TLSv1.3")
    ] * 5
    assert "its certificate is not trusted" in done[0][0].conversation  # mx3 showed the certificate of mx2
    assert (one.sessions, len(two.taken), len(three.taken)) == (0, 5, 0)
    assert web.asked == [PATH]  # five messages waited for one fetch
    kept = await MtaStsPolicy.objects.aget()
    assert (kept.domain, kept.policy_id, kept.mode) == ("example.net", "one", "enforce")
    assert kept.mx == ["mx2.example.net", "mx3.example.net"]
    assert kept.expires_at - kept.fetched_at == timedelta(days=1)


@pytest.mark.parametrize(
    ("allowed", "features", "words"),
    [
        ("mx.other.example", TLS, "451 4.7.5 mx1.example.net is not among the mail servers that the MTA-STS policy"),
        ("*.example.net", TLS, "its certificate is not trusted (self-signed certificate)"),
        ("*.example.net", FEATURES, "does not offer STARTTLS; nothing is sent in clear."),
    ],
)
async def test_a_policy_that_cannot_be_fulfilled_lets_mail_wait(
    route: MxRoute, dns_server: DnsServer, mail_server: Servers, web: OutsideServer, certificate: Path,
    allowed: str, features: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    """In enforce nothing goes; in testing the same mail goes, as if there were no policy."""
    server = await mail_server(features=features, certificate=certificate)
    domain(dns_server)
    web.answers[PATH] = policy(allowed)
    (done,) = await offer(route)
    assert (done.outcome, server.taken) == ("deferred", []) and words in done.reply
    web.answers[PATH] = policy(allowed, mode="testing")
    put_record(dns_server, "two")
    (done,) = await offer(route)
    assert done.outcome == "delivered"


async def test_a_kept_policy_outlives_its_record(
    route: MxRoute, dns_server: DnsServer, mail_server: Servers, web: OutsideServer, certificate: Path
) -> None:
    """Whoever answers for the DNS or stops the web server cannot take it away before it ends (RFC 8461 5.1)."""
    await mail_server(features=TLS, certificate=certificate)
    domain(dns_server)
    web.answers[PATH] = policy("mx9.example.net")
    await offer(route)
    for break_it in (
        lambda: put_record(dns_server, "two"),
        lambda: dns_server.remove("_mta-sts.example.net"),
        lambda: dns_server.trouble.update({"_mta-sts.example.net": "servfail"}),
    ):
        web.answers[PATH] = (500, {}, b"")
        break_it()
        resolver.forget()
        (done,) = await offer(route)
        assert (done.outcome, done.code) == ("deferred", 451)
    other_process = MxRoute(route._policies._pool)
    (done,) = await offer(other_process)
    assert done.outcome == "deferred"
    await MtaStsPolicy.objects.aupdate(expires_at=timezone.now() - timedelta(seconds=1))
    (done,) = await offer(MxRoute(route._policies._pool))
    assert done.outcome == "delivered"


async def test_a_new_id_brings_the_new_policy(
    route: MxRoute, dns_server: DnsServer, mail_server: Servers, web: OutsideServer, certificate: Path
) -> None:
    """Also mode none, by which a domain ends what it demanded."""
    await mail_server(features=TLS, certificate=certificate)
    domain(dns_server)
    web.answers[PATH] = policy("mx9.example.net")
    assert (await offer(route))[0].outcome == "deferred"
    web.answers[PATH] = policy(mode="none")
    assert (await offer(route))[0].outcome == "deferred"  # the id is the same
    put_record(dns_server, "two")
    assert (await offer(route))[0].outcome == "delivered"
    assert (await MtaStsPolicy.objects.aget()).mode == "none"
    assert len(web.asked) == 2


async def test_an_old_policy_is_fetched_anew_meanwhile(
    route: MxRoute, dns_server: DnsServer, mail_server: Servers, web: OutsideServer, certificate: Path
) -> None:
    """Under the same id, without anybody waiting for it, so that it does not end while it is in use."""
    await mail_server(features=TLS, certificate=certificate)
    domain(dns_server)
    web.answers[PATH] = policy("mx9.example.net", max_age=1_000_000)
    await offer(route)
    await MtaStsPolicy.objects.aupdate(fetched_at=timezone.now() - timedelta(days=2))
    again = MxRoute(route._policies._pool)
    await offer(again)
    await asyncio.gather(*again._policies._fetches.values())
    assert (await MtaStsPolicy.objects.aget()).fetched_at > timezone.now() - timedelta(minutes=1)
    assert len(web.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        (404, {}, b""),
        (302, {"Location": "https://mta-sts.example.net/other"}, b""),
        (200, {"Content-Type": "text/html"}, policy("mx9.example.net")[2]),
        (200, {"Content-Type": "text/plain"}, b"x" * 70_000),
        (200, {"Content-Type": "text/plain"}, b"version: STSv1\r\n"),
    ],
)
async def test_a_policy_that_is_none(
    route: MxRoute, dns_server: DnsServer, mail_server: Servers, web: OutsideServer, certificate: Path, answer: Any
) -> None:
    """Is as if there were none, and is not asked for again at once."""
    await mail_server(features=TLS, certificate=certificate)
    domain(dns_server)
    web.answers[PATH] = answer
    assert [(await offer(route))[0].outcome for _ in range(3)] == ["delivered"] * 3
    assert web.asked == [PATH]
    assert not await MtaStsPolicy.objects.aexists()


async def test_where_policies_are_not_fetched_from(
    route: MxRoute, dns_server: DnsServer, mail_server: Servers, web: OutsideServer, certificate: Path, settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Not from inside the operator's network, not under a wrong certificate; and a slow server is not waited for."""
    await mail_server(features=TLS, certificate=certificate)
    domain(dns_server)
    web.answers[PATH] = policy("mx9.example.net")
    settings.GATEPOST_OUTSIDE_ALLOWED = ()
    assert (await offer(route))[0].outcome == "delivered"
    settings.GATEPOST_OUTSIDE_ALLOWED = (ip_network("127.0.0.2/32"),)
    settings.GATEPOST_OUTSIDE_CA_FILE = ""
    put_record(dns_server, "two")
    assert (await offer(route))[0].outcome == "delivered"
    dns_server.remove("mta-sts.example.net")
    resolver.forget()
    put_record(dns_server, "three")
    assert (await offer(route))[0].outcome == "delivered"
    assert web.asked == []
    reasons = "".join(record.getMessage() for record in caplog.records if "mta_sts.not_fetched" in record.getMessage())
    assert "inside a network" in reasons and "certificate is not valid" in reasons and "has no address" in reasons


async def test_a_slow_web_server(
    route: MxRoute, dns_server: DnsServer, mail_server: Servers, web: OutsideServer, certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The mail goes on without the policy once the time is over."""
    monkeypatch.setattr(policies, "FETCH_SECONDS", 0.2)
    await mail_server(features=TLS, certificate=certificate)
    domain(dns_server)
    never = threading.Event()
    web.answers[PATH] = lambda _handler: never.wait(5)
    assert (await offer(route))[0].outcome == "delivered"
    never.set()


async def test_dane_goes_before(
    route: MxRoute, dns_server: DnsServer, mail_server: Servers, web: OutsideServer, certificate: Path
) -> None:
    """RFC 8461 2: a server that DANE verifies needs no authority, whatever the policy says."""
    server = await mail_server(features=TLS, certificate=certificate)
    domain(dns_server)
    dns_server.signed = {"example.net"}
    dns_server.put(f"_{server.port}._tcp.mx1.example.net", "TLSA", tlsa_of(certificate))
    web.answers[PATH] = policy("*.example.net")
    (done,) = await offer(route)
    assert done.outcome == "delivered" and "verified by DANE" in done.conversation


def test_policies_that_have_ended_are_deleted() -> None:
    """The others stay."""
    now = timezone.now()
    for name, ends in (("old.example", -1), ("live.example", 1)):
        MtaStsPolicy.objects.create(
            domain=name, policy_id="a", mode="enforce", mx=["x"], max_age=60, fetched_at=now,
            expires_at=now + timedelta(seconds=60 * ends),
        )  # fmt: skip
    assert forget_ended_policies() == 1
    assert [each.domain for each in MtaStsPolicy.objects.all()] == ["live.example"]
