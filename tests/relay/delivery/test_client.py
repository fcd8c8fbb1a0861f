"""relay.smtp.client against a scripted server."""

import base64
import os
from collections.abc import Sequence

import pytest

from relay.routes import NextHop
from relay.smtp.client import Client, Envelope, NotConnectedError, stuffed
from relay.smtp.wire import reply_of
from tests.relay.delivery.conversing import BODY, ONE, SHORT, THREE, codes, connect, deliver, refusal, yes
from tests.relay.delivery.scripted_server import DROP, FEATURES, HANG, ScriptedServer

# --- Content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n",
        b"Subject: x\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
        b"no header\r\n",
        b"\r\n",
        b"x" * (64 * 1024 - 2) + b"\r\n.at the border of a chunk\r\n",
        b"x" * (64 * 1024 - 1) + b"\r\n.one further\r\n",
        b"x" * (64 * 1024) + b".not the start of a line\r\n",
    ],
)
async def test_the_body_arrives_to_the_byte(content: bytes) -> None:
    """Dots, 8-bit octets and the borders of chunks change nothing."""
    async with ScriptedServer() as server:
        result = await deliver(server, content=content)
        assert codes(result) == [250]
        assert server.taken[0].content == content


async def test_ten_megabytes_arrive_to_the_byte() -> None:
    """A large attachment of arbitrary base64 lines comes through."""
    content = BODY + base64.encodebytes(os.urandom(7_500_000)).replace(b"\n", b"\r\n") + b".\r\n"
    async with ScriptedServer() as server:
        assert codes(await deliver(server, content=content)) == [250]
        assert server.taken[0].content == content


def test_a_missing_last_line_end_is_added() -> None:
    """The final dot must stand on a line of its own."""
    assert b"".join(stuffed(b"a\r\n.b")) == b"a\r\n..b\r\n"
    assert b"".join(stuffed(b"")) == b"\r\n"


@pytest.mark.parametrize("content", [b"a\n.\r\nMAIL", b"a\r.\r\n", b"a\r\n.\n", b"\r\r\n"])
async def test_bare_line_ends_never_leave(content: bytes) -> None:
    """What could be read as another end of data is refused before anything is sent."""
    async with ScriptedServer() as server:
        assert codes(await deliver(server, content=content)) == [554]
        assert not server.taken


# --- Envelope ---------------------------------------------------------------------------------------------------------


async def test_the_envelope_goes_in_one_write() -> None:
    """With PIPELINING, RCPT and DATA have arrived before MAIL is answered."""
    async with ScriptedServer() as server:
        assert codes(await deliver(server, THREE)) == [250, 250, 250]
        assert server.ahead[0].count(b"RCPT TO") == 3 and server.ahead[0].endswith(b"DATA\r\n")


async def test_without_pipelining_each_command_waits() -> None:
    """Where it is not offered, nothing is sent ahead."""
    async with ScriptedServer(features=("8BITMIME",)) as server:
        assert codes(await deliver(server, THREE)) == [250, 250, 250]
        assert server.ahead == [b""]
        assert server.taken[0].recipients == list(THREE.recipients)


async def test_the_parameters_of_mail() -> None:
    """SIZE is the content's, BODY and SMTPUTF8 only where the message needs them."""
    async with ScriptedServer() as server:
        await deliver(server)
        await deliver(server, Envelope("ä@alice.example", ("you@example.net",)), "Ä\r\n".encode())
        assert server.taken[0].mail == f"MAIL FROM:<app@alice.example> SIZE={len(BODY)}"
        assert server.taken[1].mail == "MAIL FROM:<ä@alice.example> SIZE=4 BODY=8BITMIME SMTPUTF8"


@pytest.mark.parametrize("features", [FEATURES, ()])
async def test_each_recipient_has_its_own_reply(features: tuple[str, ...]) -> None:
    """Of three, one is refused for good and one for now; the third gets the mail."""
    script = {"RCPT": ["550 5.1.1 No such user", "451 4.2.0 Greylisted", "250 Ok"]}
    async with ScriptedServer(script, features) as server:
        result = await deliver(server, THREE)
        assert codes(result) == [550, 451, 250]
        assert result.offered == [2]
        assert server.taken[0].recipients == ["c@example.net"]
        assert str(result.replies[0]) == "550 5.1.1 No such user"


@pytest.mark.parametrize("features", [FEATURES, ()])
async def test_nobody_is_accepted(features: tuple[str, ...]) -> None:
    """All refused: no content is sent, and the session lives."""
    script = {"RCPT": "550 5.1.1 No", "DATA": ["554 5.5.1 No valid recipients", "354 Go on"]}
    async with ScriptedServer(script, features) as server:
        client = await connect(server)
        result = await client.send(THREE, BODY, before_final_dot=yes)
        assert codes(result) == [550, 550, 550]
        assert client.is_usable and not result.reached_final_dot
        client.abort()


async def test_a_server_that_wants_content_for_nobody_is_left() -> None:
    """354 to DATA with no recipient: nothing is sent, the replies stand, the session ends."""
    async with ScriptedServer({"RCPT": "550 5.1.1 No"}) as server:
        client = await connect(server)
        result = await client.send(ONE, BODY, before_final_dot=yes)
        assert codes(result) == [550] and not client.is_usable
        assert not server.taken


@pytest.mark.parametrize(("verb", "reply"), [("MAIL", 552), ("DATA", 451), ("DOT", 554)])
@pytest.mark.parametrize("features", [FEATURES, ()])
async def test_a_refusal_of_the_message_is_everybodys(verb: str, reply: int, features: tuple[str, ...]) -> None:
    """MAIL, DATA or the final dot refused: each recipient has that reply."""
    script = {verb: f"{reply} x.y No"} | ({"RCPT": "503 5.5.1 MAIL first", "DATA": "503 No"} if verb == "MAIL" else {})
    async with ScriptedServer(script, features) as server:
        assert codes(await deliver(server, THREE)) == [reply] * 3


async def test_an_address_with_a_line_end_is_not_sent() -> None:
    """A control character in an address is refused by us; the other recipients are served."""
    async with ScriptedServer() as server:
        result = await deliver(server, Envelope("a@b.example", ("x@y>\r\nRSET", "ok@example.net")))
        assert codes(result) == [553, 250]
        assert "RSET" not in server.commands


async def test_many_messages_in_one_session() -> None:
    """The second begins with RSET, in the same session, and a refused first does not spoil it."""
    async with ScriptedServer({"DOT": ["451 4.3.0 Not now", "250 2.0.0 Queued"]}) as server:
        client = await connect(server)
        first = await client.send(ONE, BODY, before_final_dot=yes)
        second = await client.send(THREE, BODY, before_final_dot=yes)
        assert (codes(first), codes(second)) == ([451], [250] * 3)
        assert server.sessions == 1
        assert server.commands.count("RSET") == 1
        await client.quit()
        assert server.commands[-1] == "QUIT"


# --- What the server cannot take --------------------------------------------------------------------------------------


async def test_larger_than_the_server_takes() -> None:
    """SIZE says so before anything is sent."""
    async with ScriptedServer(features=("SIZE 10",)) as server:
        result = await deliver(server)
        assert str(result.replies[0]) == f"552 5.3.4 The next hop takes at most 10 octets; this has {len(BODY)}."
        assert not any(command.startswith("MAIL") for command in server.commands)


async def test_8_bit_without_8bitmime() -> None:
    """It is refused clearly, never sent all the same."""
    async with ScriptedServer(features=("PIPELINING",)) as server:
        assert str((await deliver(server, content=b"\r\n\xe4\r\n")).replies[0]).startswith("554 5.6.3")
        assert not server.taken


async def test_an_address_that_needs_smtputf8() -> None:
    """Only that recipient fails where SMTPUTF8 is not offered."""
    async with ScriptedServer(features=("PIPELINING",)) as server:
        result = await deliver(server, Envelope("a@b.example", ("ü@example.net", "u@example.net")))
        assert codes(result) == [553, 250]
        assert server.taken[0].recipients == ["u@example.net"]


async def test_a_header_that_needs_smtputf8() -> None:
    """The whole message fails where SMTPUTF8 is not offered; UTF-8 in the body alone does not need it."""
    async with ScriptedServer(features=("8BITMIME",)) as server:
        envelope = Envelope("a@b.example", ("u@example.net",), smtputf8=True)
        assert codes(await deliver(server, envelope, "Subject: ü\r\n\r\n".encode())) == [553]
        assert codes(await deliver(server, envelope, "Subject: u\r\n\r\nü\r\n".encode())) == [250]


# --- Sessions that break off ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [FEATURES, ()])
async def test_421_in_the_middle(features: tuple[str, ...]) -> None:
    """421 to the second RCPT decides for those not refused before, also the one accepted before."""
    script = {"RCPT": ["250 Ok", "421 4.3.2 Closing"]}
    async with ScriptedServer(script, features) as server:
        client = await connect(server)
        result = await client.send(THREE, BODY, before_final_dot=yes)
        assert codes(result) == [421, 421, 421]
        assert not client.is_usable and not result.reached_final_dot


async def test_dropped_after_the_final_dot() -> None:
    """Nobody knows whether it was taken: no reply, and the final dot was reached."""
    async with ScriptedServer({"DOT": DROP}) as server:
        result = await deliver(server)
        assert codes(result) == [None]
        assert result.reached_final_dot
        assert result.failure
        assert len(server.taken) == 1


async def test_dropped_before_the_content() -> None:
    """No reply and no final dot."""
    async with ScriptedServer({"DATA": DROP}) as server:
        result = await deliver(server)
        assert (codes(result), result.reached_final_dot) == ([None], False)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
async def test_a_server_that_says_nothing(verb: str) -> None:
    """Each wait has an end, and the words say for what."""
    async with ScriptedServer({verb: HANG}) as server:
        client = await connect(server, timeouts=SHORT)
        result = await client.send(ONE, BODY, before_final_dot=yes)
        assert codes(result) == [None]
        assert result.failure == "The server took longer than 0.2 s for answering."
        assert result.reached_final_dot is (verb == "DOT")


async def test_leave_for_the_final_dot_is_refused() -> None:
    """What the hook raises comes through, and the server never sees the end of the content."""

    async def no(_offered: Sequence[int]) -> None:
        raise RuntimeError("lease")

    async with ScriptedServer() as server:
        client = await connect(server)
        with pytest.raises(RuntimeError, match="lease"):
            await client.send(ONE, BODY, before_final_dot=no)
        assert server.started_data.is_set() and not server.taken
        assert not client.is_usable


async def test_the_hook_knows_whom_it_is_about() -> None:
    """It is given the indices of the accepted, before the dot."""
    seen: list[Sequence[int]] = []

    async with ScriptedServer({"RCPT": ["550 No", "250 Ok", "250 Ok"]}) as server:

        async def note(offered: Sequence[int]) -> None:
            assert not server.taken
            seen.append(offered)

        client = await connect(server)
        await client.send(THREE, BODY, before_final_dot=note)
        client.abort()
    assert seen == [(1, 2)]


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        ("HTTP/1.1 400 Bad Request", "is not SMTP"),
        ("220 " + "x" * 5000, "too long"),
        ("220 x\n" * 200 + "220 x", "is not one"),
        (b"220-" + b"x" * 100_000, "too long"),
        ("554 5.7.1 You are listed", "refused (greeting): 554 5.7.1 You are listed"),
        ("421 Too busy", "421 Too busy"),
        (DROP, "No session with"),
    ],
)
async def test_a_hostile_or_busy_greeting(greeting: str | bytes, words: str) -> None:
    """Every kind ends in one clear line, soon."""
    async with ScriptedServer({"GREETING": greeting}) as server:
        assert words in await refusal(server)


async def test_a_server_that_does_not_greet() -> None:
    """The wait for the greeting ends."""
    async with ScriptedServer({"GREETING": HANG}) as server:
        assert "took longer than 0.2 s" in await refusal(server, timeouts=SHORT)


async def test_a_dead_port() -> None:
    """The words name the next hop and the reason."""
    async with ScriptedServer() as server:
        port = server.port
    with pytest.raises(NotConnectedError, match=rf"Could not connect to 127\.0\.0\.1:{port}: .*refused|.*Connect call"):
        await Client.connect(NextHop("127.0.0.1", port, "none"), local_name="x")


# --- Replies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "lines", "words"),
    [
        (550, [b"5.1.1 No such", b"5.1.1 user"], "550 5.1.1 No such user"),
        (250, [b"Ok"], "250 Ok"),
        (250, [b""], "250"),
        (450, [b"5.7.1 wrong class"], "450 wrong class"),
        (550, [b"5.7.1 \x1b[31m\xff\x00"], "550 5.7.1 \\x1b[31m\\xff\\x00"),
    ],
)
def test_the_words_of_a_reply(code: int, lines: list[bytes], words: str) -> None:
    """Enhanced codes are told apart, controls are escaped."""
    assert str(reply_of(code, lines)) == words
