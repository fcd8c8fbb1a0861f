"""The bounce port, with real sessions: what it takes, what it writes down, what it never does."""

import asyncio
import contextlib
import smtplib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from accounts.models import Organization
from relay.bounces import verp
from relay.bounces.hook import COLLECT_SECONDS
from relay.models import CredentialChange, LateBounce, Message, Recipient, Report, Suppression
from relay.smtp.bounce_server import MESSAGE_OCTETS, BounceServer
from relay.smtp.master import run
from tests.relay.bounces.reports import DELAYED_TEXT, DSN, EXIM, OUT_OF_OFFICE, SUCCESS_DSN
from tests.relay.conftest import make_message
from tests.smtp.conftest import Client, listener

pytestmark = pytest.mark.django_db(transaction=True)


class BouncePort:
    def __init__(self, server: BounceServer, port: int) -> None:
        self.server, self.port = server, port
        self._clients: list[Client] = []

    def client(self) -> Client:
        client = Client(self.port, tls=False)
        self._clients.append(client)
        assert client.say("EHLO mx.example.net").startswith("250-")
        return client

    def bounce(self, to: str, mail: str, *, sender: str = "") -> str:
        client = self.client()
        assert client.say(f"MAIL FROM:<{sender}> SIZE={len(mail)}").startswith("250")
        assert (said := client.say(f"RCPT TO:<{to}>")).startswith("250"), said
        assert client.say("DATA").startswith("354")
        client.send(mail.replace("\n", "\r\n").encode() + b".\r\n")
        return client.reply()

    def close(self) -> None:
        for client in self._clients:
            client.socket.close()


@pytest.fixture
def port(transactional_db: None) -> Iterator[BouncePort]:
    started: list[Any] = []
    ready = threading.Event()
    listening = listener()

    async def serve() -> None:
        server = BounceServer(listening)
        started.append((server, asyncio.get_running_loop()))
        ready.set()
        await server.run()

    with override_settings(GATEPOST_BOUNCE_DOMAIN="bounces.example"):
        thread = threading.Thread(target=lambda: run(serve()), daemon=True)
        thread.start()
        ready.wait(10)
        server, loop = started[0]
        running = BouncePort(server, listening.getsockname()[1])
        yield running
        running.close()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(server.stop)
        thread.join(30)
        assert not thread.is_alive()


def delivered(organization: Organization, **columns: Any) -> tuple[Message, Recipient]:
    message = make_message(organization, state="delivered", **columns)
    return message, Recipient.objects.filter(message=message).order_by("pk")[0]


def path_of(recipient: Recipient, *, recipient_id: int | None = None) -> str:
    number = recipient.pk if recipient_id is None else recipient_id
    return f"{verp.local_part(recipient.message.reference, number)}@bounces.example"


def test_only_our_tokens(port: BouncePort, alice_org: Organization) -> None:
    """Any other address, and one that was made up, is 550 5.1.1; nobody can relay by it."""
    _message, recipient = delivered(alice_org)
    made_up = path_of(recipient)[:-20] + "0000@bounces.example"
    client = port.client()
    client.say("MAIL FROM:<>")
    for address in ("postmaster@bounces.example", "you@example.net", made_up, "b-x-y-z@bounces.example"):
        assert client.say(f"RCPT TO:<{address}>").startswith("550 5.1.1 This server takes reports")
    assert client.say("DATA").startswith("503")
    assert client.say("AUTH PLAIN").startswith("500")
    assert client.say(f"RCPT TO:<{path_of(recipient).upper()}>").startswith("250")


def test_a_late_bounce(port: BouncePort, alice_org: Organization) -> None:
    """Delivered turns to failed in the reporter's words, the sender is told, the address is suppressed, smtpd hears."""
    message, recipient = delivered(alice_org)
    assert port.bounce(path_of(recipient), DSN) == "250 2.0.0 Thank you"
    recipient.refresh_from_db()
    assert (recipient.state, recipient.reply[:33]) == ("failed", "Bounced later: 550 5.1.1 <you@exa")
    late = LateBounce.objects.get()
    assert (late.action, late.bounce_class, late.is_hard, late.code) == ("failed", "recipient", True, 550)
    assert (late.reporter, late.client_ip) == ("inner.example.net", "127.0.0.1")
    report = Report.objects.get()
    assert (report.kind, report.sender, report.message_id) == ("failed", "app@alice.example", message.pk)
    assert 0 < (report.due_at - report.at).total_seconds() <= COLLECT_SECONDS
    row = Suppression.objects.get()
    assert (row.organization, row.address, row.source) == (alice_org, "you@example.net", "bounce")
    assert "User unknown" in row.reason and row.reference == message.reference
    assert CredentialChange.objects.filter(organization_id=alice_org.pk).count() == 1
    assert port.bounce(path_of(recipient), DSN).startswith("250")
    assert (LateBounce.objects.count(), Report.objects.count()) == (1, 1)


def test_what_is_not_about_the_address(port: BouncePort, alice_org: Organization) -> None:
    """A blocklist's refusal fails the mail, and suppresses nobody."""
    _message, recipient = delivered(alice_org)
    port.bounce(path_of(recipient), EXIM)
    assert LateBounce.objects.get().bounce_class == "reputation"
    recipient.refresh_from_db()
    assert recipient.state == "failed" and not Suppression.objects.exists()


def test_delays_and_successes_are_told_if_wanted(port: BouncePort, alice_org: Organization) -> None:
    """The recipient stays delivered; NOTIFY decides who hears of it."""
    _message, recipient = delivered(alice_org)
    port.bounce(path_of(recipient), DELAYED_TEXT)
    port.bounce(path_of(recipient), SUCCESS_DSN)
    assert [report.kind for report in Report.objects.all()] == ["delayed"]
    Recipient.objects.update(dsn_notify="SUCCESS")
    _message, other = delivered(alice_org)
    Recipient.objects.update(dsn_notify="SUCCESS")
    port.bounce(path_of(other), SUCCESS_DSN)
    assert {report.kind for report in Report.objects.filter(recipient=other)} == {"delivered"}
    assert set(Recipient.objects.values_list("state", flat=True)) == {"delivered"}


def test_a_token_for_several(port: BouncePort, alice_org: Organization) -> None:
    """The one that is named fails; nobody is suppressed by it, for each of them could have written it."""
    _message, recipient = delivered(alice_org, recipients=("me@example.net", "You@example.net"))
    port.bounce(path_of(recipient, recipient_id=0), DSN)
    states = dict(Recipient.objects.values_list("address", "state"))
    assert states == {"me@example.net": "delivered", "You@example.net": "failed"}
    assert Report.objects.count() == 1 and not Suppression.objects.exists()


def test_automatic_answers_are_taken_and_left(port: BouncePort, alice_org: Organization) -> None:
    """Out of office: 250, nothing concluded, and no mail ever written in answer."""
    _message, recipient = delivered(alice_org)
    assert port.bounce(path_of(recipient), OUT_OF_OFFICE, sender="you@example.net").startswith("250")
    recipient.refresh_from_db()
    assert recipient.state == "delivered" and not LateBounce.objects.exists()
    assert Message.objects.count() == 1


def test_what_waits_is_not_touched(port: BouncePort, alice_org: Organization) -> None:
    """A bounce of mail that is queued again, or has failed, is kept beside it; its state is the queue's."""
    for state in ("queued", "failed", "cancelled"):
        message = make_message(alice_org, state=state)
        port.bounce(path_of(message.recipients.get()), DSN)
        assert message.recipients.get().state == state
    assert LateBounce.objects.count() == 3 and not Report.objects.exists() and not Suppression.objects.exists()


def test_bounds(port: BouncePort, alice_org: Organization) -> None:
    """Too large, in a circle, too many recipients, nonsense: each its refusal, and twenty errors end the session."""
    _message, recipient = delivered(alice_org)
    address = path_of(recipient)
    client = port.client()
    assert client.say(f"MAIL FROM:<> SIZE={MESSAGE_OCTETS + 1}").startswith("552 5.3.4")
    client.say("MAIL FROM:<>")
    assert [client.say(f"RCPT TO:<{address}>")[:3] for _number in range(21)] == ["250"] * 20 + ["452"]
    client.say("DATA")
    client.send(b"Received: x\r\n" * 60 + b"\r\n.\r\n")
    assert client.reply().startswith("554 5.4.6")
    assert client.say("MAIL FROM:<>").startswith("250") and client.say("MAIL FROM:<>").startswith("503")
    while not (said := client.say(b"\xff\xfe")).startswith("421"):
        assert said.startswith("500")
    assert client.closed()


def test_starttls(port: BouncePort, alice_org: Organization) -> None:
    """A stranger's library, under TLS, with the certificate read again."""
    _message, recipient = delivered(alice_org)
    port.server.loop.call_soon_threadsafe(port.server.reload)
    with smtplib.SMTP("127.0.0.1", port.port) as client:
        client.starttls()
        client.sendmail("", [path_of(recipient)], DSN)
    assert LateBounce.objects.count() == 1


def test_a_database_that_is_away(port: BouncePort, alice_org: Organization, postgres: Any) -> None:
    """451, so that the peer keeps its report; it is taken when it comes again."""
    _message, recipient = delivered(alice_org)
    address = path_of(recipient)
    connection.close()
    postgres.stop()
    assert port.bounce(address, DSN).startswith("451 4.3.0")
    postgres.start()
    assert port.bounce(address, DSN).startswith("250")
    assert LateBounce.objects.count() == 1


def test_connections_have_a_bound(port: BouncePort) -> None:
    """The twenty-first from one address is turned away at the greeting."""
    for _number in range(20):
        port.client()
    with socket.create_connection(("127.0.0.1", port.port), timeout=10) as one_too_many:
        assert one_too_many.recv(100).startswith(b"421 4.7.0")
