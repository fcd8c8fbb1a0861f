"""A captured mail whose HTML tries everything, in the closed frame of its page.

Shapes  A server of the test's own stands for the whole Internet: whatever asks it anything got out of the frame.
        The mail carries a picture of its own, which must be seen; all else in it must do nothing.
"""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Frame, Page

from tests.browser.conftest import sign_in
from tests.browser.watch import WIDE, Watched
from tests.plugins.running import Running

pytestmark = pytest.mark.browser

PASSWORD = "gravel-Lantern-47-otter"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)
HOSTILE = """<!doctype html><html><head><base href="{evil}/base/">
<meta http-equiv="refresh" content="0;url={evil}/refresh">
<meta http-equiv="Content-Security-Policy" content="default-src *">
<link rel="stylesheet" href="{evil}/sheet.css"><link rel="prefetch" href="{evil}/prefetch">
<link rel="icon" href="{evil}/icon">
<style>@import url({evil}/import.css); body {{ background: url({evil}/background.png) }}
@font-face {{ font-family: x; src: url({evil}/font.woff) }} p {{ font-family: x; color: rgb(1, 2, 3) }}</style>
<script>top.planted = 1; parent.planted = 1; location = "{evil}/script"; fetch("{evil}/fetch")</script>
<script src="{evil}/script.js"></script></head>
<body onload="top.planted = 1"><p id="words">Invoice</p>
<img id="own" src="cid:pixel@x.example"><img src="{evil}/image.png" onerror="top.planted = 1">
<img srcset="{evil}/set.png 2x">
<svg onload="top.planted = 1"><image href="{evil}/svg.png"/><use href="{evil}/use.svg#x"/>
<script>top.planted = 1</script></svg>
<iframe src="{evil}/frame"></iframe><iframe srcdoc="<script>top.planted = 1</script>"></iframe>
<object data="{evil}/object"></object><embed src="{evil}/embed">
<video src="{evil}/video" poster="{evil}/poster" autoplay></video>
<audio src="{evil}/audio" autoplay></audio>
<form action="{evil}/form" method="post"><input name="a" value="b"><button id="send">Send</button></form>
<a id="away" href="{evil}/top" target="_top">away</a> <a id="blank" href="{evil}/blank" target="_blank">new</a>
<a id="script" href="javascript:top.planted=1">script</a> <a id="self" href="/plan/">panel</a>
<details open ontoggle="top.planted = 1">x</details></body></html>"""
PLANT = """
import json, base64
from accounts.models import Organization
from tests.relay.conftest import make_message
email, content = json.loads({given!r})
organization = Organization.objects.get(memberships__user__email=email)
message = make_message(organization, content=base64.b64decode(content), state="delivered", subject="Invoice")
print(json.dumps(str(message.pk)))
"""


class _Outside(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    do_POST = do_HEAD = do_GET  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_args: Any) -> None:
        """Nothing: what it was asked is in asked."""


@pytest.fixture
def outside() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Outside)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _mail(evil: str) -> bytes:
    html = HOSTILE.format(evil=evil).encode()
    return (
        b"From: a@x.example\r\nSubject: Invoice\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + b64encode(html) + b"\r\n--b\r\nContent-Type: image/png\r\n"
        b"Content-Transfer-Encoding: base64\r\nContent-ID: <pixel@x.example>\r\n\r\n"
        + b64encode(PIXEL)
        + b"\r\n--b--\r\n"
    )


def _frame(page: Page) -> Frame:
    page.locator("iframe.gp-frame").scroll_into_view_if_needed()
    page.frame_locator("iframe.gp-frame").locator("#words").wait_for()
    return next(frame for frame in page.frames if frame.url.endswith("/html/"))


def test_hostile_mail_does_nothing_and_shows_its_picture(
    running: Running, browser: Browser, customer: dict[str, str], outside: ThreadingHTTPServer
) -> None:
    """It is styled and its own picture is there; no script ran, nobody outside was asked, and no click leads away."""
    evil = f"http://127.0.0.1:{outside.server_address[1]}"
    given = json.dumps([customer["email"], b64encode(_mail(evil)).decode()])
    message_id = running.python(PLANT.format(given=given))
    context = browser.new_context(base_url=running.web_url, viewport=WIDE)
    watched = Watched(context)
    try:
        sign_in(watched, customer["email"], customer["password"])
        page = watched.page
        page.wait_for_url("**/")
        watched.open(f"/messages/{message_id}/")
        frame, own = _frame(page), page.url
        picture = page.frame_locator("iframe.gp-frame").locator("#own")
        assert frame.url.endswith(f"/messages/{message_id}/html/")
        assert picture.bounding_box() is not None
        assert (picture.get_attribute("src") or "").startswith("data:image/png;base64,")
        for name in ("send", "away", "blank", "script", "self"):
            page.frame_locator("iframe.gp-frame").locator(f"#{name}").click()
        page.wait_for_timeout(400)  # for what must not come, there is nothing to wait for
        assert page.url == own
        assert len(context.pages) == 1
        assert page.evaluate("() => window.planted") is None
        assert page.locator("iframe.gp-frame").count() == 1
        assert outside.asked == []  # type: ignore[attr-defined]
    finally:
        context.close()
