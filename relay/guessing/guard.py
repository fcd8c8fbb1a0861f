"""Guessing as an smtpd session asks about it: model, bans and other processes behind four questions.

Shapes  banned(ip), wait(Try) before; failed(), put_off(), succeeded() after. None of them waits for anything.
Units   seconds.
Errors  None.
Source  docs/flow.md, AUTH.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
from django.conf import settings
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from relay.cancellation import cancel
from relay.database import fetch_all
from relay.directory import canonical_username
from relay.guessing.addresses import Protected
from relay.guessing.model import Counted, Model, Try
from relay.guessing.shared import FAILED, PUT_OFF, SUCCEEDED, Note, Shared
from relay.guessing.trust import ADDRESSES_MAX
from relay.guessing.watch import Watch
from relay.logs import get_logger

log = get_logger(__name__)

NAME_MAX = 64  # SMTP usernames have 32 characters; more of a name tells nothing
OLD_SECONDS = 60.0  # what is heard later than this counts, but bans nobody
RETRY_SECONDS = 2.0
TOLD_MAX = 10  # answers of 421 for a banned address and minute; beyond it connections are closed without a word

# Where somebody signed in lately, so that a restart forgets nobody. Ids of SMTP users are never reused.
READ_TRUST = f"""
    SELECT host(login.ip), smtp_user.username, extract(epoch FROM max(login.last_at))::float
    FROM audit_loginday login JOIN relay_smtpuser smtp_user ON smtp_user.id = login.smtp_user_id
    WHERE login.day >= (clock_timestamp() AT TIME ZONE 'UTC')::date - 7
    GROUP BY login.ip, smtp_user.username ORDER BY 3 DESC LIMIT {ADDRESSES_MAX}
"""  # noqa: S608  # a constant


class Guard:
    """One for each smtpd process."""

    def __init__(self, pool: AsyncConnectionPool[Any], *, worker: str) -> None:
        self._pool = pool
        self._key = hashlib.sha256(b"guesses\0" + settings.GATEPOST_PEPPERS[0]).digest()
        self.protected = Protected((*settings.GATEPOST_PROXY_PEERS, *settings.GATEPOST_PROTECTED_NETWORKS))
        self.model = Model(protected=self.protected)
        self.shared = Shared(worker, hear=self._hear, news=self._news)
        self.watch = Watch(
            pool, worker=worker, protected=self.protected, lifted=self.model.forget, made=self.shared.tell_bans
        )
        self._turned_away: Counter[str] = Counter()
        self._minute = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.shared.start()
        self.watch.start()
        self._tasks = [asyncio.create_task(self._remember(), name="trust")]

    async def stop(self) -> None:
        await cancel(self._tasks)
        await self.watch.stop()
        await self.shared.stop()

    def tried(self, ip: str, username: str, secret: str | bytes | None) -> Try:
        """secret: None where the mechanism does not show it. Its digest is made only if somebody asks for it."""
        return Try(ip, canonical_username(username)[:NAME_MAX], lambda: self._tag(ip, username, secret))

    def _tag(self, ip: str, username: str, secret: str | bytes | None) -> bytes | None:
        if secret is None:
            return None
        data = secret if isinstance(secret, bytes) else secret.encode("utf-8", "surrogatepass")
        about = f"{ip}\0{canonical_username(username)[:NAME_MAX]}\0".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(about + data, key=self._key, digest_size=8).digest()

    def banned(self, ip: str) -> int:
        """Seconds until the ban of this address ends; 0: it is not banned."""
        if not self.watch:
            return 0
        trusted = self.model.trust.address(ip, time.time())
        left = self.watch.seconds_left(ip, trusted=trusted, now=time.monotonic())
        return int(left) + 1 if left > 0 else 0

    def turned_away(self, ip: str) -> None:
        """A banned address was told so."""
        self._turned_away[ip] += 1

    def is_spent(self, ip: str) -> bool:
        """It is banned, and was told so often enough within this minute."""
        if not self.watch:
            return False
        minute = int(time.time()) // 60
        if minute != self._minute:
            self._minute = minute
            self._turned_away.clear()
        return self._turned_away[ip] >= TOLD_MAX and self.banned(ip) > 0

    def is_trusted(self, ip: str) -> bool:
        """Somebody signed in from it lately."""
        return self.model.trust.address(ip, time.time())

    def wait(self, each: Try) -> int:
        return self.model.wait(each, time.time())

    def succeeded(self, each: Try) -> None:
        now = time.time()
        if self.model.succeeded(each, now):
            self.shared.tell(Note(SUCCEEDED, now, each.ip, each.name, each.tag()))

    def failed(self, each: Try) -> None:
        self._counted(FAILED, each, self.model.failed)

    def put_off(self, each: Try) -> None:
        self._counted(PUT_OFF, each, self.model.put_off)

    def _counted(self, kind: str, each: Try, count: Callable[[Try, float], Counted]) -> None:
        now = time.time()
        counted = count(each, now)
        for culprit in counted.culprits:
            self.watch.ban(culprit)
        if counted.is_new:
            self.shared.tell(Note(kind, now, each.ip, each.name, each.tag()))

    # --- From other processes ------------------------------------------------------------------------------------

    def _hear(self, note: Note) -> None:
        each = Try(note.ip, note.name, lambda: note.tag)
        if note.kind == SUCCEEDED:
            self.model.succeeded(each, note.at)
            return
        counted = (self.model.failed if note.kind == FAILED else self.model.put_off)(each, note.at)
        if time.time() - note.at < OLD_SECONDS:
            for culprit in counted.culprits:
                self.watch.ban(culprit)

    def _news(self) -> None:
        self.watch.look_now()

    async def _remember(self) -> None:
        while True:
            try:
                rows = await fetch_all(self._pool, READ_TRUST, [], timeout=10)
            except (psycopg.Error, PoolTimeout, OSError) as error:
                log.warning("guessing.trust_unread", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for ip, username, at in reversed(rows):
                self.model.trust.note(ip, username, None, at)
            return
