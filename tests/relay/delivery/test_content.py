"""relay.content: stored octets, and what a page shows of them."""

import time
from collections.abc import Callable
from email.message import EmailMessage
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Organization
from relay import content
from relay.content import ContentGoneError, aload, attachment_of, load, parse
from relay.database import connect
from relay.models import Message
from tests.relay.conftest import make_message


def mail() -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@example.net", "b@example.net", "Grüße"
    made.set_content("plain ü\n")
    made.add_alternative("<p>rich</p>", subtype="html")
    made.add_attachment(b"\x00\x01" * 500, maintype="application", subtype="pdf", filename="Rechnung ä.pdf")
    made.add_attachment("inside\n", subtype="plain", filename="note.txt")
    return made.as_bytes().replace(b"\n", b"\r\n")


def test_octets_come_back_as_stored(alice_org: Organization, queued_message: Callable[..., Message]) -> None:
    """NUL, 8-bit and dots are kept."""
    octets = b"x: y\r\n\r\n\x00.\xff\r\n.\r\n"
    assert load(queued_message(alice_org, content=octets).id) == octets


def test_no_content(db: None) -> None:
    """What has passed its retention has an error of its own."""
    with pytest.raises(ContentGoneError):
        load(uuid4())


@pytest.mark.django_db(transaction=True)
async def test_the_loop_reads_the_same(alice_org: Organization, async_orm: None) -> None:
    """Also through psycopg's own connection, and its error is the same."""
    octets = bytes(range(256)) * 1000
    message = await sync_to_async(make_message)(alice_org, content=octets)
    connection = await connect(application_name="test")
    try:
        assert await aload(connection, message.id) == octets
        with pytest.raises(ContentGoneError):
            await aload(connection, uuid4())
    finally:
        await connection.close()


def test_a_mail_taken_apart(alice_org: Organization, queued_message: Callable[..., Message]) -> None:
    """Headers decoded and in order, text, HTML, and each attachment with name, kind and size."""
    message = queued_message(alice_org, content=mail())
    shown = parse(load(message.id))
    assert shown.headers[:3] == (("From", "a@example.net"), ("To", "b@example.net"), ("Subject", "Grüße"))
    assert (shown.text.strip(), shown.html[0].strip(), shown.is_cut) == ("plain ü", "<p>rich</p>", False)
    assert [(one.name, one.content_type, one.size_octets) for one in shown.attachments] == [
        ("Rechnung ä.pdf", "application/pdf", 1000),
        ("note.txt", "text/plain", 8),
    ]
    found = attachment_of(load(message.id), shown.attachments[0].number)
    assert found is not None and found[1] == b"\x00\x01" * 500
    assert attachment_of(load(message.id), 99) is None
    assert attachment_of(load(message.id), 1) is None  # the text is no attachment


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (b"Subject: =?utf-8?q?a=0D=0Ab?=", "a\\r\\nb"),
        (b"Subject: =?nonsense?b?!!!?=", "=?nonsense?b?!!!?="),
        (b"Subject: folded\r\n over lines", "folded over lines"),
        (b"Subject: \xc3\xa4\xff", "ä\ufffd"),
        (b"Subject: \x1b[31mred\x00", "\\x1b[31mred\\x00"),
        ("Subject: \u202egnp".encode(), "\\u202egnp"),
        (b"Subject: gp_" + b"a" * 28, "gp_…[redacted]"),
    ],
)
def test_hostile_headers_are_made_plain(header: bytes, shown: str) -> None:
    """Hidden line ends, unknown charsets, controls and secrets do no harm on a page."""
    assert parse(header + b"\r\n\r\nx\r\n").headers == (("Subject", shown),)


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\r\n",
        b"no colon\r\n\r\n",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary\r\n",
        b"Content-Type: text/plain; charset=no-such\r\n\r\nx\xff\r\n",
        b"Content-Type: text/plain; charset=idna\r\n\r\n\xff..\r\n",
        b"Content-Type: text/plain; charset*=\x00''%00\r\n\r\nx\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!not base64!!!\r\n",
        b'Content-Disposition: attachment; filename="../../etc/passwd\x00"\r\n\r\nx\r\n',
        b"Content-Type: message/rfc822\r\n\r\n" * 500,
        b"Subject: " + b"(" * 100_000 + b"\r\n\r\nx\r\n",
        b"Content-Type: " + b"a;" * 100_000 + b"\r\n\r\nx\r\n",
        b"\r\n".join(b"X-%d: y" % n for n in range(10_000)) + b"\r\n\r\nx\r\n",
    ],
)
def test_hostile_mail_is_shown_somehow(hostile: bytes) -> None:
    """Nothing raises, and the result keeps to its bounds."""
    shown = parse(hostile)
    assert len(shown.headers) <= content.HEADERS
    assert len(shown.text) <= content.TEXT_CHARACTERS


@given(st.binary(max_size=2000))
def test_any_octets_are_shown_somehow(octets: bytes) -> None:
    """Whatever was sent, taking it apart raises nothing."""
    parse(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + octets)
    attachment_of(octets, 1)


def test_a_text_too_long_is_cut() -> None:
    """The page gets half a million characters, and is told so."""
    shown = parse(b"A: b\r\n\r\n" + b"0123456789\r\n" * 100_000)
    assert (len(shown.text), shown.is_cut) == (content.TEXT_CHARACTERS, True)


def test_many_parts_are_cut() -> None:
    """Of a thousand parts a hundred are listed."""
    parts = b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n" * 1000
    shown = parse(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts + b"--b--\r\n")
    assert (len(shown.attachments), shown.is_cut) == (content.PARTS, True)


def nested(depth: int, lines: int) -> bytes:
    opened = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth))
    return opened + b"\r\n" + b"x\r\n" * lines


def test_deep_and_long_mail_takes_no_minutes() -> None:
    """Four million short lines under 300 open boundaries: the parser would ask each boundary at each line."""
    began = time.process_time()
    shown = parse(nested(300, 4_000_000))
    assert shown.is_cut
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "body",
    [
        b"--x\r\n\r\na\r\n" * 300_000,
        b"--x\r\n" + b"X: y\r\n" * 400_000,
        b"--x\r\nContent-Type: text/plain\r\n" * 100_000,
    ],
    ids=["parts", "fields", "parts with fields"],
)
def test_a_mail_of_parts_and_fields_alone_costs_little(body: bytes) -> None:
    """A customer's mail must not keep the web process for the better part of a minute."""
    hostile = b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" + body
    began = time.process_time()
    shown = parse(hostile)
    attachment_of(hostile, 1)
    assert time.process_time() - began < 5
    assert shown.headers[0] == ("From", "a@b.example")
