"""Static files over ASGI: WhiteNoise's answers as asynchronous streams.

WhiteNoise answers with a synchronous iterator. Over ASGI Django reads such a one into memory as a whole, and warns, for
every file. So what has a body is read here a block at a time, in a thread, and what has none (HEAD, 304) is no stream.

Units   BLOCK_OCTETS: read at once; most files are one block.
Errors  WhiteNoise's own.
"""

from collections.abc import AsyncIterator
from typing import Any, BinaryIO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware

BLOCK_OCTETS = 256 * 1024


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # WhiteNoise has no types
    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponseBase:
        if not isinstance(request, ASGIRequest):
            answer: HttpResponseBase = WhiteNoiseMiddleware.serve(static_file, request)
            return answer
        found = static_file.get_response(request.method, request.META)
        response: HttpResponseBase = StreamedFile(found.file) if found.file else HttpResponse()
        response.status_code = int(found.status)
        del response["Content-Type"]
        for name, value in found.headers:
            response[name] = value
        return response


class StreamedFile(StreamingHttpResponse):
    """Closes its file with itself: Django closes every answer, also one whose client has gone away."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(_blocks(file))
        self.file = file

    def close(self) -> None:
        super().close()
        self.file.close()


async def _blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    while block := await sync_to_async(file.read, thread_sensitive=False)(BLOCK_OCTETS):
        yield block
