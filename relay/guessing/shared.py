"""What each smtpd process counts, told to the others through Valkey: a stream that all read and nobody waits for.

Shapes  Note(kind, at, ip, name, tag): a failure, a login that was put off, or a success. tell() buffers it; the next
        batch goes out TELL_SECONDS later. hear() is called with the notes of other processes, and with the last hour's
        when the process starts. news() is called when somebody changed a ban.
Units   seconds; at: since 1970.
Errors  None are raised: with Valkey away each process counts for itself, and tells the others afterwards.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError

from relay.cancellation import cancel
from relay.logs import get_logger

log = get_logger(__name__)

STREAM = "gatepost:guesses"
BATCHES_MAX = 5_000  # kept by Valkey, each of NOTES_MAX at most
NOTES_MAX = 100
BUFFER_MAX = 5_000
TELL_SECONDS = 0.1
TIMEOUT_SECONDS = 0.5
PAUSE_SECONDS = 1.0
BLOCK_MILLISECONDS = 2_000  # well within the 5 s after which redis-py takes a silent server for a dead one
REPLAY_SECONDS = 3600

FAILED, PUT_OFF, SUCCEEDED = "f", "p", "s"


@dataclass(frozen=True, slots=True)
class Note:
    kind: str
    at: float
    ip: str
    name: str
    tag: bytes | None

    def packed(self) -> list[Any]:
        return [self.kind, round(self.at, 3), self.ip, self.name, self.tag.hex() if self.tag is not None else None]

    @classmethod
    def unpacked(cls, values: list[Any]) -> "Note":
        kind, at, ip, name, tag = values
        return cls(str(kind), float(at), str(ip), str(name), bytes.fromhex(tag) if tag is not None else None)


class Shared:
    """One for each smtpd process."""

    def __init__(self, worker: str, *, hear: Callable[[Note], None], news: Callable[[], None]) -> None:
        self._worker, self._hear, self._news = worker, hear, news
        self._notes: deque[Note] = deque(maxlen=BUFFER_MAX)
        self._bans_changed = False
        self._told = asyncio.Event()
        self._last = ""
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._forever(self._send), name="guesses out"),
            asyncio.create_task(self._forever(self._receive), name="guesses in"),
        ]

    async def stop(self) -> None:
        await cancel(self._tasks)

    def tell(self, note: Note) -> None:
        self._notes.append(note)
        self._told.set()

    def tell_bans(self) -> None:
        """A ban was made here: the others read it at once."""
        self._bans_changed = True
        self._told.set()

    async def _forever(self, step: Callable[["redis.asyncio.Redis"], Any]) -> None:
        client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=TIMEOUT_SECONDS)
        try:
            while True:
                try:
                    await step(client)
                except (RedisError, OSError, TimeoutError) as error:
                    log.warning("guessing.alone", error=str(error))
                    await asyncio.sleep(PAUSE_SECONDS)
                except Exception:
                    log.exception("guessing.failed")
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await client.aclose()

    async def _send(self, client: "redis.asyncio.Redis") -> None:
        await self._told.wait()
        await asyncio.sleep(TELL_SECONDS)
        self._told.clear()
        while self._notes or self._bans_changed:
            notes = [self._notes.popleft() for _number in range(min(NOTES_MAX, len(self._notes)))]
            fields: dict[Any, Any] = {"from": self._worker, "notes": json.dumps([note.packed() for note in notes])}
            if self._bans_changed:
                fields["bans"] = "1"
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await client.xadd(STREAM, fields, maxlen=BATCHES_MAX, approximate=True)
                self._bans_changed = False
            except BaseException:
                self._notes.extendleft(reversed(notes))  # a batch that came through all the same counts once: see tags
                self._told.set()
                raise

    async def _receive(self, client: "redis.asyncio.Redis") -> None:
        if not self._last:
            seconds, _microseconds = await client.time()
            self._last = f"{(seconds - REPLAY_SECONDS) * 1000}-0"
        found: Any = await client.xread({STREAM: self._last}, count=100, block=BLOCK_MILLISECONDS)
        for _stream, batches in found or ():
            for batch, fields in batches:
                self._last = batch.decode()
                self._take(fields)
            await asyncio.sleep(0)

    def _take(self, fields: dict[bytes, bytes]) -> None:
        if fields.get(b"from", b"").decode() == self._worker:
            return
        if b"bans" in fields:
            self._news()
        try:
            notes = [Note.unpacked(values) for values in json.loads(fields.get(b"notes", b"[]"))]
        except (ValueError, TypeError) as error:
            log.warning("guessing.unreadable", error=str(error))
            return
        for note in notes:
            self._hear(note)


def tell_bans_changed() -> None:
    """From a page or a task: every smtpd reads the bans at once, instead of within a second. Never raises."""
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.2, socket_connect_timeout=0.2) as client:
            client.xadd(STREAM, {"from": "panel", "bans": "1"}, maxlen=BATCHES_MAX, approximate=True)
    except (redis.RedisError, OSError):
        pass
