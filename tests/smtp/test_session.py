"""EHLO, STARTTLS, the small verbs and the edges of the line: the whole reply of each."""

import pytest

from relay.smtp.session import ERRORS_MAX
from tests.smtp.conftest import RunningDoor, Sender, content

EXTENSIONS = [
    "250-mail.gatepost.example",
    "250-PIPELINING",
    "250-SIZE 52428800",
    "250-8BITMIME",
    "250-SMTPUTF8",
    "250-DSN",
    "250-ENHANCEDSTATUSCODES",
    "250-CHUNKING",
]


def test_greeting_and_ehlo(door: RunningDoor, sender: Sender) -> None:
    """STARTTLS in clear, REQUIRETLS and AUTH under TLS, no AUTH once signed in."""
    clear = door.client(tls=False, ehlo=False)
    assert clear.greeting == "220 mail.gatepost.example ESMTP Gatepost"
    assert clear.say("EHLO client.example").split("\n") == [*EXTENSIONS, "250 STARTTLS"]
    secure = door.client(ehlo=False)
    assert secure.say("EHLO client.example").split("\n") == [
        *EXTENSIONS,
        "250-REQUIRETLS",
        "250 AUTH PLAIN LOGIN SCRAM-SHA-256 OAUTHBEARER XOAUTH2",
    ]
    signed_in = door.signed_in(sender)
    assert signed_in.say("EHLO again.example").split("\n") == [*EXTENSIONS, "250 REQUIRETLS"]


@pytest.mark.parametrize("name", ["client.example", "[127.0.0.1]", "[IPv6:::1]", "localhost", "my_pc", "x."])
def test_names_that_are_taken(door: RunningDoor, name: str) -> None:
    """A domain, an address literal, and what devices really say."""
    assert door.client(ehlo=False).say(f"EHLO {name}").startswith("250-")


@pytest.mark.parametrize("name", ["", "<script>", "a b", "\u00e9.example", "a\x1b[31m", "[300.1.1.1]", "-x"])
def test_names_that_are_not(door: RunningDoor, name: str) -> None:
    """Markup, escapes and 8-bit are 501; the session lives."""
    client = door.client(ehlo=False)
    assert client.say(f"EHLO {name}") == "501 5.5.2 The name after EHLO is not a host name or address literal"
    assert client.say("HELO client.example") == "250 mail.gatepost.example"


def test_starttls(door: RunningDoor, sender: Sender) -> None:
    """An argument is 501; under TLS 503; before EHLO 503; afterwards all is forgotten."""
    client = door.client(tls=False, ehlo=False)
    assert client.say("STARTTLS") == "503 5.5.1 Send EHLO first"
    client.say("EHLO client.example")
    assert client.say("STARTTLS x") == "501 5.5.4 Syntax: STARTTLS"
    assert client.say("STARTTLS") == "220 2.0.0 Ready to start TLS"
    client.wrap()
    assert client.say("MAIL FROM:<a@b.example>") == "503 5.5.1 Send EHLO first"
    client.say("EHLO client.example")
    assert client.say("STARTTLS") == "503 5.5.1 TLS is already active"


def test_what_came_with_starttls_is_never_answered(door: RunningDoor) -> None:
    """Commands in the same segment as STARTTLS are dropped, not carried into TLS."""
    client = door.client(tls=False)
    client.send(b"STARTTLS\r\nNOOP\r\nQUIT\r\n")
    assert client.reply() == "220 2.0.0 Ready to start TLS"
    client.wrap()
    assert client.say("EHLO client.example").startswith("250-")


def test_a_failed_handshake_ends_only_its_connection(door: RunningDoor) -> None:
    """Garbage instead of a handshake closes the connection; the door goes on."""
    client = door.client(tls=False)
    client.say("STARTTLS")
    client.send(b"this is no handshake\r\n" * 20)
    with pytest.raises((ConnectionResetError, UnicodeDecodeError)):
        client.reply()
    assert door.client().say("NOOP") == "250 2.0.0 OK"


def test_small_verbs(door: RunningDoor, sender: Sender) -> None:
    """VRFY, EXPN, HELP, NOOP, RSET, QUIT."""
    client = door.signed_in(sender)
    assert client.say("VRFY somebody") == "252 2.1.5 Cannot verify; send the message and it will be tried"
    assert client.say("EXPN list") == "502 5.5.1 EXPN is not offered"
    assert client.say("HELP") == "214 2.0.0 https://www.rfc-editor.org/rfc/rfc5321"
    assert client.say("NOOP anything") == "250 2.0.0 OK"
    assert client.say("RSET x") == "501 5.5.4 Syntax: RSET"
    assert client.say("DATA x") == "501 5.5.4 Syntax: DATA"
    assert client.say("QUIT x") == "501 5.5.4 Syntax: QUIT"
    assert client.say("QUIT") == "221 2.0.0 Bye"
    assert client.closed()


def test_unknown_commands_have_a_budget(door: RunningDoor) -> None:
    """500 each, and after twenty of them the connection ends."""
    client = door.client()
    for _number in range(ERRORS_MAX - 1):
        assert client.say("FROBNICATE now") == "500 5.5.2 Command not recognized"
    assert client.say("\u00ff") == "500 5.5.2 Command not recognized"
    assert client.reply() == "421 4.7.0 Too many errors, closing the connection"
    assert client.closed()


def test_lines(door: RunningDoor, sender: Sender) -> None:
    """A line too long or ended by a bare LF is 500, and the next command works."""
    client = door.signed_in(sender)
    assert client.say("NOOP " + "x" * 3000) == "500 5.5.2 Command line too long"
    assert client.say("NOOP " + "x" * 200_000) == "500 5.5.2 Command line too long"
    client.send(b"NOOP\n")
    assert client.reply() == "500 5.5.2 Commands end with CRLF"
    client.send(b"NO\rOP\r\n")
    assert client.reply() == "500 5.5.2 Commands end with CRLF"
    assert client.say("NOOP") == "250 2.0.0 OK"


def test_pipelined_commands_are_answered_in_order(door: RunningDoor, sender: Sender) -> None:
    """RFC 2920: a whole transaction in one write, then the content and QUIT in another."""
    client = door.signed_in(sender)
    client.send(f"MAIL FROM:<{sender.address}>\r\nRCPT TO:<a@dest.example>\r\nDATA\r\n".encode())
    assert [client.reply() for _number in range(3)] == [
        "250 2.1.0 Sender OK",
        "250 2.1.5 Recipient OK",
        "354 End data with <CR><LF>.<CR><LF>",
    ]
    client.send(content() + b"QUIT\r\n")
    assert client.reply().startswith("250 2.0.0 OK: queued as ")
    assert client.reply() == "221 2.0.0 Bye"


def test_commands_cut_at_every_octet(door: RunningDoor) -> None:
    """However the segments fall, the replies are the same."""
    client = door.client()
    for octet in b"NOOP\r\nRSET\r\n":
        client.send(bytes([octet]))
    assert client.reply() == "250 2.0.0 OK"
    assert client.reply() == "250 2.0.0 OK"


def test_a_silent_client_is_told_why(door: RunningDoor) -> None:
    """421 4.4.2 before closing."""
    client = door.client()
    for session in list(door.server._connections):
        session.deadline = 0
    assert client.reply() == "421 4.4.2 Timeout, closing the connection"
    assert client.closed()


def test_stopping_says_goodbye(door: RunningDoor, sender: Sender) -> None:
    """SIGTERM: the idle hear 421 4.3.2; a transaction in flight is finished first."""
    idle = door.client()
    busy = door.signed_in(sender)
    busy.say(f"MAIL FROM:<{sender.address}>")
    busy.say("RCPT TO:<a@dest.example>")
    busy.say("DATA")
    door.server.loop.call_soon_threadsafe(door.server.stop)
    assert idle.reply() == "421 4.3.2 Shutting down, try again shortly"
    busy.send(content())
    assert busy.reply().startswith("250 2.0.0 OK: queued as ")
    assert busy.reply() == "421 4.3.2 Shutting down, try again shortly"


def test_an_unexpected_error_is_451_and_leaks_nothing(
    door: RunningDoor, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks inside, the client hears 451 4.3.0 with a reference, and the session lives."""

    async def broken(*_arguments: object, **_words: object) -> None:
        raise RuntimeError("secret detail")

    client = door.signed_in(sender)
    monkeypatch.setattr(door.server.glance, "obstacle", broken)
    assert client.say(f"MAIL FROM:<{sender.address}>") == "451 4.3.0 Something went wrong here, try again later"
    assert client.references[-1]
    assert client.say("NOOP") == "250 2.0.0 OK"


def test_tls_versions(door: RunningDoor) -> None:
    """Nothing below TLS 1.2."""
    assert door.server.tls_context.minimum_version.name == "TLSv1_2"
