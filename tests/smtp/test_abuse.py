"""What one client may not do to the others: fill the audit and the log, hold the loop, or hold memory and sockets."""

import socket
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from audit.models import AuthEvent
from relay.models import Message
from relay.smtp import protocol
from relay.smtp.budget import Budget
from relay.smtp.content import _check_lines
from relay.smtp.listener import Caps
from relay.smtp.session import ERRORS_MAX
from tests.smtp.conftest import RunningDoor, Sender, content

TOO_MANY = "421 4.7.0 Too many errors, closing the connection"


def replies_until_closed(door: RunningDoor, flood: bytes, *, tls: bool) -> list[bytes]:
    client = door.client(tls=tls)
    client.send(flood)
    received = client.lines
    while part := _received(client.socket):
        received += part
    return received.splitlines()


def _received(peer: socket.socket) -> bytes:
    try:
        return peer.recv(65536)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    ("tls", "command"),
    [
        (False, b"AUTH PLAIN AGEAYg==\r\n"),
        (True, b"AUTH PLAIN =\r\n"),
        (True, b"AUTH X\r\n"),
        (True, b"MAIL FROM:<a@b>\r\n"),
    ],
)
def test_refusals_before_sign_in_have_a_budget(
    door: RunningDoor, eventually: Callable[..., None], tls: bool, command: bytes
) -> None:
    """One connection without an account gets twenty refusals and leaves at most as many rows in the audit."""
    lines = replies_until_closed(door, command * 1000, tls=tls)
    assert len(lines) == ERRORS_MAX + 1
    assert lines[-1].decode().startswith(TOO_MANY)
    eventually(lambda: door.server.recorder.waiting == 0)
    assert AuthEvent.objects.filter(at__gt=timezone.now() - timedelta(hours=1)).count() <= ERRORS_MAX


def test_pipelining_without_end_lets_others_in(door: RunningDoor) -> None:
    """While one client sends commands faster than they are answered, another is answered between them."""
    noisy, quiet = door.client(), door.client()
    noisy.send(b"NOOP\r\n" * 20_000)
    assert quiet.say("NOOP") == "250 2.0.0 OK"
    assert noisy.socket.recv(1) == b"2"


def test_a_client_that_reads_nothing_is_cut_off(
    door: RunningDoor, eventually: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unread replies do not keep the connection once its time is over."""
    monkeypatch.setattr(protocol, "CLOSE_SECONDS", 0.05)
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    peer.connect(("127.0.0.1", door.starttls_port))
    peer.settimeout(1)
    with pytest.raises(TimeoutError):
        while True:
            peer.send(b"NOOP\r\n" * 5000)
    for session in list(door.server._connections):
        session.deadline = 0
    eventually(lambda: door.server.connections == 0)
    peer.close()


def test_announced_octets_book_no_memory(door: RunningDoor, sender: Sender, eventually: Callable[..., None]) -> None:
    """BDAT books what has come, not what was announced: four announcements must not shut the door to all others."""
    door.server.budget = Budget(4 * 100_000)
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    client.send(b"BDAT 99000 LAST\r\n" + b"x" * 1000)
    eventually(lambda: door.server.budget.used == 4 * 1000)
    other = door.signed_in(sender)
    assert other.message(sender.address, "a@dest.example", content=content()).startswith("250")


def test_chunks_beyond_the_memory_are_drained(door: RunningDoor, sender: Sender) -> None:
    """A chunk that does not fit is 452, nothing of it is kept, and the next message is taken."""
    door.server.budget = Budget(4 * 70_000)
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    client.send(b"BDAT 90000 LAST\r\n" + b"x" * 90_000)
    assert client.reply().startswith("452 4.3.1 Too much mail is in flight")
    assert door.server.budget.used == 0
    assert client.message(sender.address, "a@dest.example", content=content()).startswith("250")
    assert Message.objects.count() == 1


def test_much_data_buys_no_hours(door: RunningDoor, sender: Sender, eventually: Callable[..., None]) -> None:
    """After a megabyte at once, a stalled client has five minutes, not the seventeen that it earned."""
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    client.say("DATA")
    client.send((b"x" * 98 + b"\r\n") * 10_000)
    (session,) = door.server._connections
    eventually(lambda: door.server.budget.used >= 4 * 1_000_000)
    assert session.deadline - door.server.loop.time() <= protocol.COMMAND_SECONDS


def test_handshakes_are_counted_before_they_end(door: RunningDoor, eventually: Callable[..., None]) -> None:
    """Connections that say nothing on the TLS port are bounded too, though no session has begun."""
    door.server.beginning.most_per_ip = 2
    silent = [socket.create_connection(("127.0.0.1", door.tls_port)) for _number in range(3)]
    silent[2].settimeout(10)
    assert silent[2].recv(1) == b""
    silent[0].close()
    eventually(lambda: door.server.beginning.total == 1)
    assert door.client().say("NOOP") == "250 2.0.0 OK"
    silent[1].close()


def test_addresses_of_one_ipv6_network_are_counted_together() -> None:
    """A cap per address would be none for who has 2^64 of them."""
    caps = Caps(100, 2)
    assert caps.enter("2001:db8::1")
    assert caps.enter("2001:db8::ffff:2")
    assert not caps.enter("2001:db8::3")
    assert caps.enter("2001:db8:0:1::3")
    caps.leave("2001:db8::1")
    caps.leave("2001:db8::3")
    assert caps.enter("2001:db8::4")


def test_a_secret_in_the_from_header_is_not_recorded(door: RunningDoor, sender: Sender) -> None:
    """An app password pasted into the address stays out of the record."""
    domain = sender.address.partition("@")[2]
    client = door.signed_in(sender)
    mail = content(sender=f"{sender.secret}@{domain}")
    assert client.message(sender.address, "a@dest.example", content=mail).startswith("250")
    assert sender.secret not in Message.objects.get().header_from


def test_many_short_lines_are_checked_quickly() -> None:
    """The longest line of ten million octets of empty lines is found without a list of them."""
    began = time.monotonic()
    _check_lines(b"\r\n" * 5_000_000, 998)
    assert time.monotonic() - began < 2
