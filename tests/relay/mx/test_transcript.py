"""relay.smtp.transcript and what the client writes into it."""

import socket
from pathlib import Path

import pytest

from relay.smtp.client import Client, NotConnectedError
from relay.smtp.next_hop import NextHop
from relay.smtp.transcript import LEFT_OUT, OCTETS, Transcript
from tests.relay.delivery.conversing import BODY, ONE, THREE, yes
from tests.relay.delivery.scripted_server import FEATURES, ScriptedServer

SECRET = "correct-horse"


def test_it_is_bounded() -> None:
    """Whatever is said; the beginning stays, and the last line tells that more was said."""
    for text in ("x" * 10_000, "é" * 10_000, "\x1b[2J\r\n> forged", "short"):
        transcript = Transcript()
        for _ in range(5000):
            transcript.heard(250, [text, text])
        lines = str(transcript).split("\n")
        assert len(str(transcript).encode()) <= OCTETS
        assert lines[-1] == LEFT_OUT and lines[0].startswith("< 250-") and lines[1].startswith("< 250 ")
        assert str(transcript).replace("\n", "").isprintable() and not any(line.startswith("> ") for line in lines)


def test_each_message_begins_anew() -> None:
    """But the first, which has the session's beginning before it."""
    transcript = Transcript()
    transcript.heard(220, ["hello"])
    transcript.begin(message=0)
    transcript.said("MAIL")
    assert str(transcript) == "< 220 hello\n> MAIL"
    transcript.begin(message=1)
    transcript.said("MAIL")
    assert str(transcript) == "* Message 2 of this session\n> MAIL"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_no_password_and_no_content(certificate: Path, mechanism: str) -> None:
    """Neither in the clear nor in base64, also where the server refuses the login."""
    for answer, ends in (("235 Welcome", "< 250 2.0.0 Queued"), ("535 5.7.8 No", "refused (AUTH): 535 5.7.8 No")):
        async with ScriptedServer({"AUTH": answer}, features=(*FEATURES, f"AUTH {mechanism}")) as server:
            hop = NextHop("127.0.0.1", server.port, "none", username="relay", password=SECRET)
            try:
                client = await Client.connect(hop, local_name="mail.gatepost.example")
                said = (await client.send(ONE, BODY, before_final_dot=yes)).conversation
                client.abort()
            except NotConnectedError as exc:
                said = exc.conversation
            assert said.endswith(ends) and f"> AUTH {mechanism}" in said
            assert not [word for word in ("Hello", "correct", "Y29ycmVjdC", "cmVsYX", "cmVsYXk=") if word in said]


async def test_what_was_said_in_the_order_in_which_it_was_said() -> None:
    """Pipelined commands before their replies, one after the other without pipelining."""
    async with ScriptedServer(features=("8BITMIME",)) as server:
        client = await Client.connect(NextHop("127.0.0.1", server.port, "none"), local_name="a.example")
        first = await client.send(THREE, BODY, before_final_dot=yes)
        second = await client.send(ONE, BODY, before_final_dot=yes)
        client.abort()
    assert [line[:6] for line in first.conversation.split("\n")][-13:] == [
        "> MAIL", "< 250 ", "> RCPT", "< 250 ", "> RCPT", "< 250 ", "> RCPT", "< 250 ", "> DATA", "< 354 ",
        "* 22 o", "> .", "< 250 ",
    ]  # fmt: skip
    assert second.conversation.startswith("* Message 2 of this session\n> RSET\n< 250 2.0.0 Ok\n> MAIL FROM:<app@")


async def test_a_named_host_from_a_source_of_ours() -> None:
    """The source is that of the family of each address that the name has."""
    async with ScriptedServer() as server:
        hop = NextHop("localhost", server.port, "none", sources=("127.0.0.78", "::1"))
        client = await Client.connect(hop, local_name="a.example")
        assert "at 127.0.0.1 from 127.0.0.78" in client.conversation
        client.abort()


async def test_our_own_address_under_another_name() -> None:
    """An MX that leads to this machine is left alone before a word is said, a smarthost there is not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # sends nothing; the kernel picks the address
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = asked.getsockname()[0]
    async with ScriptedServer(address=own) as server:
        with pytest.raises(NotConnectedError, match="is this server: the mail would go in circles"):
            await Client.connect(
                NextHop("mx.example.net", server.port, "opportunistic", address=own, is_mx=True), local_name="a.example"
            )
        assert not server.commands
        (await Client.connect(NextHop("mx.example.net", server.port, "none", address=own), local_name="a")).abort()
