"""relay.mail_html: pictures of the mail itself stand in its HTML; nothing else of it is changed."""

import time
from base64 import b64encode

import pytest

from relay import mail_html
from relay.mail_html import page_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))


def mail(html: bytes, *, kind: str = "image/png", name: bytes = b"logo@x.example", picture: bytes = PNG) -> bytes:
    return (
        b"From: a@x.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html + b"\r\n"
        b"--b\r\nContent-Type: " + kind.encode() + b"\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <" + name +
        b">\r\n\r\n" + b64encode(picture) + b"\r\n--b--\r\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    "html",
    [
        b'<img src="cid:logo@x.example">',
        b"<img src='CID:logo@x.example'>",
        b"<img src=cid:logo@x.example>",
        b'<img src="cid:logo%40x.example">',
        b'<p style="background: url(cid:logo@x.example)">',
    ],
)
def test_picture_of_the_mail_is_in_its_page(html: bytes) -> None:
    """However its address is written."""
    page = page_of(mail(html))
    assert f"data:image/png;base64,{b64encode(PNG).decode()}" in page
    assert "cid:" not in page.lower()


def test_what_is_no_picture_stays_an_address() -> None:
    """HTML, SVG and unknown ids are not put in; words that look like an address are words."""
    for kind in ("text/html", "image/svg+xml", "application/octet-stream"):
        assert "data:" not in page_of(mail(b'<img src="cid:logo@x.example">', kind=kind))
    assert 'src="cid:other@x.example"' in page_of(mail(b'<img src="cid:other@x.example">'))
    assert "<p>acid:logo@x.example" in page_of(mail(b"<p>acid:logo@x.example</p>"))


def test_pictures_have_room_for_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same picture named ten thousand times does not make a page of gigabytes."""
    monkeypatch.setattr(mail_html, "PICTURES_OCTETS", 100_000)
    page = page_of(mail(b'<img src="cid:logo@x.example">' * 10_000))
    assert 50_000 < page.count("data:") * len(b64encode(PNG)) < 130_000


def test_ten_megabytes_and_broken_mail_take_a_moment() -> None:
    """Ten megabytes of HTML, of `cid:`, of nested multiparts, and charsets that are none: a page comes, soon."""
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(300))
    wide = b"Content-Type: text/html; charset=utf-7-\xff\r\n\r\n<p>\xff\xfe</p>"
    began = time.monotonic()
    for content in (
        mail(b"<p>x</p>" * 1_300_000),
        mail(b'"cid:' * 2_000_000),
        b"MIME-Version: 1.0\r\n" + nested + b"Content-Type: text/html\r\n\r\n<p>deep</p>",
        wide,
        mail(b"<img src=cid:a>", name=b"\xff\x00\r\n b"),
    ):
        page_of(content).encode("utf-8", "replace")
    assert time.monotonic() - began < 10
