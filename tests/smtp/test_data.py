"""DATA: what is stored is what was sent, once, and only after the commit is there a 250."""

import pytest

from relay.models import LimitWindow, Message, MessageData, Recipient
from tests.smtp.conftest import RunningDoor, Sender, content


def test_a_message_is_accepted_and_stored(door: RunningDoor, sender: Sender) -> None:
    """250 names the reference of a stored message with its recipients and its debit."""
    client = door.signed_in(sender)
    reply = client.message(sender.address, "a@dest.example", "b@dest.example", content=content())
    message = Message.objects.get()
    assert reply == f"250 2.0.0 OK: queued as {message.reference}"
    assert message.subject == "Hello"
    assert message.smtp_user == sender.smtp_user
    assert sorted(Recipient.objects.values_list("address", "state")) == [
        ("a@dest.example", "queued"),
        ("b@dest.example", "queued"),
    ]
    assert sum(LimitWindow.objects.get(scope=1).buckets) == 2


def test_starttls_leads_to_the_same(door: RunningDoor, sender: Sender) -> None:
    """On the STARTTLS port, after the handshake and a second EHLO, everything works alike."""
    client = door.client(tls=False)
    assert client.say("STARTTLS") == "220 2.0.0 Ready to start TLS"
    client.wrap()
    assert client.say(f"AUTH PLAIN {sender.plain()}") == "503 5.5.1 Send EHLO first"
    assert "AUTH PLAIN LOGIN" in client.say("EHLO client.example")
    assert client.say(f"AUTH PLAIN {sender.plain()}").startswith("235")
    assert client.message(sender.address, "a@dest.example", content=content()).startswith("250 2.0.0 OK: queued as ")


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
        (bytes(range(128, 256)) + b"\r\n.\r\n", bytes(range(128, 256)) + b"\r\n"),
    ],
)
def test_the_body_is_stored_to_the_byte(door: RunningDoor, sender: Sender, sent: bytes, stored: bytes) -> None:
    """Dots are unstuffed, 8-bit octets stay; behind the header nothing else changes."""
    client = door.signed_in(sender)
    head = b"From: <news@alice.example>\r\n\r\n"
    assert client.message(sender.address, "a@dest.example", content=head + sent).startswith("250")
    kept = bytes(MessageData.objects.get().content)
    assert kept.partition(b"\r\n\r\n")[2] == stored
    assert kept.startswith(b"Received: from client.example ([127.0.0.1])\r\n\tby mail.gatepost.example")
    assert b"\r\nDate: " in kept
    assert b"\r\nMessage-ID: <" in kept


def refused_after(door: RunningDoor, sender: Sender, data: bytes) -> str:
    client = door.signed_in(sender)
    return client.message(sender.address, "a@dest.example", content=data)


HEAD = b"From: <news@alice.example>\r\n\r\n"

SMUGGLING = [
    b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n",
    b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n",
]  # fmt: skip


@pytest.mark.parametrize("sequence", SMUGGLING, ids=repr)
def test_smuggling_sequences_never_end_the_data(door: RunningDoor, sender: Sender, sequence: bytes) -> None:
    """The data goes on to its true end, where it is refused; nothing is stored, no command was read out of it."""
    data = HEAD + b"before" + sequence + b"MAIL FROM:<x@y.example>\r\nRCPT TO:<z@y.example>\r\nDATA\r\n.\r\n"
    client = door.signed_in(sender)
    reply = client.message(sender.address, "a@dest.example", content=data)
    assert reply == "554 5.5.2 The message has a bare CR, a bare LF or a NUL; lines end with CRLF"
    assert client.say("NOOP") == "250 2.0.0 OK"
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"\r\nno header\r\n.\r\n", "550 5.7.1 The message needs exactly one From header with exactly one address"),
        (
            b"From: <news@alice.example>\r\nFrom: <ceo@bank.example>\r\n\r\n.\r\n",
            "550 5.7.1 The message needs exactly one From header with exactly one address",
        ),
        (
            b"From: <news@alice.example>, <ceo@bank.example>\r\n\r\n.\r\n",
            "550 5.7.1 The message needs exactly one From header with exactly one address",
        ),
        (
            b"From: <ceo@bank.example>\r\n\r\n.\r\n",
            "550 5.7.1 From: app.alice-works may not send as ceo@bank.example; add it to its senders in the panel",
        ),
        (
            b"Received: x\r\n" * 50 + HEAD + b".\r\n",
            "554 5.4.6 Too many Received headers: the message goes in a circle",
        ),
    ],
)
def test_content_that_is_refused(door: RunningDoor, sender: Sender, data: bytes, reply: str) -> None:
    """Refused at the end of data with the reason; nothing is stored."""
    assert refused_after(door, sender, data) == reply
    assert not Message.objects.exists()


def test_too_big(door: RunningDoor, sender: Sender) -> None:
    """Read to its end, then 552; the next message is taken."""
    door.server.message_octets_max = 10_000
    client = door.signed_in(sender)
    reply = client.message(
        sender.address, "a@dest.example", content=content(body=b"x" * 900 + b"\r\n" + b"y" * 20_000 + b"\r\n")
    )
    assert reply == "552 5.3.4 The message exceeds 10000 octets"
    assert client.message(sender.address, "a@dest.example", content=content()).startswith("250")


def test_long_lines(door: RunningDoor, sender: Sender) -> None:
    """Up to 64 KiB taken as they are; where the setting says so, more than 998 octets are refused."""
    line = b"x" * 60_000 + b"\r\n"
    assert refused_after(door, sender, content(body=line)).startswith("250")
    door.server.long_lines = "refuse"
    reply = refused_after(door, sender, content(body=line))
    assert reply == "554 5.6.0 A line of the message has more than 998 octets"


def test_blind_copies_stay_blind(door: RunningDoor, sender: Sender) -> None:
    """The Bcc header is removed, folded lines too; the rest of the header stays to the byte."""
    blind = b"Bcc: <secret@dest.example>,\r\n <other@dest.example>\r\n"
    data = b"From: <news@alice.example>\r\n" + blind + b"X-A: 1\r\n\r\nBcc: body\r\n.\r\n"
    assert refused_after(door, sender, data).startswith("250")
    kept = bytes(MessageData.objects.get().content)
    assert kept.endswith(b"From: <news@alice.example>\r\nX-A: 1\r\n\r\nBcc: body\r\n")


def test_given_date_and_message_id_are_kept(door: RunningDoor, sender: Sender) -> None:
    """Only what is missing is added."""
    data = b"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <mine@alice.example>\r\n" + content()
    assert refused_after(door, sender, data).startswith("250")
    kept = bytes(MessageData.objects.get().content)
    assert kept.count(b"Date:") == 1
    assert kept.count(b"Message-ID:") == 1
    assert Message.objects.get().header_message_id == "<mine@alice.example>"


def test_ten_megabytes_arrive_to_the_byte(door: RunningDoor, sender: Sender) -> None:
    """A large message goes by its own connection and stays as it was sent."""
    body = b"0123456789abcdef" * 60 + b"\r\n"
    big = body * (10 * 1024 * 1024 // len(body))
    assert refused_after(door, sender, HEAD + big + b".\r\n").startswith("250")
    kept = bytes(MessageData.objects.get().content)
    assert kept.endswith(HEAD + big)


def test_data_without_recipients(door: RunningDoor, sender: Sender) -> None:
    """RFC 5321 4.1.4: DATA needs MAIL and a recipient."""
    client = door.signed_in(sender)
    assert client.say("DATA") == "503 5.5.1 Send MAIL first"
    client.say(f"MAIL FROM:<{sender.address}>")
    assert client.say("DATA") == "503 5.5.1 No valid recipients"


def test_a_connection_cut_within_the_data_stores_nothing(door: RunningDoor, sender: Sender) -> None:
    """Without the final dot there is no message."""
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    client.say("DATA")
    client.send(HEAD + b"half a mess")
    client.socket.close()
    other = door.signed_in(sender)
    assert other.message(sender.address, "b@dest.example", content=content()).startswith("250")
    assert Message.objects.count() == 1
