"""The bans as one smtpd process knows them: read each second, made where the model names a culprit.

Shapes  Watch.seconds_left(ip) -> of the ban that hits it, or 0. ban(Culprit): holds here at once, and as a row soon.
Units   seconds; ends are on a monotonic clock, so that no clock but PostgreSQL's own decides when a ban ends.
Errors  None are raised: while PostgreSQL is away what is known holds to its end.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import psycopg
from django.conf import settings
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from audit.record import printable
from relay.cancellation import cancel
from relay.database import fetch_all
from relay.guessing.addresses import Protected, host_range, neighbourhood
from relay.guessing.model import Culprit
from relay.logs import get_logger

log = get_logger(__name__)

POLL_SECONDS = 1.0
PROVISIONAL_SECONDS = 300.0  # until the row is read back; with PostgreSQL away it must do
WAITING_MAX = 1_000
BANS_MAX = 10_000
TURNS_WITHIN = "30 days"
GROWTH = 4
TRUSTED_DAYS = 7

READ = """
    SELECT id, cidr::text, extract(epoch FROM ends_at - clock_timestamp())::float,
           (SELECT coalesce(array_agg(host(each)), '{}') FROM unnest(exempt) AS each), lifted_at IS NOT NULL
    FROM relay_ban WHERE ends_at > clock_timestamp() AND (lifted_at IS NULL OR lifted_at > clock_timestamp() - interval
         '1 minute') ORDER BY id DESC LIMIT %s
"""
READ_RANGES = "SELECT cidr::text FROM relay_protectedrange"
# Of two processes that find the same culprit, one writes. Who signed in lately is not banned, whatever was forgotten.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 4))"
STORE = f"""
    INSERT INTO relay_ban (cidr, began_at, ends_at, turn, evidence, exempt, lifted_by, worker)
    SELECT %(cidr)s::cidr, statement_timestamp(),
           statement_timestamp() + least(%(most)s, %(first)s * {GROWTH}::float ^ least(turns, 9)) * interval '1 second',
           turns + 1, %(evidence)s::jsonb, '{{}}', '', %(worker)s
    FROM (SELECT count(*) AS turns FROM relay_ban WHERE cidr = %(cidr)s::cidr AND lifted_at IS NULL
                 AND began_at > clock_timestamp() - interval '{TURNS_WITHIN}') AS earlier
    WHERE NOT EXISTS (SELECT FROM relay_ban WHERE cidr = %(cidr)s::cidr AND ends_at > clock_timestamp()
                      AND lifted_at IS NULL)
      AND NOT EXISTS (SELECT FROM relay_protectedrange WHERE cidr >>= %(cidr)s::cidr)
      AND NOT EXISTS (SELECT FROM audit_authhour WHERE ip = %(ip)s::inet AND result = 'accepted'
                      AND hour > clock_timestamp() - interval '{TRUSTED_DAYS} days')
    RETURNING id, extract(epoch FROM ends_at - began_at)::float
"""  # noqa: S608  # constants of this file alone


@dataclass(frozen=True, slots=True)
class Known:
    until: float
    exempt: frozenset[str] = frozenset()


class Watch:
    """One for each smtpd process."""

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        *,
        worker: str,
        protected: Protected,
        lifted: Callable[..., None],
        made: Callable[[], None],
    ) -> None:
        """lifted: called with the ranges of bans that somebody lifted. made: called after a row was written."""
        self._pool, self._worker, self._protected = pool, worker, protected
        self._lifted, self._made = lifted, made
        self._known: dict[str, Known] = {}
        self._provisional: dict[str, float] = {}
        self._seen_lifted: set[int] = set()
        self._wanted: deque[Culprit] = deque(maxlen=WAITING_MAX)
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._known) + len(self._provisional)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(), name="bans")]

    async def stop(self) -> None:
        await cancel(self._tasks)

    def look_now(self) -> None:
        self._told.set()

    def seconds_left(self, ip: str, *, trusted: bool, now: float) -> float:
        """trusted: somebody signed in from it lately, so that a ban of its neighbourhood passes it by."""
        if ip in self._protected:
            return 0.0
        ranges = (host_range(ip),) if trusted else (host_range(ip), neighbourhood(ip))
        return max(self._left(cidr, ip, now) for cidr in ranges)

    def _left(self, cidr: str, ip: str, now: float) -> float:
        known = self._known.get(cidr)
        left = known.until - now if known is not None and ip not in known.exempt else 0.0
        return max(left, self._provisional.get(cidr, 0.0) - now, 0.0)

    def ban(self, culprit: Culprit) -> None:
        if not settings.GATEPOST_BANS or culprit.cidr in self._known:
            return
        self._provisional[culprit.cidr] = time.monotonic() + PROVISIONAL_SECONDS
        self._wanted.append(culprit)
        self._told.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._told.wait()
            self._told.clear()
            try:
                await self._store_wanted()
                await self._read()
            except (psycopg.Error, PoolTimeout, OSError) as error:
                log.warning("guessing.bans_unread", error=str(error))
                await asyncio.sleep(POLL_SECONDS)
            except Exception:
                log.exception("guessing.bans_failed")
                await asyncio.sleep(POLL_SECONDS)

    async def _read(self) -> None:
        ranges = await fetch_all(self._pool, READ_RANGES, [], timeout=3)
        self._protected.name(ip_network(cidr) for (cidr,) in ranges)
        rows = await fetch_all(self._pool, READ, [BANS_MAX], timeout=3)
        now = time.monotonic()
        self._known = {
            cidr: Known(now + seconds, frozenset(exempt)) for _id, cidr, seconds, exempt, lifted in rows if not lifted
        }
        self._provisional = {cidr: until for cidr, until in self._provisional.items() if until > now}
        lifted = {id: cidr for id, cidr, _seconds, _exempt, was_lifted in rows if was_lifted}
        news = [cidr for id, cidr in lifted.items() if id not in self._seen_lifted and cidr not in self._known]
        for cidr in news:
            self._provisional.pop(cidr, None)
        if news:
            self._lifted(*news)
        self._seen_lifted = set(lifted)

    async def _store_wanted(self) -> None:
        while self._wanted:
            culprit = self._wanted[0]
            try:
                made = await self._store(culprit)
            except (psycopg.DataError, psycopg.IntegrityError):  # would fail again, and keep the bans from being read
                log.exception("guessing.ban_refused", cidr=culprit.cidr)
                made = None
            self._wanted.popleft()
            self._provisional.pop(culprit.cidr, None)  # from here on the row speaks, or there is none
            if made:
                log.warning("guessing.banned", cidr=culprit.cidr, seconds=round(made), failures=culprit.failures)
                self._made()

    async def _store(self, culprit: Culprit) -> float | None:
        """The seconds of the ban that was made; None if there is a reason against it."""
        values = {
            "cidr": culprit.cidr,
            "ip": culprit.cidr.partition("/")[0],
            "evidence": json.dumps(evidence_of(culprit)),
            "worker": self._worker,
            "first": settings.GATEPOST_BAN_MINUTES * 60.0,
            "most": settings.GATEPOST_BAN_MINUTES_MAX * 60.0,
        }
        async with self._pool.connection(timeout=3) as conn, conn.transaction():
            await conn.execute(LOCK, [culprit.cidr])
            row = await (await conn.execute(STORE, values)).fetchone()
        return row[1] if row else None


def evidence_of(culprit: Culprit) -> dict[str, Any]:
    """As the row keeps it: names cleaned, times in words that JSON knows."""
    found = asdict(culprit)
    del found["cidr"]
    return found | {
        "names": [printable(name, 64) for name in culprit.names],
        "first_at": datetime.fromtimestamp(culprit.first_at, UTC).isoformat(),
        "last_at": datetime.fromtimestamp(culprit.last_at, UTC).isoformat(),
    }
