"""Sessions that no good client would have, each from a seed and a number alone, so that any can be had again.

Shapes  conversation(seed, number, token) -> Conversation: which door, what is said in clear, what then, how it ends.
        allowed(line): whether a reply is one of relay/smtp/replies.py, and nothing of ours leaks in it.
Units   octets.
"""

import base64
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from relay.smtp import replies

SENDER = "news@alice.example"
MESSAGE = f"From: <{SENDER}>\r\nSubject: fuzz\r\n\r\nHello\r\n".encode()
SMUGGLED = b"\r\nMAIL FROM:<smuggled@alice.example>\r\nRCPT TO:<v@dest.example>\r\nDATA\r\n" + MESSAGE
SEQUENCES = (
    b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n",
    b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n",
)  # fmt: skip
CLEAR, STARTTLS, TLS = "clear", "starttls", "tls"


@dataclass(frozen=True)
class Conversation:
    number: int
    kind: str
    door: str
    first: bytes  # in clear, to the STARTTLS door
    segments: tuple[bytes, ...]
    ending: str  # read: until the server closes or is silent; close; abort

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.door} {self.ending} {self.first!r} {self.segments!r:.2000}"


def conversation(seed: int, number: int, token: bytes) -> Conversation:
    """token: a good initial response of AUTH PLAIN."""
    lot = random.Random(f"{seed}:{number}")
    kind = lot.choice(KINDS)
    door = lot.choice((TLS, STARTTLS, CLEAR) if kind in EVERYWHERE else (TLS, TLS, STARTTLS))
    segments, ending = WAYS[kind](lot, number, token)
    first = b""
    if door == CLEAR:
        segments = [segment.replace(b"AUTH PLAIN " + token + b"\r\n", b"") for segment in segments]
    elif door == STARTTLS and lot.random() < 0.2:
        first = lot.choice(
            (b"NOOP\r\nNOOP\r\n", b"\0\r\n", b"EHLO a\r\nMAIL FROM:<a@b.example>\r\n", b"STARTTLS x\r\n")
        )
    return Conversation(number, kind, door, first, tuple(segments), ending)


# --- Ways to be wrong -------------------------------------------------------------------------------------------------

Words = tuple[list[bytes], str]


def signed_in(token: bytes) -> bytes:
    return b"EHLO fuzz.example\r\nAUTH PLAIN " + token + b"\r\n"


def envelope() -> bytes:
    return f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<a@dest.example>\r\n".encode()


def whole(token: bytes) -> bytes:
    """Everything once: DATA, BDAT, and a goodbye."""
    half, rest = MESSAGE[:20], MESSAGE[20:]
    chunks = b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (len(half), half, len(rest), rest)
    return signed_in(token) + envelope() + b"DATA\r\n" + MESSAGE + b".\r\n" + envelope() + chunks + b"QUIT\r\n"


def cut(lot: random.Random, number: int, token: bytes) -> Words:
    """At every octet in turn; what is left comes in another segment, or never."""
    words = whole(token)
    at = number % len(words)
    if lot.random() < 0.5:
        return [words[:at], words[at:]], "read"
    return [words[:at]], lot.choice(("close", "abort"))


def encodings(lot: random.Random, _number: int, token: bytes) -> Words:
    odd = lot.choice(
        (
            "ä@ö.example".encode("latin-1"), "a@b.example".encode("utf-16"), b"\xc0\xae@b.example", b"a\0b@c.example",
            "\u2028\u202e@b.example".encode(), b"\xed\xa0\x80@b.example", b"\x1b[31m@b.example", b"a" * 300,
            b"%s%n{}@{0}",
            "𝕒@𝕓.example".encode(), b"=?utf-8?q?x?=@b.example", b'"a\\"b"@c.example', b"<<a@b>>", b"\x7f\x80\xff",
        )
    )  # fmt: skip
    lines = [b"EHLO " + odd, b"EHLO fuzz.example", b"AUTH PLAIN " + lot.choice((token, base64.b64encode(odd)))]
    tail = lot.choice((b"", b" SMTPUTF8", b" SIZE=" + odd, b" BODY=" + odd, b" ENVID=" + odd, b" AUTH=" + odd))
    lines += [b"MAIL FROM:<" + odd + b">" + tail, b"MAIL FROM:<" + SENDER.encode() + b"> SMTPUTF8"]
    lines += [b"RCPT TO:<" + odd + b">" + lot.choice((b"", b" NOTIFY=" + odd, b" ORCPT=rfc822;" + odd))]
    lines += [b"RCPT TO:<a@dest.example>", b"VRFY " + odd, odd, b"DATA"]
    header = lot.choice((b"From: ", b"Subject: ", b"Bcc: ", b"Date: ", b"Message-ID: ", b"Received: "))
    content = header + odd + b"\r\nFrom: =?" + odd + b"?b?/w==?= <" + SENDER.encode() + b">\r\n" + MESSAGE
    return [b"\r\n".join(lines) + b"\r\n", content + b".\r\nQUIT\r\n"], "read"


def smuggling(lot: random.Random, _number: int, token: bytes) -> Words:
    body = MESSAGE + lot.choice(SEQUENCES) + SMUGGLED
    if lot.random() < 0.5:
        return [signed_in(token) + envelope() + b"DATA\r\n", body + b"\r\n.\r\nQUIT\r\n"], "read"
    return [signed_in(token) + envelope() + b"BDAT %d LAST\r\n" % len(body) + body + b"QUIT\r\n"], "read"


def noise(lot: random.Random, _number: int, token: bytes) -> Words:
    start = lot.choice((b"", b"EHLO fuzz.example\r\n", signed_in(token), signed_in(token) + envelope() + b"DATA\r\n"))
    size = lot.choice((1, 10, 1000, 20_000, 200_000) if lot.random() < 0.2 else (1, 10, 1000))
    return [start, lot.randbytes(size), b"\r\n.\r\nQUIT\r\n"], lot.choice(("read", "abort"))


TOKENS = (
    b"EHLO a.example", b"HELO a", b"EHLO [127.0.0.1]", b"EHLO", b"NOOP", b"NOOP x", b"RSET", b"RSET x", b"VRFY a",
    b"EXPN a", b"HELP", b"STARTTLS", b"AUTH", b"AUTH PLAIN =", b"AUTH LOGIN", b"AUTH CRAM-MD5", b"*", b"=", b"DATA",
    b"BDAT", b"BDAT 0", b"BDAT 0 LAST", b"BDAT 5\r\nabc\r\n", b"MAIL FROM:<>", b"MAIL FROM:<a@b.example>", b"", b" ",
    b"MAIL FROM:<news@alice.example> SIZE=10", b"MAIL FROM:<news@alice.example> SIZE=99999999999",
    b"RCPT TO:<a@b.example>",
    b"RCPT TO:<a@b.example> NOTIFY=NEVER", b"RCPT TO:<>", b"ETRN a", b"TURN", b".", b"data",
    b"MaIl FrOm:<news@alice.example>",
    b"MAIL FROM:<news@alice.example> BODY=8BITMIME RET=HDRS ENVID=x SMTPUTF8", b"MAIL", b"RCPT", b"MAIL FROM", b"\t",
    b"GET / HTTP/1.1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2", b"XCLIENT ADDR=192.0.2.1",
)  # fmt: skip


def pipelining(lot: random.Random, _number: int, token: bytes) -> Words:
    """Any commands in any order, in one segment; sometimes ended as they must not be."""
    end = lot.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"))
    start = signed_in(token) if lot.random() < 0.7 else b""
    lines = [lot.choice(TOKENS) for _ in range(lot.randrange(1, 25))]
    return [start + end.join(lines) + end, b"\r\n.\r\nQUIT\r\n"], "read"


def bdat(lot: random.Random, _number: int, token: bytes) -> Words:
    said = lot.choice(
        (
            b"0",
            b"-1",
            b"+5",
            b"007",
            b"5.0",
            b"0x10",
            "５".encode(),
            b"99999999999",
            b"999999999999999999",
            b"",
            b"5 5",
            b"LAST",
        )
    )
    real = str(lot.randrange(0, 200)).encode()
    size = said if lot.random() < 0.5 else real
    last = lot.choice((b"", b" LAST", b" last", b" LAST x", b"  LAST", b" LASTLAST"))
    octets = MESSAGE[: lot.randrange(0, 200)] + lot.randbytes(lot.randrange(0, 50))
    start = signed_in(token) + (envelope() if lot.random() < 0.8 else b"")
    return [start + b"BDAT " + size + last + b"\r\n" + octets, b"\r\nNOOP\r\nQUIT\r\n"], "read"


SASL_MESSAGES = (
    b"n,,n=app.alice-works,r=nonce", b"y,a=app.alice-works,n=app.alice-works,r=nonce", b"p=tls-exporter,,n=a,r=b",
    b"n,,n=a=2Cb,r=x", b"n,,m=x,n=a,r=b", b"c=biws,r=nonce,p=" + base64.b64encode(b"p" * 32), b"c=biws,r=,p=",
    b"n,,\1auth=Bearer gpo_nonsense\1\1", b"n,a=app.alice-works,\1auth=Bearer a.b.c\1\1", b"n,,\1\1",
    b"user=app.alice-works\1auth=Bearer eyJhbGciOiJub25lIn0.e30.\1\1", b"user=\xff\1\1", b"\1" * 500,
    b"app.alice-works " + b"a" * 32, b" " + b"a" * 32,
)  # fmt: skip


def sasl(lot: random.Random, _number: int, token: bytes) -> Words:
    response = lot.choice(
        (
            b"=", b"", b"*", b"!!!!", token[:-1], token + b"=", token[::-1], base64.b64encode(b"\0\0\0\0"),
            base64.b64encode(b"a\0b\0c"), base64.b64encode(b"\xff\0\xff\0\xff"),
            base64.b64encode(b"\0a\0" + b"b" * 9000),
            b"A" * 12_288, b"A" * 13_000, b"\0", "ä".encode(), b" ", token + b" " + token,
            *(base64.b64encode(message) for message in SASL_MESSAGES),
        )
    )  # fmt: skip
    mechanism = lot.choice((b"PLAIN", b"LOGIN", b"SCRAM-SHA-256", b"OAUTHBEARER", b"XOAUTH2", b"CRAM-MD5"))
    second = lot.choice((response, b"*", b"AQ==", *(base64.b64encode(message) for message in SASL_MESSAGES)))
    way = b"AUTH " + mechanism + lot.choice((b" ", b"\r\n")) + response + b"\r\n" + second
    return [b"EHLO fuzz.example\r\n" + way + b"\r\n" + way + b"\r\nQUIT\r\n"], "read"


def deaf(lot: random.Random, _number: int, token: bytes) -> Words:
    """Asks without end and reads nothing."""
    return [signed_in(token), b"NOOP\r\n" * 30_000], lot.choice(("abort", "close"))


def large(lot: random.Random, _number: int, token: bytes) -> Words:
    """A megabyte, as lines, as one line, as a header, or as recipients."""
    line = lot.choice((b"x" * 76 + b"\r\n", b"x" * 1000, b"X-Y: z\r\n", b"From: <a@b.example>,\r\n "))
    body = lot.choice((MESSAGE, b"")) + line * (1_000_000 // len(line))
    return [signed_in(token) + envelope() * 50 + b"DATA\r\n", body, b"\r\n.\r\nQUIT\r\n"], lot.choice(("read", "abort"))


def handshake(lot: random.Random, _number: int, _token: bytes) -> Words:
    """To the door in clear, where a handshake is awaited: noise, a cut hello, a command."""
    hello = bytes.fromhex("160301020001000001fc0303") + lot.randbytes(lot.randrange(0, 500))
    said = lot.choice((hello, lot.randbytes(50), b"NOOP\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b""))
    return [b"EHLO fuzz.example\r\nSTARTTLS\r\n" + lot.choice((b"", b"NOOP\r\n")), said], lot.choice(
        ("read", "close", "abort")
    )


WAYS: dict[str, Callable[[random.Random, int, bytes], Words]] = {
    way.__name__: way
    for way in (cut, encodings, smuggling, noise, pipelining, bdat, sasl, deaf, large, handshake)
}  # fmt: skip
RARE = {"deaf", "large"}
KINDS = [kind for kind in WAYS for _ in range(1 if kind in RARE else 8)]
EVERYWHERE = {"cut", "noise", "pipelining", "encodings", "sasl"}

# --- What may be answered ---------------------------------------------------------------------------------------------

REFERENCE = r"(?: \[ref [0-9A-HJKMNP-TV-Z]{10}\])?"
LEAKS = re.compile(
    r"Traceback|Exception|Error\b|psycopg|asyncio|sqlstate|<class|<object| at 0x|\.py\b|NoneType|\{\w*\}"
)


def _pattern(reply: replies.Reply) -> str:
    text = re.sub(r"\\\{\w+\\\}", "[ -~]{0,400}", re.escape(reply.text))
    return f"{reply.code} {re.escape(reply.enhanced)} {text}{REFERENCE}"


def _grammar() -> re.Pattern[str]:
    known = [_pattern(reply) for reply in vars(replies).values() if isinstance(reply, replies.Reply) and reply.enhanced]
    hello = [r"220 \S+ ESMTP Gatepost", r"250[ -][\w.]+", r"250[ -](?:SIZE \d+|AUTH PLAIN LOGIN( [A-Z0-9-]+)+)"]
    others = [r"354 [ -~]+", r"334 [A-Za-z0-9+/]*={0,2}"]
    return re.compile("|".join([*known, *hello, *others]))


_ALLOWED = _grammar()


def allowed(line: bytes) -> bool:
    text = line.decode("ascii", "replace")
    return _ALLOWED.fullmatch(text) is not None and LEAKS.search(text) is None
