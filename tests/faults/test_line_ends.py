"""What leaves: CRLF line ends and nothing else, whatever came in (docs/smtp.md, Sizes and lines)."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from accounts.models import Organization
from relay.models import Message
from tests.relay.conftest import make_message
from tests.relay.delivery.running import all_settled, delivering
from tests.relay.delivery.scripted_server import ScriptedServer
from tests.smtp.conftest import Client, RunningDoor, Sender, free_port

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("async_orm")]

SEQUENCES = (
    b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n",
    b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n",
)  # fmt: skip
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")
INNER = b"MAIL FROM:<smuggled@alice.example>\r\nRCPT TO:<victim@dest.example>\r\nDATA\r\nFrom: <news@alice.example>\r\n"
REFUSED = "554 5.5.2 The message has a bare CR, a bare LF or a NUL; lines end with CRLF"
# Lines that only look like an end, in text that is well formed: they must arrive as they were sent.
DOTTED = (b".", b"..", b".\r\n.", b"\r\n.\r\n", b".x\r\n..x\r\n...", b"x\r\n.\r\nQUIT\r\n.")


class Tapped(ScriptedServer):
    """Keeps every octet that a session sent, as it came from the wire."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        feed: Any = reader.feed_data

        def tap(data: bytes) -> None:
            self.raw += data
            feed(data)

        reader.feed_data = tap  # type: ignore[method-assign]
        await super()._serve(reader, writer)

    raw = b""


def head(sender: Sender) -> bytes:
    return f"From: <{sender.address}>\r\nSubject: line ends\r\n\r\n".encode()


def by_data(client: Client, sender: Sender, body: bytes) -> str:
    """The body as it is; every line that begins with a dot is stuffed, as a client must."""
    stuffed = re.sub(rb"(?m)(?<=\r\n)\.", b"..", b"\r\n" + body)[2:]
    return client.message(sender.address, "a@dest.example", content=head(sender) + stuffed + b"\r\n.\r\n")


def by_data_unstuffed(client: Client, sender: Sender, body: bytes) -> str:
    return client.message(sender.address, "a@dest.example", content=head(sender) + body + b"\r\n.\r\n")


def by_bdat(client: Client, sender: Sender, body: bytes) -> str:
    """Cut in the middle of the body, where a sequence may be."""
    octets = head(sender) + body
    cut = len(octets) - len(body) // 2 - 1
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    client.send(f"BDAT {cut}\r\n".encode() + octets[:cut])
    assert client.reply() == f"250 2.0.0 {cut} octets received"
    client.send(f"BDAT {len(octets) - cut} LAST\r\n".encode() + octets[cut:])
    return client.reply()


async def deliver(hop: Tapped) -> None:
    async with delivering():
        await all_settled()
    assert BARE.search(hop.raw) is None


@pytest.mark.parametrize("way", [by_data_unstuffed, by_bdat])
def test_smuggling_sequences(
    door: RunningDoor,
    sender: Sender,
    alice_org: Organization,
    relayed: Callable[[Organization, int], None],
    settings: Any,
    way: Callable[[Client, Sender, bytes], str],
) -> None:
    """Each is 554 at the true end, one message and not two; beside them a good message leaves, and CRLF alone."""
    settings.GATEPOST_SMARTHOST_TLS = "none"
    port = free_port()
    relayed(alice_org, port)
    client = door.signed_in(sender)
    for sequence in SEQUENCES:
        for body in (b"text" + sequence + INNER + b"end", b"text" + sequence):
            assert way(client, sender, body) == REFUSED, (sequence, body)
    assert way(client, sender, b"good").startswith("250 2.0.0 OK: queued as ")
    assert Message.objects.count() == 1
    hop = asyncio.run(received(port))
    assert [taken.recipients for taken in hop.taken] == [["a@dest.example"]]
    assert b"smuggled" not in hop.raw


@pytest.mark.parametrize("way", [by_data, by_bdat])
def test_lines_that_look_like_an_end(
    door: RunningDoor,
    sender: Sender,
    alice_org: Organization,
    relayed: Callable[[Organization, int], None],
    settings: Any,
    way: Callable[[Client, Sender, bytes], str],
) -> None:
    """Dots at the beginning of lines arrive as they were sent, and never end the message on its way."""
    settings.GATEPOST_SMARTHOST_TLS = "none"
    port = free_port()
    relayed(alice_org, port)
    client = door.signed_in(sender)
    for body in DOTTED:
        assert way(client, sender, b"<" + body + b">").startswith("250 2.0.0 OK: queued as "), body
        assert way(client, sender, body).startswith("250 2.0.0 OK: queued as "), body
    hop = asyncio.run(received(port))
    bodies = [taken.content.partition(b"\r\n\r\n")[2] for taken in hop.taken]
    sent = [text for body in DOTTED for text in (body, b"<" + body + b">")]
    assert sorted(bodies) == sorted(text if ended_by(way, text) else text + b"\r\n" for text in sent)
    assert {command.partition(" ")[0] for command in hop.commands} <= {"EHLO", "MAIL", "RCPT", "DATA", "RSET", "QUIT"}


def ended_by(way: Any, text: bytes) -> bool:
    """BDAT can end a message without a line end, which our client adds, and with one, which it leaves alone."""
    return way is by_bdat and text.endswith(b"\r\n")


async def received(port: int) -> Tapped:
    async with Tapped(port=port) as hop:
        await deliver(hop)
    return hop


@pytest.mark.django_db(transaction=True)
async def test_what_is_stored_all_the_same(
    alice_org: Organization, relayed: Callable[[Organization, int], None], settings: Any
) -> None:
    """Were such a message ever in the database, it would not leave: the recipient fails, and no octet of it is sent."""
    settings.GATEPOST_SMARTHOST_TLS = "none"
    port = free_port()
    await sync_to_async(relayed)(alice_org, port)
    for sequence in SEQUENCES:
        octets = b"From: <a@alice.example>\r\n\r\ntext" + sequence + INNER
        await sync_to_async(make_message)(alice_org, route="smarthost", content=octets)
    hop = await received(port)
    assert hop.taken == []
    assert b"smuggled" not in hop.raw
