"""relay.dkim: signatures that others verify: dkimpy, and Perl's Mail::DKIM from Debian where it can be had."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings, strategies

from benchmarks import dkim as dkim_benchmark
from benchmarks.debian import Unavailable, tree
from relay.dkim import CHUNK, INSTANCES_MAX, Key, asign, body_hash, sign
from tests.dns_server import DnsServer

RSA = Key("alice.example", "gp-r", generate_private_key(65537, 2048))
ED25519 = Key("alice.example", "gp-e", Ed25519PrivateKey.generate())
BOTH = (RSA, ED25519)
HEAD = (
    b"Received: from a.example by mail.gatepost.example; Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    b"From: Alice <a@alice.example>\r\nTo: you@example.net\r\nSubject: Hello\r\n"
    b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@alice.example>\r\n"
)
PLAIN = HEAD + b"\r\nHello.\r\n"

MESSAGES = {
    "plain": PLAIN,
    "empty body": HEAD + b"\r\n",
    "header alone": HEAD,
    "no line end at the end": HEAD + b"\r\nHello.\r\nBye",
    "white space at the end": HEAD + b"\r\nHello. \t \r\n\t\r\n  \r\n\r\n\r\n",
    "nothing but white space": HEAD + b"\r\n \t\r\n\r\n \r\n",
    "eight bits": HEAD + "\r\nGrüße, 日本\r\n".encode() + b"\xff\xfe\r\n",
    "runs within": HEAD + b"\r\na\t\tb  c \t d\r\n \tx\r\n",
    "long": HEAD + b"\r\n" + b"word  word\t.\r\n" * (3 * CHUNK // 13),
    "one long line": HEAD + b"\r\n" + b"word  word\t." * 6000 + b"\r\n",
    "folded": b"From:\r\n\tAlice\r\n\t <a@alice.example>\r\nSubject: one\r\n  two\r\n\t three \t\r\n"
    b"To:\r\n you@example.net\r\n\r\nx\r\n",
    "odd case and spaces": b"FROM:a@alice.example\r\nsUBJECT:    x   \r\nto:you@example.net\r\n\r\nx\r\n",
    "eight bits in the header": b"From: a@alice.example\r\nSubject: " + "Grüße".encode() + b"\xff\r\n\r\nx\r\n",
    "empty values": b"From: a@alice.example\r\nSubject:\r\nTo: \r\nReply-To:\t\r\n\r\nx\r\n",
    "many of one": b"".join(b"Subject: %d\r\n" % n for n in range(INSTANCES_MAX + 30)) + HEAD + b"\r\nx\r\n",
    "a signature already": b"DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from; bh=eA==; b=eA==\r\n"
    + PLAIN,
    "a long list": HEAD + b"References: " + b"\r\n ".join(b"<%d@a.example>" % n for n in range(300)) + b"\r\n\r\nx\r\n",
}  # fmt: skip


@cache
def records() -> dict[bytes, bytes]:
    rsa = RSA.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ed25519 = ED25519.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {
        b"gp-r._domainkey.alice.example.": b"v=DKIM1; k=rsa; p=" + base64.b64encode(rsa),
        b"gp-e._domainkey.alice.example.": b"v=DKIM1; k=ed25519; p=" + base64.b64encode(ed25519),
    }


def verifies(content: bytes, which: int) -> bool:
    whole = content if content.endswith(b"\r\n") else content + b"\r\n"  # as it arrives
    if b"\r\n\r\n" not in whole:
        whole += b"\r\n"
    try:
        return bool(dkim.DKIM(whole).verify(idx=which, dnsfunc=lambda name, timeout=5: records().get(name)))
    except dkim.DKIMException:
        return False


@pytest.mark.parametrize("name", MESSAGES)
def test_dkimpy_verifies(name: str) -> None:
    """Both signatures of every kind of mail, and neither once a word or the sender was changed."""
    signed = sign(MESSAGES[name], BOTH)
    assert [verifies(signed, which) for which in (0, 1)] == [True, True]
    assert signed.endswith(MESSAGES[name])
    assert not verifies(signed.replace(b"a@alice.example", b"b@alice.example"), 0)
    assert not verifies(signed + b"more\r\n", 1)


PERL = """
use Mail::DKIM::Verifier; use Net::DNS::Resolver; use Mail::DKIM::DNS;
my ($port, @files) = @ARGV;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => $port, recurse => 1));
for my $file (@files) {
    open(my $in, '<:raw', $file); local $/; my $mail = <$in>; close $in;
    my $verifier = Mail::DKIM::Verifier->new(); $verifier->PRINT($mail); $verifier->CLOSE;
    my ($own) = grep { $_->domain eq 'alice.example' } $verifier->signatures;
    print $own->result_detail, "\\n";
}
"""
PACKAGES = (
    "libmail-dkim-perl", "libcrypt-openssl-rsa-perl", "libcrypt-openssl-bignum-perl", "libcrypt-openssl-random-perl",
    "libmail-authenticationresults-perl", "libmailtools-perl", "liberror-perl", "libjson-perl", "libnet-dns-perl",
    "libtimedate-perl", "libgetopt-long-descriptive-perl",
)  # fmt: skip


def test_mail_dkim_verifies(tmp_path: Path) -> None:
    """Perl's Mail::DKIM, which is older and another's, finds the RSA signature of each of them good, and its keys."""
    if not shutil.which("perl"):
        pytest.skip("Mail::DKIM: there is no perl")
    try:
        root = tree("mail-dkim", PACKAGES)
    except Unavailable as why:
        pytest.skip(f"Mail::DKIM: {why}")
    folders = [root / "usr/share/perl5", *root.glob("usr/lib/*/perl5/*")]
    files = []
    for at, content in enumerate(MESSAGES.values()):
        whole = sign(content, [RSA])
        whole += b"" if whole.endswith(b"\r\n") else b"\r\n"
        files.append(tmp_path / f"{at}.eml")
        files[-1].write_bytes(whole if b"\r\n\r\n" in whole else whole + b"\r\n")
    with DnsServer() as dns_server:
        for name, text in records().items():
            dns_server.put_text(name.decode(), text.decode())
        command = [
            "perl",
            *(f"-I{folder}" for folder in folders),
            "-e",
            PERL,
            str(dns_server.address[1]),
            *map(str, files),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["pass"] * len(MESSAGES), done.stderr[:500]


def test_what_is_signed() -> None:
    """From and what readers go by once more than they stand there; lists as they are; trace, Bcc and Keywords not."""
    content = b"List-Id: <l.example>\r\nBcc: x@y.example\r\nReturn-Path: <>\r\nKeywords: k\r\n" + PLAIN
    signed = sign(content, [RSA], now=1_700_000_000)
    names = re.sub(rb"\s", b"", re.findall(rb"h=([^;]+);", signed)[0]).decode().split(":")
    assert names.count("from") == names.count("to") == names.count("subject") == names.count("date") == 2
    assert names.count("reply-to") == names.count("cc") == 1
    assert names.count("list-id") == 1
    assert not {"bcc", "return-path", "keywords", "received", "dkim-signature", "sender", "mime-version"} & set(names)
    assert b"; d=alice.example;\r\n\ts=gp-r; t=1700000000;" in signed
    assert b"c=relaxed/relaxed" in signed
    for name in (b"From", b"Reply-To", b"Subject", b"Cc", b"Date"):
        assert not verifies(signed.replace(b"\r\n\r\nHello", b"\r\n" + name + b": evil@evil.example\r\n\r\nHello"), 0)
    assert verifies(b"List-Archive: <https://l.example>\r\nX-Spam: no\r\nReceived: there\r\n" + signed, 0)
    assert sign(PLAIN, []) == PLAIN


def test_lines_are_short() -> None:
    """No line of a signature is longer than 78 octets (RFC 5322 2.1.1), whatever is signed, with the longest names."""
    key = Key(".".join(["a" * 60] * 4), "gp-r", RSA.private)
    head = sign(MESSAGES["many of one"], [key]).partition(b"Subject: 0")[0]
    assert max(map(len, head.replace(key.domain.encode(), b"d").split(b"\r\n"))) <= 78


@settings(max_examples=150, deadline=None)
@given(
    strategies.text(alphabet=" \t\r\n:ab", max_size=60),
    strategies.lists(strategies.sampled_from([" ", "\t", "\r\n", "\n", "\r", "x"])).map("".join),
)
def test_any_body_is_hashed_as_dkimpy_does(before: str, body: str) -> None:
    """Whatever stands in a body, its canonical form is the other implementation's; no header makes signing fail."""
    text = body.encode()
    whole = text if text.endswith(b"\r\n") else text + b"\r\n"
    relaxed = dkim.canonicalization.Relaxed.canonicalize_body(whole)
    assert body_hash(text) == dkim.hashlib.sha256(relaxed).digest()
    sign(before.encode() + b"\r\n\r\n" + text, [ED25519])


async def test_a_large_mail_does_not_hold_up_the_loop() -> None:
    """While 12 MB are signed, the event loop gets its turn again and again, and the signature is the same."""
    content = HEAD + b"\r\n" + b"a  line \t with spaces \r\n" * (12_000_000 // 24)
    turns = 0
    signing = asyncio.create_task(asign(content, [RSA], now=1))
    while not signing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert await signing == sign(content, [RSA], now=1)


def test_the_benchmark_measures_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each way, with as many signatures as it counted."""
    dkim_benchmark.main(["--seconds", "0.01"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["way"] for line in lines] == ["rsa", "ed25519", "both"]
    assert all(line["octets"] == 4096 and line["messages"] >= 50 for line in lines)
