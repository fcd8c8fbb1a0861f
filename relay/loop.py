"""The delivery loop of one worker process: claims by itself, delivers, settles, recovers, reports.

Shapes  One asyncio loop in a thread of its own, started after the fork, with its own pool and sessions. It needs
        PostgreSQL only: Redis shortens the wait between claims, Celery starts and stops it.
Units   Pace: seconds. A lease is renewed at a quarter of its life; after three quarters unrenewed, no final dot.
Errors  None end the loop: what a part raises is logged, and the part begins again.
Source  docs/flow.md, Delivery.
"""

import asyncio
import os
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import redis.asyncio
from django.conf import settings
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout
from redis.exceptions import RedisError

from relay import delivery, limits, queue
from relay.cancellation import cancel
from relay.connections import Connection, make_pool
from relay.content import aload
from relay.delivery import Tools
from relay.logs import get_logger
from relay.models.messages import Route
from relay.mx.route import MxRoute
from relay.next_hops import NextHops
from relay.presence import forget_dead
from relay.queue import Claim, ClaimedRecipient, Job, LeaseLostError, Settlement
from relay.smtp.client import Timeouts
from relay.smtp.wakeup import CHANNEL

CLAIM = 100  # recipients of one claim, which is also the most of one message in one transaction
IN_HAND = 400  # recipients claimed for next hops, those that wait for a session included
LARGE_OCTETS = 4 * 1024 * 1024
LARGE_AT_ONCE = 4  # messages above it whose content is in memory
DATABASE_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done."""

    lease: float = queue.LEASE_SECONDS
    claim: float = 1.0
    sweep: float = 2.0
    heartbeat: float = 5.0
    retry: float = 1.0  # after a failure of the database
    redis_retry: float = 5.0  # at most, between two tries
    finish: float = 20.0  # for what is in flight when the process ends

    @property
    def renew(self) -> float:
        return self.lease / 4

    @property
    def no_final_dot_after(self) -> float:
        return self.lease * 3 / 4


class DeliveryLoop:
    """run() until stop(). Everything of it belongs to the event loop that runs it, but stop()."""

    def __init__(self, *, pace: Pace | None = None, timeouts: Timeouts | None = None, worker: str = "") -> None:
        self.pace = pace or Pace()
        self.worker = (worker or f"delivery@{socket.gethostname()[:40]}:{os.getpid()}")[:64]
        self.figures: Counter[str] = Counter()
        self._hops = NextHops(timeouts=timeouts)
        self._pool = make_pool(name=self.worker)
        self._mx = MxRoute(self._pool)
        self._wake, self._stopping = asyncio.Event(), asyncio.Event()
        self._renewed: dict[UUID, float] = {}  # our leases, and when each was last known to be ours
        self._jobs: dict[asyncio.Task[None], list[Job]] = {}
        self._is_full = False  # more could be due than was claimed
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = self._asked_to_stop = False

    # --- Life ---

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._asked_to_stop:
            return
        await self._pool.open()
        parts = [
            asyncio.create_task(self._forever(part, pause))
            for part, pause in (
                (self._claim_and_start, 0.0),
                (self._renew, self.pace.renew),
                (self._sweep, self.pace.sweep),
                (self._heartbeat, self.pace.heartbeat),
                (self._listen, 0.0),
            )
        ]
        log.info("delivery.started", worker=self.worker)
        try:
            await self._stopping.wait()
        finally:
            await self._finish(parts)

    def stop(self) -> None:
        """Asks the loop to end; may be called from any thread."""
        self._asked_to_stop = True
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _forever(self, part: Callable[[], Awaitable[None]], pause: float) -> None:
        name = part.__name__.strip("_")
        while True:
            try:
                await part()
                await asyncio.sleep(pause)
            except DATABASE_ERRORS as exc:
                self.figures["database_errors"] += 1
                log.warning("delivery.database_away", part=name, error=type(exc).__name__)
                await asyncio.sleep(self.pace.retry)
            except Exception:
                self.figures["errors"] += 1
                log.exception("delivery.failed", part=name)
                await asyncio.sleep(self.pace.retry)

    async def _finish(self, parts: list[asyncio.Task[None]]) -> None:
        """Ends claiming, lets attempts in flight come to an end, and gives back what was not offered."""
        claiming, renewing, *others = parts
        await cancel([claiming, *others])
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=self.pace.finish)
        unfinished = list(self._jobs)
        await cancel([*unfinished, renewing])
        with suppress(*DATABASE_ERRORS):
            async with self._pool.connection() as connection:
                await queue.give_back(connection, list(self._renewed))
                await connection.execute("DELETE FROM relay_worker WHERE name = %s", [self.worker])
        await self._hops.close_idle(older_than=0)
        await self._mx.close()
        await self._pool.close()
        log.info("delivery.stopped", worker=self.worker, unfinished=len(unfinished))

    # --- Claiming ---

    async def _claim_and_start(self) -> None:
        """One claim; then at once another while there is more, else a wait for a wake-up or the second's end."""
        self._wake.clear()
        began = monotonic()
        async with self._pool.connection() as connection:
            claim = await queue.claim(
                connection,
                limit=CLAIM,
                routes=self._open_routes(),
                worker=self.worker,
                lease_seconds=self.pace.lease,
            )
        self._start(claim, began)
        if claim.recipients + claim.parked < CLAIM:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pace.claim):
                    await self._wake.wait()

    def _open_routes(self) -> list[str]:
        """Nothing is claimed for next hops that could not begin soon: another worker may have room."""
        in_hand = sum(len(job.recipients) for jobs in self._jobs.values() for job in jobs)
        self._is_full = in_hand >= IN_HAND
        # What the sandbox keeps is settled at once: more of it in hand means that the database is slow.
        rooms = ((Route.SANDBOX, 2 * IN_HAND), (Route.SMARTHOST, IN_HAND), (Route.MX, IN_HAND))
        return [route for route, room in rooms if in_hand < room]

    def _start(self, claim: Claim, began: float) -> None:
        self.figures["claimed"] += claim.recipients
        kept: list[tuple[Job, Settlement]] = []
        for job in claim.jobs:
            self._renewed[job.lease] = began
            if job.route == Route.SANDBOX:
                kept += [(job, settlement) for settlement in delivery.keep(job)]
            else:
                self._run([job], self._attempt(job))
        if kept:
            self._run([job for job in claim.jobs if job.route == Route.SANDBOX], self._settle(kept))

    def _run(self, jobs: list[Job], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._jobs[task] = jobs
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        jobs = self._jobs.pop(task, [])
        if not task.cancelled():
            if exc := task.exception():
                self.figures["errors"] += 1
                log.error("delivery.job_failed", exc_info=exc)
            for job in jobs:  # what was not settled is not renewed: its lease ends, and it is tried again
                self._renewed.pop(job.lease, None)
        if self._is_full:
            self._wake.set()

    # --- Attempts ---

    async def _attempt(self, job: Job) -> None:
        tools = Tools(hops=self._hops, mx=self._mx, load=self._load, before_final_dot=self._before_final_dot)
        try:
            if job.size_octets > LARGE_OCTETS:
                async with self._large:
                    settlements = await delivery.attempt(job, tools)
            else:
                settlements = await delivery.attempt(job, tools)
        except (LeaseLostError, *DATABASE_ERRORS) as exc:
            self.figures["leases_lost"] += 1
            log.warning("delivery.lease_lost", message=str(job.message_id), error=type(exc).__name__)
            settlements = []
        except Exception as exc:
            self.figures["errors"] += 1
            log.exception("delivery.attempt_failed", message=str(job.message_id))
            settlements = delivery.unexpected(job, exc)
        if settlements:
            await self._settle([(job, settlement) for settlement in settlements])
        if len(settlements) < len(job.recipients):
            # If the lease is ours after all, nobody need wait for its end; what reached the final dot stays leased.
            await self._insist(lambda connection: queue.give_back(connection, [job.lease]))

    async def _load(self, message_id: UUID) -> bytes:
        async with self._pool.connection() as connection:
            return await aload(connection, message_id)

    async def _before_final_dot(self, job: Job, recipients: Sequence[ClaimedRecipient]) -> None:
        """Raises LeaseLostError unless the lease is surely still ours."""
        self._demand_fresh(job)
        try:
            async with self._pool.connection() as connection:
                await queue.mark_final_dot(connection, job, recipients)
        except DATABASE_ERRORS as exc:
            raise LeaseLostError("The database is away.") from exc
        self._demand_fresh(job)  # the mark may have waited for the database

    def _demand_fresh(self, job: Job) -> None:
        if monotonic() - self._renewed.get(job.lease, float("-inf")) > self.pace.no_final_dot_after:
            raise LeaseLostError("The lease was not renewed in time.")

    async def _settle(self, settlements: list[tuple[Job, Settlement]]) -> None:
        """Writes results down, however long the database is away: what the next hop has taken must not go again."""
        owned = await self._insist(lambda connection: queue.settle(connection, settlements))
        for job, settlement in settlements:
            self._renewed.pop(job.lease, None)
            if settlement.recipient.id in owned:
                self.figures[str(settlement.outcome)] += 1
            else:
                self.figures["leases_lost"] += 1
                log.warning("delivery.settled_too_late", message=str(job.message_id), outcome=str(settlement.outcome))

    async def _insist(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Does it again until the database has done it."""
        while True:
            try:
                async with self._pool.connection() as connection:
                    return await work(connection)
            except DATABASE_ERRORS:
                self.figures["settles_late"] += 1
                log.warning("delivery.settle_waits")
                await asyncio.sleep(self.pace.retry)

    # --- The parts beside ---

    async def _renew(self) -> None:
        if not (leases := list(self._renewed)):
            return
        began = monotonic()
        async with self._pool.connection() as connection:
            held = await queue.renew(connection, leases, lease_seconds=self.pace.lease)
        for lease in leases:
            if lease in self._renewed:
                self._renewed[lease] = began if lease in held else float("-inf")

    async def _sweep(self) -> None:
        """Takes back lapsed leases, releases held mail that fits by now, closes sessions that lie idle."""
        await self._hops.close_idle()
        async with self._pool.connection() as connection:
            recovered = await queue.recover(connection)
            released = await limits.release_held(connection)
        self.figures["recovered"] += recovered
        self.figures["released"] += released
        if recovered:
            log.warning("delivery.recovered", recipients=recovered)
        if recovered or released:
            self._wake.set()

    async def _heartbeat(self) -> None:
        figures = {**self.figures, "in_flight": len(self._jobs), "sessions": self._hops.open_sessions}
        async with self._pool.connection() as connection:
            await connection.execute(
                """
                INSERT INTO relay_worker (name, kind, started_at, seen_at, figures)
                VALUES (%s, 'delivery', now(), now(), %s)
                ON CONFLICT (name) DO UPDATE SET seen_at = now(), figures = excluded.figures,
                    started_at = CASE WHEN %s THEN relay_worker.started_at ELSE now() END
                """,
                [self.worker, Jsonb(figures), self._began],
            )
            if self._began:
                return
            await forget_dead(connection)
        self._began = True
        if sign := os.environ.get("GATEPOST_READY_FILE"):
            await asyncio.to_thread(Path(sign).touch)

    async def _listen(self) -> None:
        """Wake-ups from Redis until the connection breaks; after that the claims' own second is enough for a while."""
        client = redis.asyncio.from_url(settings.REDIS_URL, socket_connect_timeout=2)
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(CHANNEL)
                self.figures["redis_up"] = 1
                self._wake.set()
                async for _message in subscription.listen():
                    self._wake.set()
        except (RedisError, OSError) as exc:
            if self.figures["redis_up"]:
                log.warning("delivery.redis_away", error=type(exc).__name__)
            self.figures["redis_up"] = 0
        finally:
            with suppress(RedisError, OSError):
                await client.aclose()
        await asyncio.sleep(self.pace.redis_retry)


# --- In a thread of a worker process ----------------------------------------------------------------------------------


class LoopThread:
    """A delivery loop in a thread: made after the fork, one for each process."""

    def __init__(self, *, pace: Pace | None = None) -> None:
        self._pace = pace
        self._delivery: DeliveryLoop | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the loop has ended, or its time for that is over."""
        self._ended.set()
        if self._delivery:
            self._delivery.stop()
        self._thread.join((self._pace or Pace()).finish + 5)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._delivery = DeliveryLoop(pace=self._pace)
                asyncio.run(self._delivery.run())
            except Exception:
                log.exception("delivery.ended")
                self._ended.wait(1)
