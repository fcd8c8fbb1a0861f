"""relay.smtp.content: what may not be relayed, what is read of the rest, and what is added."""

import email
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.policy import SMTP
from uuid import UUID

import pytest
from hypothesis import example, given, strategies

from relay.smtp import content as message_content
from relay.smtp import replies
from relay.smtp.content import ContentRefused, Headers, complete, has_bare_line_ends, inspect, received_header, unstuff

FROM = b"From: news@alice.example\r\n"
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def read(content: bytes, long_lines: str = "accept") -> Headers:
    return inspect(content, long_lines=long_lines)


def from_of(value: bytes) -> str | None:
    """The address that From names, or None where it is refused."""
    try:
        return read(b"From: " + value + b"\r\n\r\n").header_from
    except ContentRefused as refused:
        assert refused.reply == replies.ONE_FROM
        return None


LINES = strategies.lists(strategies.binary(max_size=8).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")))


@given(strategies.one_of(LINES, strategies.lists(strategies.sampled_from([b"", b".", b"..", b".a", b"a.", b"a"]))))
def test_unstuffing_undoes_stuffing(lines: list[bytes]) -> None:
    """RFC 5321 4.5.2: the client doubles the first dot of every line; we take it out again, and no other."""
    plain = b"".join(line + b"\r\n" for line in lines)
    stuffed = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines)
    assert unstuff(stuffed) == plain


BARE = [
    *[b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n"],
    *[b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n"],
]


@pytest.mark.parametrize("place", ["header", "body", "first", "last"])
@pytest.mark.parametrize("sequence", BARE, ids=repr)
def test_bare_line_ends_are_refused_wherever_they_stand(sequence: bytes, place: str) -> None:
    """554 5.5.2 for every sequence by which one message is read as two."""
    content = {
        "header": FROM + b"X: a" + sequence + b"b\r\n\r\nbody\r\n",
        "body": FROM + b"\r\na" + sequence + b"b\r\n",
        "first": sequence + b"b\r\n" + FROM + b"\r\n",
        "last": FROM + b"\r\na" + sequence,
    }[place]
    with pytest.raises(ContentRefused) as refused:
        read(content)
    assert refused.value.reply == replies.BARE_LINE_END


@given(strategies.lists(strategies.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b".", b"a"])).map(b"".join))
def test_bare_line_ends_against_a_model(content: bytes) -> None:
    """What is left after the pairs are taken out tells."""
    rest = content.replace(b"\r\n", b"")
    assert has_bare_line_ends(content) == any(octet in rest for octet in b"\r\n\0")


@pytest.mark.parametrize(
    "value",
    [
        b"news@alice.example",
        b" \t news@alice.example \t ",
        b"<news@alice.example>",
        b"News <news@alice.example>",
        b"News of Alice  <news@alice.example> ",
        b'"News, of: Alice" <news@alice.example>',
        b'"evil@x.example" <news@alice.example>',
        b"=?utf-8?q?Gr=C3=BC=C3=9Fe?= <news@alice.example>",
        b"=?utf-8?q?evil=40x=2Eexample?= <news@alice.example>",
        b"News\r\n <news@alice.example>",
        b"News\r\n\t<news@alice.example>",
        b"news@alice.example (evil@x.example)",
        b"(evil@x.example) news@alice.example",
        b"news@alice.example (a (nested) one)",
        b'"news"@alice.example',
        b"Gr\xc3\xbc\xc3\x9fe <news@alice.example>",
        b"Gr\xfc\xdfe <news@alice.example>",
    ],
)
def test_one_address_is_found_however_it_is_written(value: bytes) -> None:
    """Display names, comments, folding and encoded words are no addresses."""
    assert from_of(value) == "news@alice.example"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"<>",
        b"news",
        b"news@",
        b"@alice.example",
        b"news@alice.example, evil@x.example",
        b"news@alice.example,evil@x.example",
        b"evil@x.example <news@alice.example>",
        b"<evil@x.example> <news@alice.example>",
        b"<news@alice.example> <evil@x.example>",
        b"news@alice.example <evil@x.example>",
        b"<news@alice.example> evil@x.example",
        b"Group: news@alice.example;",
        b"Group: news@alice.example, evil@x.example;",
        b"undisclosed-recipients:;",
        b"news@alice.example; evil@x.example",
        b"<@x.example:news@alice.example>",
        b"<news@alice.example",
        b"news@alice.example>",
        b"<<news@alice.example>>",
        b"news@alice.example@x.example",
        b"news@alice.example (open",
        b'"open <news@alice.example>',
        b"news@alice.example\r\n <evil@x.example>",
        b"News, Alice <news@alice.example>",
        b"news@alice.example news@alice.example",
        b"\x01news@alice.example",
        b"news@alice.example\x7f",
        b"<ne\x0bws@alice.example>",
        "\u202enews@alice.example".encode(),
        "<news\u2028@alice.example>".encode(),
        b"=?utf-8?q?news=40alice=2Eexample?=",
        b"(" * 5000,
        b"a " * 5000 + b"<news@alice.example",
    ],
)
def test_anything_else_in_from_is_refused(value: bytes) -> None:
    """550 rather than a guess: a reader may guess otherwise."""
    assert from_of(value) is None


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Sender: news@alice.example\r\n",
        FROM + FROM,
        FROM + b"FROM: evil@x.example\r\n",
        b"from : evil@x.example\r\n" + FROM,
        FROM + b"X: y\r\n \r\nFrom\t: evil@x.example\r\n",
        b"Fr\xc3\xb6m: news@alice.example\r\n",
        b" From: news@alice.example\r\n",
        b"X: y\r\n From: news@alice.example\r\n",
    ],
)
def test_there_is_exactly_one_from(header: bytes) -> None:
    """RFC 5322 3.6.2: none, two in whatever spelling, or one that is another's continuation."""
    with pytest.raises(ContentRefused) as refused:
        read(header + b"\r\nbody\r\n")
    assert refused.value.reply == replies.ONE_FROM


def test_a_from_in_the_body_is_no_from() -> None:
    """The header section ends at its empty line, or is empty."""
    assert read(FROM + b"\r\nFrom: evil@x.example\r\n").header_from == "news@alice.example"
    with pytest.raises(ContentRefused):
        read(b"\r\n" + FROM)


PIECES = strategies.sampled_from(
    [
        b"a",
        b"@",
        b"<",
        b">",
        b'"',
        b"(",
        b")",
        b",",
        b";",
        b":",
        b"\\",
        b" ",
        b"\r\n ",
        b"=?utf-8?q?=ff?=",
        b"\xff",
        b".",
    ]
)


@given(strategies.one_of(strategies.binary(max_size=200), strategies.lists(PIECES, max_size=40).map(b"".join)))
@example(b"From: (a) =?utf-8?b?/w==?= <a@b.c>\r\n\r\n")
def test_no_content_raises_anything_but_a_refusal(content: bytes) -> None:
    """As a whole and as a From: what is found can be stored as text."""
    for whole in (content, b"From: " + content + b"\r\nSubject: " + content + b"\r\n\r\n"):
        try:
            headers = read(whole)
        except ContentRefused:
            continue
        for text in (headers.header_from, headers.subject, headers.message_id):
            assert "\0" not in text
            text.encode()


@given(strategies.lists(PIECES, min_size=1, max_size=30).map(b"".join))
def test_an_accepted_from_reads_the_same_to_a_parser(value: bytes) -> None:
    """Python's own parser, which is not ours on the fast path, finds the same one address in what we took."""
    found = from_of(value)
    if found is None or not value.isascii() or "=?" in found:
        return
    message = email.message_from_bytes(b"From: " + value + b"\r\n\r\n", policy=SMTP)
    header = message["From"]
    if not header.defects:
        assert [each.addr_spec for each in header.addresses] == [found]


@pytest.mark.parametrize(
    "value",
    [
        b"a" + b" " * 250_000 + b"@",
        b'"' * 100_000,
        b"a " * 100_000,
        b"(" * 200_000,
        b"a@b.c," * 40_000,
        b"<" * 200_000,
        b"=?utf-8?q?a?= " * 17_000,
    ],
    ids=["spaces", "quotes", "words", "brackets", "addresses", "angles", "encoded words"],
)
@pytest.mark.parametrize("name", [b"From: ", b"Subject: =?utf-8?q?a?= "])
def test_a_long_header_costs_no_time(name: bytes, value: bytes) -> None:
    """A quarter of a mebibyte of it is judged in far less than a second: the loop that serves everybody waits."""
    folded = b"\r\n ".join(value[start : start + 500] for start in range(0, len(value), 500))
    begun = time.process_time()
    with suppress(ContentRefused):
        read(FROM * (name != b"From: ") + name + folded + b"\r\n\r\n")
    assert time.process_time() - begun < 0.3


def test_a_header_too_large_is_refused() -> None:
    """More than 256 KiB is none."""
    with pytest.raises(ContentRefused, match="262144 octets"):
        read(FROM + b"X: y\r\n" * 50_000 + b"\r\n")


@pytest.mark.parametrize(("count", "taken"), [(49, True), (50, False)])
def test_loops_end(count: int, taken: bool) -> None:
    """Fifty Received headers are a loop."""
    content = b"Received: x\r\n" * count + FROM + b"\r\n"
    if taken:
        assert read(content).header_from
    else:
        with pytest.raises(ContentRefused) as refused:
            read(content)
        assert refused.value.reply == replies.MAIL_LOOP


@pytest.mark.parametrize(
    ("long_lines", "octets", "taken"),
    [("accept", 65536, True), ("accept", 65537, False), ("refuse", 998, True), ("refuse", 999, False)],
)
def test_long_lines(long_lines: str, octets: int, taken: bool) -> None:
    """A line's own octets, without its CRLF; the last one without an end too."""
    for body in (b"a" * octets + b"\r\n", b"x\r\n" + b"a" * octets):
        try:
            read(FROM + b"\r\n" + body, long_lines)
            found = True
        except ContentRefused:
            found = False
        assert found == taken


def test_what_is_read_of_the_header() -> None:
    """Decoded, printable, at most what its column takes; the first field of a name counts."""
    headers = read(
        FROM + b"SUBJECT: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?iso-8859-1?q?_=FC?=\r\nSubject: second\r\n"
        b"Message-Id:\r\n <1@x>\r\nDate: x\r\nbcc: y@z\r\n\r\n"
    )
    assert headers == Headers("news@alice.example", "<1@x>", "Grüße ü", True, True, True)
    bare = read(FROM + b"\r\nDate: x\r\n")
    assert bare == Headers("news@alice.example", "", "", False, False, False)
    assert len(read(FROM + b"Subject: " + "ü☃".encode() * 3000 + b"\r\n\r\n").subject) == 255


@pytest.mark.parametrize(
    "subject", [b"=?x-none?q?a?=", b"=?utf-8?b?!!!?=", b"=?utf-8?q?=00=1b?=", b"=?", b"\xff\xfe", b"=?=?=?"]
)
def test_a_broken_subject_is_shown_somehow(subject: bytes) -> None:
    """Never an error, never a control character."""
    assert read(FROM + b"Subject: " + subject + b"\r\n\r\n").subject.isprintable()


HEADERS = Headers("news@alice.example", "", "", True, True, False)
ID = UUID(int=7)


def completed(content: bytes) -> bytes:
    return complete(content, read(content), received=b"Received: x\r\n", id=ID, hostname="mail.example", now=NOW)


def test_only_what_is_missing_is_added() -> None:
    """Date and Message-ID; the rest stays to the octet, behind our trace."""
    whole = FROM + b"Date: d\r\nMessage-ID: <m>\r\n\r\n\x80\xff.\r\n..\r\n"
    assert completed(whole) == b"Received: x\r\n" + whole
    added = (
        b"Date: Tue, 01 Jan 2030 12:00:00 +0000\r\nMessage-ID: <00000000-0000-0000-0000-000000000007@mail.example>\r\n"
    )
    assert completed(FROM + b"\r\nbody") == b"Received: x\r\n" + added + FROM + b"\r\nbody"


def test_blind_copies_stay_blind() -> None:
    """RFC 5322 3.6.3 and 3.6.6: every Bcc and Resent-Bcc goes, folded ones whole; one in the body is text."""
    content = (
        b"BCC: a@x,\r\n b@x\r\n"
        + FROM
        + b"Bcc : c@x\r\nResent-Bcc:\r\n\td@x\r\nX-Bcc: kept\r\nDate: d\r\nMessage-ID: <m>\r\n"
        b"\r\nBcc: in the body\r\n"
    )
    expected = FROM + b"X-Bcc: kept\r\nDate: d\r\nMessage-ID: <m>\r\n\r\nBcc: in the body\r\n"
    assert completed(content) == b"Received: x\r\n" + expected


@given(
    strategies.lists(
        strategies.sampled_from([b"Bcc: a\r\n", b"X: y\r\n", b" z\r\n", b"bcc:b\r\n\tc\r\n", b"To: d\r\n"])
    ),
    strategies.binary(max_size=30),
)
def test_without_bcc_the_rest_is_whole(fields: list[bytes], body: bytes) -> None:
    """No Bcc is left for a reader's parser, and the body is not touched."""
    content = FROM + b"Y: z\r\n" + b"".join(fields) + b"\r\n" + body
    found = message_content.without_bcc(content)
    assert found.endswith(b"\r\n\r\n" + body)
    assert email.message_from_bytes(found)["Bcc"] is None
    assert email.message_from_bytes(found)["From"] == "news@alice.example"


@pytest.mark.parametrize("header", [FROM, b"\r\n", b"X: y", b""])
def test_the_header_ends_where_the_body_begins(header: bytes) -> None:
    """Also where there is no body, or nothing at all."""
    end = message_content.header_end(header + b"\r\nbody") if header == FROM else message_content.header_end(header)
    assert end == (0 if header == b"\r\n" else len(header))


@pytest.mark.parametrize(
    ("ip", "utf8", "words"),
    [
        (
            "192.0.2.1",
            False,
            b"from client.example ([192.0.2.1])\r\n\tby mail.example (Gatepost) with ESMTPSA id REF\r\n",
        ),
        (
            "2001:db8::1",
            True,
            b"from client.example ([IPv6:2001:db8::1])\r\n\tby mail.example (Gatepost) with UTF8SMTPSA id REF",
        ),
    ],
)
def test_the_trace_says_from_where(ip: str, utf8: bool, words: bytes) -> None:
    """RFC 5321 4.4, RFC 3848, RFC 6531 4.3; one folded header, without the username."""
    found = received_header(
        client_name="client.example",
        client_ip=ip,
        hostname="mail.example",
        reference="REF",
        tls="TLSv1.3 X",
        utf8=utf8,
        now=NOW,
    )
    assert found.startswith(b"Received: " + words)
    assert found.endswith(b"\t(TLSv1.3 X);\r\n\tTue, 01 Jan 2030 12:00:00 +0000\r\n")
    assert not has_bare_line_ends(found)
    assert max(map(len, found.split(b"\r\n"))) < 998
