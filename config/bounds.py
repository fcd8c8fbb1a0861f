"""How much one web process takes on: the size of a request's body, and how many requests are worked on at once.

Shapes  BodyBound wraps the ASGI application: Django spools a body of any size to disk before a view can refuse it.
        at_once is the first middleware: the body has come by then, so a slow sender holds no place.
Units   BODY_OCTETS: of one request; the longest real one is a form of some kilobytes. AT_ONCE: requests; each is a
        thread with a connection to PostgreSQL, of which smtpd and delivery need theirs.
Errors  413 for a longer body; 503 with Retry-After for who has waited WAIT_SECONDS.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

BODY_OCTETS = 1024 * 1024
AT_ONCE = 32
WAIT_SECONDS = 10.0
NEVER_WAIT = ("/healthz/", "/metrics")  # who watches over us must not take busy for dead

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
View = Callable[[HttpRequest], Any]


class TooLong(Exception):
    """The body passed BODY_OCTETS."""


class BodyBound:
    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def bounded() -> Mapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_OCTETS:
                raise TooLong
            return message

        try:
            await self.application(scope, bounded, send)
        except TooLong:
            text = b"The request is too long.\n"
            headers = [
                (b"content-type", b"text/plain"),
                (b"content-length", b"%d" % len(text)),
                (b"connection", b"close"),
            ]
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body", "body": text})


@sync_and_async_middleware
def at_once(get_response: View) -> View:
    if not iscoroutinefunction(get_response):
        return get_response  # a server of threads has a bound of its own
    places = asyncio.Semaphore(AT_ONCE)

    async def bounded(request: HttpRequest) -> HttpResponseBase:
        if request.path.startswith(NEVER_WAIT):
            return await _whole(asyncio.ensure_future(get_response(request)))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await places.acquire()
        except TimeoutError:
            return HttpResponse(
                "Too busy, try again in a moment.\n",
                status=503,
                content_type="text/plain",
                headers={"Retry-After": "5"},
            )
        work = asyncio.ensure_future(get_response(request))
        work.add_done_callback(lambda _work: places.release())
        return await _whole(work)

    return bounded


async def _whole(work: "asyncio.Future[HttpResponseBase]") -> HttpResponseBase:
    """Of a client that has gone too: its thread cannot be stopped, and left alone it would hold up the event loop."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
