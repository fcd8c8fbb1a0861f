"""relay.pasted: the reply, and the reference, in whatever somebody pastes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.pasted import PastedReply, reference_in, reply_in

SENDER = PastedReply(550, "5.7.1", "shop.alice may not send as x@y.example; add it to its senders in the panel")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("K7Q2MX9TA4", "K7Q2MX9TA4"),
        (" k7q2mx9ta4 ", "K7Q2MX9TA4"),
        ("[ref K7Q2MX9TA4]", "K7Q2MX9TA4"),
        ("ref: K7Q2MX9TA4", "K7Q2MX9TA4"),
        ("535 5.7.8 Authentication credentials invalid [ref K7Q2MX9TA4]", "K7Q2MX9TA4"),
        ("… credentials invalid [ref\n K7Q2MX9TA4] (in reply to AUTH)", "K7Q2MX9TA4"),
        ("250 2.0.0 OK: queued as 7M3ZK0PQ4V", "7M3ZK0PQ4V"),
        ("250 2.0.0 OK: held as 7M3ZK0PQ4V until the hourly limit has room", "7M3ZK0PQ4V"),
        ("K7Q2MX9TAO", "K7Q2MX9TA0"),
        ("IlQ2MX9TA4", "11Q2MX9TA4"),
        ("K7Q2MX9TAU", None),
        ("K7Q2MX9TA", None),
        ("535 5.7.8 Authentication credentials invalid", None),
        ("", None),
    ],
)
def test_reference(text: str, found: str | None) -> None:
    """Alone, in any case, out of a whole reply, wrapped, and with the letters that people take for digits."""
    assert reference_in(text) == found


@pytest.mark.parametrize(
    "text",
    [
        f"{SENDER} [ref K7Q2MX9TA4]",
        str(SENDER),
        f"smtplib.SMTPSenderRefused: (550, b'5.7.1 {SENDER.text} [ref K7Q2MX9TA4]', 'x@y.example')",
        f'Expected response code "250" but got code "550", with message "{SENDER} [ref K7Q2MX9TA4]".',
        f"to=<a@b.example>, relay=192.0.2.250[192.0.2.250]:587, status=bounced (host said: {SENDER} [ref X])",
        "550-5.7.1 shop.alice may not send as x@y.example; add it to\r\n its senders in the panel [ref K7Q2MX9TA4]",
        f"Error on port 587: {SENDER} [ref K7Q2MX9TA4]",
    ],
)
def test_reply(text: str) -> None:
    """As a client, Python, PHP, Postfix and a terminal that wraps show it: the same code and words."""
    assert reply_in(text) == SENDER


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("451", PastedReply(451, "", "")),
        ("451 4.7.1", PastedReply(451, "4.7.1", "")),
        ("550 No such user here", PastedReply(550, "", "No such user here")),
        ("250 2.0.0 OK", PastedReply(250, "2.0.0", "OK")),
        ("354 End data", None),
        ("999 9.9.9 nothing", None),
        ("the mail did not arrive", None),
        ("K7Q2MX9TA4", None),
    ],
)
def test_little_is_enough(text: str, found: PastedReply | None) -> None:
    """A code alone is a reply; words and references are none."""
    assert reply_in(text) == found


@given(st.text())
def test_anything_may_be_pasted(text: str) -> None:
    """Neither ever fails, and a reference has the form in which they are stored."""
    reply_in(text)
    reference = reference_in(text)
    assert reference is None or (len(reference) == 10 and reference.isalnum() and reference == reference.upper())
