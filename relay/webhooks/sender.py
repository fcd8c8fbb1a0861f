"""What posts, in each worker process: claims, posts in threads, settles in batches; and finds events by sweeps.

Shapes  Sender.run() until stop(), in a thread of its own with Django's connection of that thread, which no other thread
        touches. It needs PostgreSQL alone; Celery only starts and stops it (config/celery.py).
Units   Pace: seconds.
Errors  None end it: what a round raises is logged, and the next one begins. Results that could not be written are
        written with the next round; what a dead worker had posted is posted again under the same id.
Source  docs/webhooks.md, docs/flow.md.
"""

import queue as queues
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final
from uuid import UUID

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from relay.logs import get_logger
from relay.webhooks import limits, queue, sweeps
from relay.webhooks.lanes import Lanes
from relay.webhooks.posting import SECONDS, Job, Outcome, Poster
from relay.webhooks.queue import LEASE_SECONDS, Done

BATCH: Final = 200  # results of one transaction

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    claim: float = 1.0  # at most between two claims
    gather: float = 0.02  # so long results are collected before they are written
    accepted: float = 2.0
    auth: float = 20.0
    limits: float = 10.0
    recover: float = 10.0
    retry: float = 1.0  # after an error
    finish: float = 5.0  # for posts in flight when the process ends


class Sender:
    def __init__(self, *, pace: Pace | None = None, seconds: float = SECONDS, lanes: Lanes[Any] | None = None) -> None:
        self.pace = pace or Pace()
        self._poster = Poster(seconds=seconds)
        self._lanes: Lanes[tuple[Job, UUID]] = lanes or Lanes()
        self._threads = ThreadPoolExecutor(self._lanes.threads, thread_name_prefix="webhook")
        self._news: queues.SimpleQueue[tuple[Done, bool] | None] = queues.SimpleQueue()
        self._done: list[Done] = []
        self._returned: list[tuple[Job, UUID]] = []
        self._running = 0
        self._stopping = threading.Event()
        self._due: dict[str, float] = {}
        self._claims_from = 0.0

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._round()
            self._finish()
        finally:
            connections.close_all()

    def stop(self) -> None:
        """Asks it to end; may be called from any thread."""
        self._stopping.set()
        self._news.put(None)

    def _round(self) -> None:
        try:
            self._write()
            self._sweep()
            claimed = self._claim()
            self._post()
            self._wait(0.0 if claimed else self.pace.claim)
        except (DatabaseError, InterfaceError) as error:
            log.warning("webhook.database_away", error=type(error).__name__)
            self._recover_from_error()
        except Exception:
            log.exception("webhook.round_failed")
            self._recover_from_error()

    def _recover_from_error(self) -> None:
        with suppress(Exception):
            connections.close_all()
        self._stopping.wait(self.pace.retry)

    # --- Posts -------------------------------------------------------------------------------------------------------

    def _claim(self) -> int:
        room, began = self._lanes.room(), monotonic()
        if began < self._claims_from or not (room.good or room.poor):
            return 0
        lease, jobs = queue.claim(room)
        # Thousands of endpoints with something waiting make a claim dear: it may take a third of the time at most.
        self._claims_from = monotonic() + 2 * (monotonic() - began)
        for job in jobs:
            self._lanes.put(job.endpoint_id, (job, lease), owner=job.organization_id)
        return len(jobs)

    def _post(self) -> None:
        while (item := self._lanes.next()) is not None:
            (job, lease), is_poor = item
            if monotonic() - job.claimed_at > LEASE_SECONDS - 2 * SECONDS:  # another worker will soon have it
                self._lanes.done(job.endpoint_id, was_poor=is_poor, seconds=0, is_success=True)
                self._returned.append((job, lease))
                continue
            self._running += 1
            posted = self._threads.submit(self._poster.post, job)
            posted.add_done_callback(self._told(job, lease, is_poor))

    def _told(self, job: Job, lease: UUID, is_poor: bool) -> Callable[["Future[Outcome]"], None]:
        return lambda posted: self._news.put((Done(job, lease, posted.result()), is_poor))

    def _wait(self, seconds: float) -> None:
        """For the next result, and then for those that come with it."""
        with suppress(queues.Empty):
            news = self._news.get(timeout=self._until_next(seconds) if not self._done else self.pace.gather)
            ends_at = monotonic() + self.pace.gather
            while True:
                if news is not None:
                    self._hear(*news)
                    self._post()
                if len(self._done) >= BATCH:
                    return
                news = self._news.get(timeout=max(0.0, ends_at - monotonic()))

    def _until_next(self, seconds: float) -> float:
        """Posts in flight bring results; without any, the next claim is what is waited for."""
        return max(seconds, self.pace.gather if self._running else 0.0)

    def _hear(self, done: Done, was_poor: bool) -> None:
        self._running -= 1
        self._done.append(done)
        outcome = done.outcome
        self._returned += self._lanes.done(
            done.job.endpoint_id, was_poor=was_poor, seconds=outcome.seconds, is_success=outcome.is_success
        )

    def _write(self) -> None:
        """What could not be written stays in the lists."""
        if self._done:
            batch = self._done[:BATCH]
            try:
                queue.settle(batch)
            except (OperationalError, InterfaceError):
                raise
            except DatabaseError:
                self._write_one_by_one(batch)
            del self._done[: len(batch)]
        if self._returned:
            queue.give_back([job.id for job, _lease in self._returned], [lease for _job, lease in self._returned])
            self._returned.clear()

    def _write_one_by_one(self, batch: Sequence[Done]) -> None:
        """One that cannot be written must not keep the others from it; its lease ends, and it is posted again."""
        for each in batch:
            try:
                queue.settle([each])
            except (OperationalError, InterfaceError):
                raise
            except DatabaseError:
                log.exception("webhook.result_lost", delivery_id=each.job.id)

    def _finish(self) -> None:
        """Posts in flight are waited for a little; those that are not posted yet are given back."""
        ends_at = monotonic() + self.pace.finish
        while (item := self._lanes.next()) is not None:
            self._returned.append(item[0])
        while self._running and monotonic() < ends_at:
            with suppress(queues.Empty):
                if (news := self._news.get(timeout=max(0.0, ends_at - monotonic()))) is not None:
                    self._hear(*news)
        with suppress(DatabaseError, InterfaceError):
            while self._done or self._returned:
                self._write()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._poster.close()

    # --- Sweeps ------------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        for name, seconds, work in (
            ("accepted", self.pace.accepted, sweeps.find_accepted),
            ("auth", self.pace.auth, sweeps.find_failed_sign_ins),
            ("limits", self.pace.limits, limits.look),
            ("recover", self.pace.recover, queue.recover),
            ("lines", self.pace.recover, self._poster.close_old),
        ):
            if monotonic() >= self._due.get(name, 0.0):
                self._due[name] = monotonic() + seconds
                work()


class SenderThread:
    """A sender in a thread: made after the fork, one for each process."""

    def __init__(self) -> None:
        self._sender = Sender()
        self._thread = threading.Thread(target=self._sender.run, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._sender.stop()
        self._thread.join(timeout=self._sender.pace.finish + 5)
