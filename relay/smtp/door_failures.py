"""What fails at the door before a name is known: folded in memory, written once a second, never in anybody's way.

Shapes  DoorFailures: one for each smtpd process. failed(ip, cause, port, detail) -> the reference of the row in which
        it is counted, for the reply. A row is of one hour, cause, port and place; the process writes its own total, so
        that writing twice changes nothing.
Units   NEW_PER_MINUTE rows of addresses, then as many of their /24 or /64, then one for anywhere: whatever comes, the
        table grows by a bounded number of rows.
Errors  None are raised: while PostgreSQL is away the totals wait here.
Source  relay/door_failures.py reads them; RFC 8446 6.2 and OpenSSL's reasons for cause_of().
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool

from audit.record import network_around, new_reference, printable
from relay.logs import get_logger
from relay.models.door_failures import DoorFailure

log = get_logger(__name__)

Cause = DoorFailure.Cause
NEW_PER_MINUTE: Final = 60
FLUSH_SECONDS: Final = 1.0
ANYWHERE: Final = ""
# The first octets of a TLS record with a ClientHello (RFC 8446 5.1): no SMTP command begins so.
CLIENT_HELLO: Final = b"\x16\x03"

_STORE = """
    INSERT INTO relay_doorfailure AS old
        (reference, place, cause, port, count, first_at, last_at, detail, worker)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::bigint[], %s::timestamptz[],
                         %s::timestamptz[], %s::text[], %s::text[])
    ON CONFLICT (reference) DO UPDATE
    SET count = excluded.count, last_at = excluded.last_at, detail = excluded.detail
"""
_CAUSES: Final = (
    (Cause.TLS_VERSION, ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "PROTOCOL_VERSION", "INAPPROPRIATE_FALLBACK")),
    (Cause.TLS_CIPHER, ("NO_SHARED_CIPHER", "HANDSHAKE_FAILURE", "NO_SUITABLE")),
    (
        Cause.CERTIFICATE,
        ("UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "ACCESS_DENIED"),
    ),
    (Cause.PLAIN_ON_TLS, ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL")),
)


@dataclass(slots=True)
class Run:
    reference: str
    place: str
    cause: str
    port: int
    first_at: datetime
    last_at: datetime
    detail: str = ""
    count: int = 0
    written: int = 0


class DoorFailures:
    def __init__(self, pool: AsyncConnectionPool[Any], *, worker: str, share: int = 1) -> None:
        """share: among how many processes the machine's bounds are divided."""
        self._pool, self._worker = pool, worker
        self._most = max(1, NEW_PER_MINUTE // share)
        self._runs: dict[tuple[datetime, str, str, int], Run] = {}
        self._minute, self._new = datetime.min, 0
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._write_on(), name="door failures")

    async def stop(self) -> None:
        """Writes what waits, if PostgreSQL takes it at once."""
        self._closing.set()
        if self._task:
            await self._task

    def failed(self, ip: str, cause: Cause, *, port: int, detail: str = "", now: datetime | None = None) -> str:
        now = now or datetime.now(UTC)
        run = self._run(ip, cause, port, now)
        run.count += 1
        run.last_at = now
        run.detail = printable(detail, 255)
        return run.reference

    def _run(self, ip: str, cause: Cause, port: int, now: datetime) -> Run:
        """That of the address if it has one or may begin one, else its neighbourhood's, else everybody's."""
        hour, minute = now.replace(minute=0, second=0, microsecond=0), now.replace(second=0, microsecond=0)
        if minute != self._minute:
            self._minute, self._new = minute, 0
        for place, bound in ((ip, self._most), (network_around(ip), 2 * self._most), (ANYWHERE, None)):
            key = (hour, place, cause.value, port)
            if (run := self._runs.get(key)) is not None:
                return run
            if bound is None or self._new < bound:
                self._new += 1
                self._runs[key] = run = Run(new_reference(), place, cause.value, port, now, now)
                return run
        raise AssertionError("unreachable")

    async def _write_on(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._closing.wait()
            await self._flush()

    async def _flush(self) -> None:
        grown = [run for run in self._runs.values() if run.count > run.written]
        self._forget()
        if not grown:
            return
        counts = [run.count for run in grown]
        rows = [
            (
                run.reference,
                run.place,
                run.cause,
                run.port,
                run.count,
                run.first_at,
                run.last_at,
                run.detail,
                self._worker,
            )
            for run in grown
        ]
        try:
            async with self._pool.connection(timeout=5) as conn:
                await conn.execute(_STORE, [list(column) for column in zip(*rows, strict=True)])
        except (psycopg.Error, OSError) as error:
            log.warning("smtpd.door_failures_waiting", rows=len(rows), error=str(error))
            return
        for run, count in zip(grown, counts, strict=True):
            run.written = count

    def _forget(self) -> None:
        """What is written and of an hour that is over grows no more."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        over = [key for key, run in self._runs.items() if key[0] < hour and run.count == run.written]
        for key in over:
            del self._runs[key]


def cause_of(error: BaseException, *, implicit_tls: bool) -> Cause:
    """Why a handshake failed. Plain text where TLS was to begin means another thing on each kind of port."""
    if "too many handshakes" in str(error):
        return Cause.HANDSHAKES
    if isinstance(error, TimeoutError) or "taking longer" in str(error):
        return Cause.TLS_SILENT
    if isinstance(error, ssl.SSLError):
        words = f"{error.reason or ''} {error}".upper().replace(" ", "_")
        for cause, reasons in _CAUSES:
            if any(reason in words for reason in reasons):
                return cause if implicit_tls or cause is not Cause.PLAIN_ON_TLS else Cause.TLS_BROKEN
    return Cause.TLS_BROKEN
