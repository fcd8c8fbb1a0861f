"""config.bounds and accounts.hashers: what strangers may make one web process spend."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from accounts import hashers
from config import bounds
from config.bounds import BodyBound, at_once


def post(*parts: bytes) -> tuple[list[Mapping[str, Any]], int]:
    """What the client hears, and how many octets the application got."""
    sent: list[Mapping[str, Any]] = []
    taken = 0

    async def application(_scope: Any, receive: Any, send: Any) -> None:
        nonlocal taken
        while True:
            message = await receive()
            taken += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})

    waiting = [{"type": "http.request", "body": part, "more_body": n < len(parts)} for n, part in enumerate(parts, 1)]

    async def receive() -> Mapping[str, Any]:
        return waiting.pop(0)

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(BodyBound(application)({"type": "http"}, receive, send))
    return sent, taken


def test_a_body_within_the_bound_arrives() -> None:
    """All of it."""
    sent, taken = post(b"x" * 1000, b"y" * 1000)
    assert (sent[0]["status"], taken) == (200, 2000)


def test_a_longer_body_is_refused_while_it_comes() -> None:
    """413 as soon as the bound is passed: what is longer never lies on the disk."""
    sent, taken = post(*[b"x" * 512 * 1024] * 100)
    assert sent[0]["status"] == 413
    assert taken <= bounds.BODY_OCTETS


class View:
    """Counts how many requests are in it at once, and keeps each until it is let go."""

    def __init__(self) -> None:
        self.inside = self.most = self.done = 0
        self.go = asyncio.Event()

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.go.wait()
        self.inside -= 1
        self.done += 1
        return HttpResponse()


def test_only_so_many_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait; health is answered all the same; who waits too long is told to come again."""

    async def run() -> None:
        monkeypatch.setattr(bounds, "AT_ONCE", 2)
        monkeypatch.setattr(bounds, "WAIT_SECONDS", 0.05)
        view = View()
        bounded = at_once(_as_function(view))
        first = [asyncio.create_task(bounded(RequestFactory().get("/"))) for _number in range(2)]
        await _until(lambda: view.inside == 2)
        late = await bounded(RequestFactory().get("/"))
        assert (late.status_code, late.headers["Retry-After"]) == (503, "5")
        health = asyncio.create_task(bounded(RequestFactory().get("/healthz/live")))
        await _until(lambda: view.inside == 3)
        view.go.set()
        assert [each.status_code for each in await asyncio.gather(*first, health)] == [200, 200, 200]

    asyncio.run(run())


def test_a_client_that_left_still_holds_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread works on; were the place free, leaving and coming again would pass the bound."""

    async def run() -> None:
        monkeypatch.setattr(bounds, "AT_ONCE", 1)
        monkeypatch.setattr(bounds, "WAIT_SECONDS", 0.05)
        view = View()
        bounded = at_once(_as_function(view))
        gone = asyncio.create_task(bounded(RequestFactory().get("/")))
        await _until(lambda: view.inside == 1)
        gone.cancel()
        assert (await bounded(RequestFactory().get("/"))).status_code == 503
        view.go.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert view.done == 1
        assert (await bounded(RequestFactory().get("/"))).status_code == 200

    asyncio.run(run())


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  # what the view does has no event of its own
            await asyncio.sleep(0)


def _as_function(view: View) -> Any:
    async def get_response(request: HttpRequest) -> HttpResponse:
        return await view(request)

    return get_response


def test_passwords_are_hashed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hash takes 46 MiB: a flood of sign-ins must not take that times its number."""
    inside, most, lock = 0, 0, threading.Lock()
    let_go = threading.Event()

    def encode(_self: Any, _password: str, _salt: str) -> str:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == hashers.AT_ONCE:
                let_go.set()
        let_go.wait(10)
        with lock:
            inside -= 1
        return "hash"

    monkeypatch.setattr(hashers.Argon2PasswordHasher, "encode", encode)
    threads = [threading.Thread(target=hashers.BoundedArgon2().encode, args=("x", "salt")) for _number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == hashers.AT_ONCE


def test_a_hash_is_argon2id_and_is_verified() -> None:
    """With the settings of this module, and not with Django's."""
    hasher = hashers.BoundedArgon2()
    encoded = hasher.encode("correct horse", hasher.salt())
    assert encoded.startswith("argon2$argon2id$v=19$m=47104,t=1,p=1$")
    assert hasher.verify("correct horse", encoded)
    assert not hasher.verify("wrong horse", encoded)
