"""Delivery to real mail servers: Postfix and Exim, with a login and without, always over STARTTLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import override_settings

from accounts.models import Organization
from tests.plugins.peers import GREYLISTED, PASSWORD, REFUSED, USERNAME, EximPeer, Peer
from tests.relay.delivery.running import all_attempted, amake_message, attempts, delivering, recipients

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]

HEAD = (
    b"From: app@alice.example\r\nTo: you@peer.example\r\nMessage-ID: <%d@alice.example>\r\n"
    b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nSubject: =?utf-8?q?=C3=A4?=\r\n"
)
# What servers and relays get wrong: leading dots, lines of dots, white space at line ends, 8 bits, long lines, no text.
BODIES = (
    b"Hello.\r\n",
    b".\r\n..\r\n.leading\r\n\r\n.\r\n...\r\n",
    b"trailing blanks  \r\n\t\r\n\r\n\r\n",
    "Ä ö ü € \N{GRINNING FACE}\r\n".encode(),
    b"x" * 998 + b"\r\n" + b"." + b"y" * 997 + b"\r\n",
    b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<x@example.com>\r\nQUIT\r\n",
    (b"word " * 12 + b"\r\n") * 4000,
)


@pytest.fixture(params=["postfix", "exim"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Its queue is empty before and after."""
    found: Peer = request.getfixturevalue(f"{request.param}_peer")
    found.forget()
    yield found
    found.forget()


@contextmanager
def towards(peer: Peer, *, login: bool, **changes: Any) -> Iterator[None]:
    named = {
        "GATEPOST_SMARTHOST": "127.0.0.1",
        "GATEPOST_SMARTHOST_PORT": peer.login_port if login else peer.open_port,
        "GATEPOST_SMARTHOST_TLS": "starttls",
        "GATEPOST_SMARTHOST_CA_FILE": str(peer.certificate),
        "GATEPOST_SMARTHOST_USERNAME": USERNAME if login else "",
        "GATEPOST_SMARTHOST_PASSWORD": PASSWORD if login else "",
    }
    with override_settings(**named | changes):
        yield


@pytest.mark.parametrize("login", [False, True], ids=["open", "login"])
async def test_mail_reaches_it_as_it_was(alice_org: Organization, peer: Peer, login: bool) -> None:
    """Each message once, to its recipients, its body and header octet for octet, over verified TLS 1.3."""
    mails = [HEAD % number + b"\r\n" + body for number, body in enumerate(BODIES)]
    for number, mail in enumerate(mails):
        to = [f"{number}@peer.example", f"{number}.too@peer.example"]
        await amake_message(alice_org, route="smarthost", recipients=to, content=mail)
    with towards(peer, login=login):
        async with delivering():
            await all_attempted()
    assert {row.state for row in (await recipients()).values()} == {"delivered"}
    assert {(row.code, row.tls_version, row.next_hop_ip) for row in await attempts()} == {(250, "TLSv1.3", "127.0.0.1")}
    kept = {int(each.header("Message-ID")[1:].partition("@")[0]): each for each in peer.kept()}
    assert len(peer.kept()) == len(kept) == len(mails)
    for number, mail in enumerate(mails):
        lines = mail.removesuffix(b"\r\n").split(b"\r\n")
        assert kept[number].lines[-len(lines) :] == lines
        assert sorted(kept[number].recipients) == [f"{number}.too@peer.example", f"{number}@peer.example"]


async def test_each_recipient_gets_the_servers_own_answer(alice_org: Organization, peer: Peer) -> None:
    """One taken, one refused for good, one for now, in one transaction: each state and the server's words."""
    to = ["you@peer.example", REFUSED, GREYLISTED]
    await amake_message(alice_org, route="smarthost", recipients=to)
    with towards(peer, login=False):
        async with delivering():
            await all_attempted()
    found = await recipients()
    assert [found[address].state for address in to] == ["delivered", "failed", "queued"]
    assert found[REFUSED].reply.startswith("550 5.1.1 ") and "No such person" in found[REFUSED].reply
    code = 451 if isinstance(peer, EximPeer) else 450
    assert found[GREYLISTED].reply.startswith(f"{code} 4.2.0 ") and "Later" in found[GREYLISTED].reply
    assert [each.recipients for each in peer.kept()] == [["you@peer.example"]]


async def test_a_wrong_password_or_certificate_fails_no_mail(
    alice_org: Organization, peer: Peer, strange_certificate: Any
) -> None:
    """It is deferred with the reason, and nothing has reached the server."""
    await amake_message(alice_org, route="smarthost")
    with towards(peer, login=True, GATEPOST_SMARTHOST_PASSWORD="wrong"):
        async with delivering():
            await all_attempted()
    [recipient] = (await recipients()).values()
    assert recipient.state == "queued" and "refused (AUTH): 535" in recipient.reply
    await amake_message(alice_org, route="smarthost", recipients=["other@example.net"])
    with towards(peer, login=False, GATEPOST_SMARTHOST_CA_FILE=str(strange_certificate)):
        async with delivering():
            await all_attempted()
    recipient = (await recipients())["other@example.net"]
    assert recipient.state == "queued" and "certificate" in recipient.reply
    assert peer.kept() == []
