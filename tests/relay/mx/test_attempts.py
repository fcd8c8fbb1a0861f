"""The route mx against real servers on loopback: which one gets the mail, and what is kept of the others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay.mx.route import MxRoute
from tests.dns_server import DnsServer
from tests.relay.delivery.scripted_server import DROP, FEATURES, HANG
from tests.relay.mx.offering import PATIENT, domain, offer

Servers = Callable[..., Any]


async def test_the_best_server_gets_the_mail(mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers) -> None:
    """One transaction with all recipients of the domain; the settlement names host, address and what was said."""
    one, two = await mail_server("127.0.0.1"), await mail_server("127.0.0.2")
    domain(dns_server, servers=["127.0.0.1", "127.0.0.2"])
    done = await offer(mx_route, names=("a", "b"))
    assert [(each.outcome, each.code, each.next_hop_ip) for each in done] == [("delivered", 250, "127.0.0.1")] * 2
    assert done[0].next_hop == f"mx1.example.net:{one.port}"
    assert [taken.recipients for taken in one.taken] == [["a@example.net", "b@example.net"]]
    assert not two.sessions
    said = done[0].conversation.split("\n")
    assert said[0] == f"* Connected to mx1.example.net:{one.port} at 127.0.0.1 from 127.0.0.1"
    assert "< 220 scripted ESMTP" in said and "* STARTTLS is not offered: in clear" in said
    assert said[-4:] == ["< 354 Go on", "* 22 octets of content", "> .", "< 250 2.0.0 Queued"]
    assert "Hello" not in done[0].conversation


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({"GREETING": DROP}, "* The server closed the connection."),
        ({"GREETING": "554 5.7.1 Not you"}, "refused (greeting): 554 5.7.1 Not you"),
        ({"GREETING": "421 4.3.2 Later"}, "refused (greeting): 421 4.3.2 Later"),
        ({"GREETING": b"SSH-2.0-x\r\n"}, "The server's reply is not SMTP: SSH-2.0-x"),
        ({"EHLO": "550 5.7.1 Not you"}, "refused (EHLO): 550"),
        ({"EHLO": "250 MAIL.gatepost.example"}, "has this server's name: the mail would go in circles."),
        ({"MAIL": "451 4.3.0 Not now"}, "< 451 4.3.0 Not now"),
        ({"MAIL": "421 4.3.0 Leaving"}, "< 421 4.3.0 Leaving"),
        ({"RCPT": DROP}, "The server closed the connection."),
        ({"DATA": DROP}, "The server closed the connection."),
        ({"MAIL": HANG}, "The server took longer than 1 s for answering."),
    ],
)
async def test_the_next_server_is_tried_where_the_first_is_of_no_use(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, script: dict[str, Any], words: str
) -> None:
    """It gets the mail once, and what the first one said is kept before its conversation."""
    await mail_server("127.0.0.1", script)
    two = await mail_server("127.0.0.2")
    domain(dns_server, servers=["127.0.0.1", "127.0.0.2"])
    (done,) = await offer(mx_route, timeouts=replace(PATIENT, mail=1.0))
    assert (done.outcome, done.next_hop_ip, len(two.taken)) == ("delivered", "127.0.0.2", 1)
    before, _found, after = done.conversation.partition("* Connected to mx2")
    assert words in before + done.conversation and "< 250 2.0.0 Queued" in after


@pytest.mark.parametrize(
    ("script", "outcome", "code"),
    [
        ({"RCPT": "450 4.2.0 Greylisted"}, "deferred", 450),
        ({"RCPT": "550 5.1.1 Nobody"}, "failed", 550),
        ({"MAIL": "550 5.7.1 Your domain"}, "failed", 550),
        ({"DOT": "451 4.3.0 Disk full"}, "deferred", 451),
        ({"DOT": "554 5.7.1 Spam"}, "failed", 554),
        ({"DOT": DROP}, "deferred", None),
    ],
)
async def test_an_answer_is_an_answer(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, script: dict[str, Any], outcome: str, code: int
) -> None:
    """What a server said about the recipients or the content holds; nobody gets the mail a second time."""
    await mail_server("127.0.0.1", script)
    two = await mail_server("127.0.0.2")
    domain(dns_server, servers=["127.0.0.1", "127.0.0.2"])
    (done,) = await offer(mx_route)
    assert (done.outcome, done.code, two.sessions) == (outcome, code, 0)
    assert done.possibly_delivered is (script.get("DOT") == DROP)


async def test_those_without_an_answer_go_to_the_next_server(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers
) -> None:
    """One of three was refused before the session ended: the refusal holds, the other two are delivered elsewhere."""
    await mail_server("127.0.0.1", {"RCPT": ["250 Ok", "550 5.1.1 Nobody", "250 Ok"], "DATA": DROP}, features=())
    two = await mail_server("127.0.0.2")
    domain(dns_server, servers=["127.0.0.1", "127.0.0.2"])
    done = await offer(mx_route, names=("a", "b", "c"))
    assert {each.recipient.address[0]: (each.outcome, each.code) for each in done} == {
        "a": ("delivered", 250), "b": ("failed", 550), "c": ("delivered", 250),
    }  # fmt: skip
    assert [taken.recipients for taken in two.taken] == [["a@example.net", "c@example.net"]]


async def test_nobody_can_be_reached(mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers) -> None:
    """The mail waits; the words are the last server's, and the conversation tells of each."""
    await mail_server("127.0.0.1", {"GREETING": "421 4.3.2 Later"})
    domain(dns_server, servers=["127.0.0.9", "127.0.0.1"])
    (done,) = await offer(mx_route)
    assert (done.outcome, done.code, done.host_failed) == ("deferred", None, True)
    assert "refused (greeting): 421 4.3.2 Later" in done.text
    assert "[127.0.0.9]: Conn" in done.conversation and "< 421 4.3.2 Later" in done.conversation
    assert len(done.conversation) < 4096


async def test_a_host_that_never_takes_mail(mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers) -> None:
    """RFC 7504: the next host is tried; where there is none, the sender learns it at once."""
    await mail_server("127.0.0.1", {"GREETING": "521 example.net takes no mail"})
    two = await mail_server("127.0.0.2")
    domain(dns_server, servers=["127.0.0.1", "127.0.0.2"])
    domain(dns_server, "example.com")
    (done,), (refused,) = await offer(mx_route), await offer(mx_route, "example.com")
    assert (done.outcome, len(two.taken)) == ("delivered", 1)
    assert (refused.outcome, refused.host_failed) == ("failed", False)
    assert "521 example.net takes no mail" in refused.text
    domain(dns_server, "example.org", servers=["127.0.0.9", "127.0.0.1"])
    (waits,) = await offer(mx_route, "example.org")
    assert waits.outcome == "deferred"  # the better one may come back


async def test_an_old_server_that_knows_no_ehlo(mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers) -> None:
    """HELO is tried, and nothing is used that was not offered."""
    server = await mail_server("127.0.0.1", {"EHLO": "502 What?", "HELO": "250 old.example"}, features=FEATURES)
    domain(dns_server)
    (done,) = await offer(mx_route)
    assert done.outcome == "delivered"
    assert server.commands[:3] == [
        "EHLO mail.gatepost.example", "HELO mail.gatepost.example", "MAIL FROM:<app@alice.example>",
    ]  # fmt: skip


async def test_permanent_and_temporary_words_of_the_dns(mx_route: MxRoute, dns_server: DnsServer) -> None:
    """A refusal by the DNS ends the mail with its code; silence of the DNS lets it wait."""
    dns_server.put("null.example", "MX", "0 .")
    dns_server.trouble["ill.example"] = "servfail"
    (no,), (later,) = await offer(mx_route, "null.example"), await offer(mx_route, "ill.example")
    assert (no.outcome, no.reply) == ("failed", "556 5.1.10 null.example takes no mail (null MX).")
    assert (later.outcome, later.code, later.enhanced_code) == ("deferred", 451, "4.4.3")


async def test_it_connects_from_the_address_of_the_route(
    mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers, settings: Any
) -> None:
    """The source of the right family is used; one that this machine does not have is a failure of the connection."""
    await mail_server("127.0.0.1")
    domain(dns_server)
    settings.GATEPOST_MX_SOURCES = ("127.0.0.77", "::1")
    (done,) = await offer(mx_route)
    assert done.outcome == "delivered" and "at 127.0.0.1 from 127.0.0.77" in done.conversation
    settings.GATEPOST_MX_SOURCES = ("192.0.2.77",)
    (done,) = await offer(mx_route)
    assert done.outcome == "deferred" and "Could not connect" in done.text


async def test_ipv6(mx_route: MxRoute, dns_server: DnsServer, mail_server: Servers) -> None:
    """A server that has an IPv6 address alone gets its mail by it."""
    try:
        await mail_server("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    domain(dns_server, servers=["::1"])
    (done,) = await offer(mx_route)
    assert (done.outcome, done.next_hop_ip) == ("delivered", "::1")
