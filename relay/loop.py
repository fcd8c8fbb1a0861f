"""The delivery loop of one worker process: claims by itself, delivers, settles, recovers, reports.

Shapes  One asyncio loop in a thread of its own, started after the fork, with its own connections and sessions. It needs
        PostgreSQL only: Redis shortens the wait between claims, Celery starts and stops it.
Units   Pace: seconds. A lease is renewed at a quarter of its life; after three quarters unrenewed, no final dot.
Errors  None end the loop: what a part raises is logged, and the part begins again.
Source  docs/flow.md, Delivery.
"""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TypeVar

import redis.asyncio
from django.conf import settings
from psycopg.types.json import Jsonb
from redis.exceptions import RedisError

from relay import delivery, leases, limits, next_hop_troubles, queue
from relay.bounces import reporter
from relay.cancellation import cancel
from relay.connections import DATABASE_ERRORS, Connection, make_pool
from relay.content import aload
from relay.database import ONE_PLAN, connect
from relay.delivery import Tools
from relay.lanes import ASIDE_SECONDS, BEHIND_SECONDS, Lane, Lanes
from relay.ledger import Ledger
from relay.logs import get_logger
from relay.models.messages import Route
from relay.mx.route import MxRoute
from relay.next_hop_troubles import Trouble
from relay.next_hops import CrowdedError, NextHops
from relay.presence import forget_dead
from relay.queue import Claim, Job, LeaseLostError, Room, Settlement
from relay.signing import Signing
from relay.smtp.client import Timeouts
from relay.smtp.wakeup import CHANNEL

CLAIM = 200  # recipients of one claim, which is also the most of one message in one transaction
PEEK_WINDOW = 500  # how far a claim looks for others behind lanes that are full, once in Pace.claim
NEWEST_EACH = 4  # while there is more than one claim takes, each so many-th begins with what came last
LARGE_OCTETS = 4 * 1024 * 1024
LARGE_AT_ONCE = 4  # messages above it whose content is in memory

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


class DeliveryLoop:
    """run() until stop(). Everything of it belongs to the event loop that runs it, but stop()."""

    def __init__(self, *, pace: Pace | None = None, timeouts: Timeouts | None = None, worker: str = "") -> None:
        self.pace = pace or Pace()
        self.worker = (worker or f"delivery@{socket.gethostname()[:40]}:{os.getpid()}")[:64]
        self.figures: Counter[str] = Counter()
        self._hops = NextHops(timeouts=timeouts)
        self._pool = make_pool(name=self.worker)
        self._mx = MxRoute(self._pool)
        self._signing = Signing()
        self._wake, self._stopping = asyncio.Event(), asyncio.Event()
        self._lanes = Lanes(self._attempt)
        self._ledger = Ledger(
            self._pool,
            worker=self.worker,
            figures=self.figures,
            lease=self.pace.lease,
            retry=self.pace.retry,
            on_free=self._free,
        )
        self._more = False  # more could be due than was claimed
        self._claims = 0
        self._is_putting_aside = False  # what is oldest cannot go now
        self._peeked_at = float("-inf")
        self._claiming: Connection | None = None
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
                (self._ledger.renew, self.pace.renew),
                *((part, 0.0) for part in self._ledger.parts),
                (self._sweep, self.pace.sweep),
                (self._report, self.pace.sweep),
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
        claiming, *keeping = parts[:4]
        until = monotonic() + self.pace.finish
        await cancel([claiming, *parts[4:]])
        self._lanes.take_waiting()
        unfinished = await self._lanes.end(timeout=self.pace.finish)
        await self._ledger.finish(timeout=max(1.0, until - monotonic()))
        await cancel(keeping)
        with suppress(*DATABASE_ERRORS):
            async with self._pool.connection() as connection:
                await connection.execute("DELETE FROM relay_worker WHERE name = %s", [self.worker])
        await self._hops.close_idle(older_than=0)
        await self._mx.close()
        if self._claiming:
            await self._claiming.close()
        await self._pool.close()
        log.info("delivery.stopped", worker=self.worker, unfinished=unfinished)

    # --- Claiming ---

    async def _claim_and_start(self) -> None:
        """One claim; then at once another while there is more and room for it, else a wait."""
        self._wake.clear()
        room = self._lanes.room()
        claim = await self._claim(room) if room.routes else Claim(())
        self._more = bool(room.full) or not room.routes or claim.rows >= CLAIM
        if claim.rows >= CLAIM and not self._is_looked_for_in_vain():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self.pace.claim):
                await self._wake.wait()

    def _is_looked_for_in_vain(self) -> bool:
        """Lanes are full, and others were looked for just now: to pass the full ones costs more than a wait."""
        return bool(self._lanes.room().full) and monotonic() - self._peeked_at < self.pace.claim

    async def _claim(self, room: Room) -> Claim:
        began = monotonic()
        self._claims += self._more
        each = 2 if self._is_putting_aside else NEWEST_EACH
        is_peek = bool(room.full)
        connection = await self._claim_connection()
        claim = await queue.claim(
            connection,
            limit=CLAIM,
            room=room,
            lease_seconds=self.pace.lease,
            window=PEEK_WINDOW if is_peek else queue.WINDOW,
            newest_first=self._more and self._claims % each == 0,
        )
        if is_peek and claim.rows < CLAIM:
            self._peeked_at = began
        self._is_putting_aside = claim.recipients * 2 < claim.rows
        self._start(claim, began)
        return claim

    async def _claim_connection(self) -> Connection:
        if self._claiming is None or self._claiming.closed or self._claiming.broken:
            self._claiming = await connect(application_name=f"gatepost {self.worker} claims", options=ONE_PLAN)
        return self._claiming

    def _start(self, claim: Claim, began: float) -> None:
        self.figures["claimed"] += claim.recipients
        self.figures["put_aside"] += sum(claim.parked.values())
        self._lanes.note_aside(claim.parked.items())
        behind: list[Job] = []
        for job in claim.jobs:
            self._ledger.hold(job, began)
            if job.route == Route.SANDBOX:
                self._lanes.count(job, len(job.recipients))
                self._ledger.settle(job, delivery.keep(job))
            elif not self._lanes.add(job):
                behind.append(job)
        if behind:
            self._ledger.put_all_back(behind, wait_seconds=BEHIND_SECONDS)

    # --- Attempts ---

    async def _attempt(self, job: Job, lane: Lane) -> None:
        tools = Tools(
            hops=self._hops,
            mx=self._mx,
            load=self._load,
            before_final_dot=self._ledger.before_final_dot,
            return_domain=self._return_domain,
        )
        try:
            if job.size_octets > LARGE_OCTETS:
                async with self._large:
                    settlements = await delivery.attempt(job, tools)
            else:
                settlements = await delivery.attempt(job, tools)
        except CrowdedError:
            self._lanes.note_crowded(lane)
            self._ledger.put_back(job, recipients=len(job.recipients), wait_seconds=ASIDE_SECONDS[0])
            return
        except (LeaseLostError, *DATABASE_ERRORS) as exc:
            self.figures["leases_lost"] += 1
            log.warning("delivery.lease_lost", message=str(job.message_id), error=type(exc).__name__)
            settlements = []
        except Exception as exc:
            self.figures["errors"] += 1
            log.exception("delivery.attempt_failed", message=str(job.message_id))
            settlements = delivery.unexpected(job, exc)
        self._ledger.settle(job, settlements)
        if len(settlements) < len(job.recipients):
            self._ledger.put_back(job, recipients=len(job.recipients) - len(settlements))
        if settlements:
            await self._judge(lane, settlements)

    async def _load(self, job: Job) -> bytes:
        content = job.content
        if content is None:
            async with self._pool.connection() as connection:
                content = await aload(connection, job.message_id)
        return await self._signing.signed(
            self._pool, content, organization_id=job.organization_id, header_from=job.header_from
        )

    def _return_domain(self, job: Job) -> str:
        return self._signing.return_domain(organization_id=job.organization_id, header_from=job.header_from)

    async def _judge(self, lane: Lane, settlements: Sequence[Settlement]) -> None:
        """Whether this lane can be used: all workers are told when it cannot, and when it can again."""
        if not all(one.host_failed for one in settlements):
            was_in_trouble = lane.failures > 0
            lane.went()
            if was_in_trouble:
                await self._tell(next_hop_troubles.recovered, lane.name)
        elif lane.is_alive():
            lane.limit = max(1, lane.limit // 2)  # the others go: this was one too many
        else:
            trouble = await self._tell(next_hop_troubles.failed, lane.name, settlements[-1].reply)
            if trouble is not None:
                self._hold_up(lane, trouble)

    async def _tell(self, told: Callable[..., Awaitable[T]], *words: str) -> T | None:
        try:
            async with self._pool.connection() as connection:
                return await told(connection, *words)
        except DATABASE_ERRORS:
            return None  # the next message in this lane is tried as this one was

    def _hold_up(self, lane: Lane, trouble: Trouble) -> None:
        """What waits in a blocked lane goes back to the queue, where the claims put it aside."""
        lane.failures = trouble.failures
        if trouble.seconds and (jobs := self._lanes.take_waiting([lane])):
            self._ledger.put_all_back(jobs, wait_seconds=0)
            self._wake.set()

    def _free(self, job: Job, recipients: int) -> None:
        self._lanes.count(job, -recipients)
        if self._more and self._lanes.has_room_for(job):
            self._wake.set()

    # --- The parts beside ---

    async def _sweep(self) -> None:
        """Takes back lapsed leases, releases held mail that fits by now, closes sessions that lie idle."""
        await self._hops.close_idle()
        self._lanes.forget_idle()
        waiting = self._lanes.with_waiting()
        async with self._pool.connection() as connection:
            recovered = await leases.recover(connection)
            released = await limits.release_held(connection)
            blocked = await next_hop_troubles.blocked(connection, [lane.name for lane in waiting]) if waiting else {}
        for lane in waiting:
            if lane.name in blocked:
                self._hold_up(lane, blocked[lane.name])
        self.figures["recovered"] += recovered
        self.figures["released"] += released
        if recovered:
            log.warning("delivery.recovered", recipients=recovered)
        if recovered or released:
            self._wake.set()

    async def _report(self) -> None:
        """Writes what senders are to be told of failures and delays."""
        async with self._pool.connection() as connection:
            if await reporter.write_due(connection):
                self._wake.set()

    async def _heartbeat(self) -> None:
        figures = {
            **self.figures,
            "in_flight": self._lanes.running,
            "in_hand": self._lanes.in_hand,
            "lanes": len(self._lanes),
            "sessions": self._hops.open_sessions,
        }
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
