"""config.static_files: files over ASGI, as asynchronous streams."""

from pathlib import Path

import pytest
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client

from config import static_files

pytestmark = pytest.mark.filterwarnings("error:StreamingHttpResponse must consume")

URL = "/static/panel.css"
FILE = Path(settings.BASE_DIR) / "static" / "panel.css"


async def test_file_is_streamed_asynchronously(monkeypatch: pytest.MonkeyPatch) -> None:
    """Octet for octet, block by block, with WhiteNoise's headers; Django has nothing to warn of."""
    monkeypatch.setattr(static_files, "BLOCK_OCTETS", 1000)
    response = await AsyncClient().get(URL)
    assert isinstance(response, StreamingHttpResponse)
    assert response.is_async
    blocks = [block async for block in response]
    assert b"".join(blocks) == FILE.read_bytes()
    assert len(blocks) == -(-FILE.stat().st_size // 1000)
    assert response["Content-Type"].startswith("text/css")
    assert response["Content-Length"] == str(FILE.stat().st_size)


async def test_range_is_a_part_of_it() -> None:
    """206, and exactly the octets asked for."""
    response = await AsyncClient().get(URL, headers={"Range": "bytes=10-19"})
    assert response.status_code == 206
    assert b"".join([block async for block in response]) == FILE.read_bytes()[10:20]


async def test_without_a_body_nothing_is_streamed() -> None:
    """HEAD has the headers alone, what the browser has already is 304."""
    head = await AsyncClient().head(URL)
    assert isinstance(head, HttpResponse)
    assert (head.content, head["Content-Length"]) == (b"", str(FILE.stat().st_size))
    known = await AsyncClient().get(URL, headers={"If-Modified-Since": head["Last-Modified"]})
    assert (known.status_code, known.content) == (304, b"")


async def test_file_is_closed_after_a_broken_transfer() -> None:
    """A client that goes away leaves no open file behind."""
    response = await AsyncClient().get(URL)
    opened = _open_files()
    await anext(aiter(response))
    response.close()
    assert str(FILE) in opened
    assert str(FILE) not in _open_files()


def test_synchronous_servers_are_answered_as_before() -> None:
    """The tests' client, and any WSGI server, get WhiteNoise's own answer."""
    assert b"".join(Client().get(URL)) == FILE.read_bytes()


def _open_files() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue  # the listing's own, closed by now
    return found
