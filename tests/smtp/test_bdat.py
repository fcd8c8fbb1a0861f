"""BDAT: chunks are read whole whatever the answer, and carry anything but bare line ends (RFC 3030)."""

from relay.models import Message, MessageData
from tests.smtp.conftest import Client, RunningDoor, Sender

BODY = b"From: <news@alice.example>\r\n\r\n.dots are not stuffed\r\n..here\r\n"


def open_transaction(door: RunningDoor, sender: Sender) -> Client:
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    return client


def test_two_chunks(door: RunningDoor, sender: Sender) -> None:
    """Each chunk is 250, the last one is the commit; dots stay as they are."""
    client = open_transaction(door, sender)
    client.send(b"BDAT 10\r\n" + BODY[:10])
    assert client.reply() == "250 2.0.0 10 octets received"
    client.send(f"BDAT {len(BODY) - 10} LAST\r\n".encode() + BODY[10:])
    assert client.reply() == f"250 2.0.0 OK: queued as {Message.objects.get().reference}"
    assert bytes(MessageData.objects.get().content).endswith(BODY)


def test_an_empty_last_chunk(door: RunningDoor, sender: Sender) -> None:
    """BDAT 0 LAST ends what went before."""
    client = open_transaction(door, sender)
    client.send(f"BDAT {len(BODY)}\r\n".encode() + BODY + b"BDAT 0 LAST\r\n")
    assert client.reply() == f"250 2.0.0 {len(BODY)} octets received"
    assert client.reply().startswith("250 2.0.0 OK: queued as ")


def test_data_after_bdat(door: RunningDoor, sender: Sender) -> None:
    """DATA and RCPT are out of order once BDAT has begun."""
    client = open_transaction(door, sender)
    client.send(b"BDAT 4\r\nFrom")
    client.reply()
    assert client.say("DATA") == "503 5.5.1 BDAT has begun; DATA is not permitted"
    assert client.say("RCPT TO:<b@dest.example>") == "503 5.5.1 Send MAIL first"


def test_refused_chunks_are_drained(door: RunningDoor, sender: Sender) -> None:
    """Octets of a chunk nobody wants are never read as commands."""
    client = door.signed_in(sender)
    client.send(b"BDAT 6\r\nQUIT\r\nNOOP\r\n")
    assert client.reply() == "503 5.5.1 The chunk is dropped: no mail transaction is open"
    assert client.reply() == "250 2.0.0 OK"
    stranger = door.client()
    stranger.send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    assert stranger.reply() == "530 5.7.0 Authentication required"
    assert stranger.reply() == "250 2.0.0 OK"


def test_syntax(door: RunningDoor, sender: Sender) -> None:
    """A chunk needs its number."""
    client = open_transaction(door, sender)
    assert client.say("BDAT many") == "501 5.5.4 Syntax: BDAT octets [LAST]"
    assert client.say("BDAT 1 FIRST") == "501 5.5.4 Syntax: BDAT octets [LAST]"


def test_bare_line_ends(door: RunningDoor, sender: Sender) -> None:
    """A bare line end or a NUL in a chunk is refused as in DATA."""
    client = open_transaction(door, sender)
    bad = BODY + b"a\nb\r\n"
    client.send(f"BDAT {len(bad)} LAST\r\n".encode() + bad)
    assert client.reply() == "554 5.5.2 The message has a bare CR, a bare LF or a NUL; lines end with CRLF"
    assert not Message.objects.exists()


def test_too_big(door: RunningDoor, sender: Sender) -> None:
    """Chunks beyond the size are drained, 552, and the transaction is gone."""
    door.server.message_octets_max = 100
    client = open_transaction(door, sender)
    client.send(b"BDAT 101 LAST\r\n" + b"x" * 101)
    assert client.reply() == "552 5.3.4 The message exceeds 100 octets"
    assert client.say(f"MAIL FROM:<{sender.address}>") == "250 2.1.0 Sender OK"
