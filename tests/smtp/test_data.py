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
