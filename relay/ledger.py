"""What one delivery loop holds and writes down: its leases, marks before final dots, settlements.

Shapes  before_final_dot() returns once the mark is committed and the lease surely ours; settle() returns at once, and
        what became of the recipients is written with others' (relay.committer). on_free(job, n): n recipients of it
        are no longer in hand.
Units   seconds on the event loop's clock.
Errors  LeaseLostError from before_final_dot().
Source  docs/flow.md, Delivery.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

from django.utils import timezone

from relay import leases, settling
from relay.after_settle import Settled
from relay.cancellation import cancel
from relay.committer import Committer
from relay.connections import DATABASE_ERRORS, Connection, Pool
from relay.logs import get_logger
from relay.queue import ClaimedRecipient, Job, LeaseLostError, Settlement
from relay.settling import Mark

MOST = 200  # jobs of one transaction
LINGER_SECONDS = 0.01  # for which a settlement waits for others: nobody waits for it, and together they cost less

log = get_logger(__name__)


class Ledger:
    """Belongs to one event loop."""

    def __init__(
        self,
        pool: Pool,
        *,
        worker: str,
        figures: Counter[str],
        lease: float,
        retry: float,
        on_free: Callable[[Job, int], None],
    ) -> None:
        """lease: its length; retry: until the database is asked again."""
        self._pool, self._worker, self._figures, self._on_free = pool, worker, figures, on_free
        self._lease, self._retry = lease, retry
        self._renewed: dict[UUID, float] = {}  # our leases, and when each was last known to be ours
        self._marked: dict[int, int] = {}  # attempt rows by recipient, from the final dot until they are settled
        self._beside: set[asyncio.Task[None]] = set()
        self._marks = Committer[list[Mark], dict[int, int]](self._write_marks, name=f"{worker} marks", most=MOST)
        self._settles = Committer[tuple[Job, Sequence[Settlement]], list[Settled]](
            self._write_settles,
            name=f"{worker} settles",
            most=MOST,
            linger=LINGER_SECONDS,
            retry=retry,
            insists=True,
            on_wait=self._note_wait,
        )
        self.parts = (self._marks.run, self._settles.run)

    # --- Leases ---

    def hold(self, job: Job, since: float) -> None:
        self._renewed[job.lease] = since

    async def renew(self) -> None:
        if not (held := list(self._renewed)):
            return
        began = monotonic()
        async with self._pool.connection() as connection:
            ours = await leases.renew(connection, held, lease_seconds=self._lease)
        for lease in held:
            if lease in self._renewed:
                self._renewed[lease] = began if lease in ours else float("-inf")

    def put_back(self, job: Job, *, recipients: int, wait_seconds: float = 0) -> None:
        """So many of its recipients were not offered: nobody need wait for the lease's end."""
        self._run_beside(self._put_back([job.lease], wait_seconds))
        self._on_free(job, recipients)

    def put_all_back(self, jobs: Sequence[Job], *, wait_seconds: float) -> None:
        """Jobs that have not begun, and are counted no more."""
        self._run_beside(self._put_back([job.lease for job in jobs], wait_seconds))

    async def _put_back(self, held: list[UUID], wait_seconds: float) -> None:
        while True:
            try:
                async with self._pool.connection() as connection:
                    await leases.give_back(connection, held, wait_seconds=wait_seconds)
                break
            except DATABASE_ERRORS:
                self._note_wait()
                await asyncio.sleep(self._retry)
        for lease in held:  # what reached the final dot stays leased: it is not renewed, so the lease ends
            self._renewed.pop(lease, None)

    def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    # --- Marks ---

    async def before_final_dot(self, job: Job, recipients: Sequence[ClaimedRecipient]) -> None:
        """Raises LeaseLostError unless the lease is surely still ours."""
        self._demand_fresh(job)
        now = timezone.now()
        try:
            made = await self._marks.put([Mark(job, one, now, self._marked.get(one.id)) for one in recipients])
        except DATABASE_ERRORS as exc:
            raise LeaseLostError("The database is away.") from exc
        self._marked.update(made)
        if len(made) < len(recipients):
            raise LeaseLostError(str(job.lease))
        self._demand_fresh(job)  # the mark may have waited for the database

    def _demand_fresh(self, job: Job) -> None:
        if monotonic() - self._renewed.get(job.lease, float("-inf")) > self._lease * 3 / 4:
            raise LeaseLostError("The lease was not renewed in time.")

    async def _write_marks(self, connection: Connection, marks: Sequence[list[Mark]]) -> list[dict[int, int]]:
        made = await settling.mark_final_dots(connection, [mark for some in marks for mark in some], self._worker)
        ids = ([mark.recipient.id for mark in some] for some in marks)
        return [{id: made[id] for id in some if id in made} for some in ids]

    # --- Settlements ---

    def settle(self, job: Job, settlements: Sequence[Settlement]) -> None:
        """Has results written down, however long the database is away: what a next hop has taken must not go again."""
        if not settlements:
            return
        marked = self._marked
        done = [
            replace(one, attempt_id=marked[one.recipient.id]) if one.recipient.id in marked else one
            for one in settlements
        ]
        self._settles.put((job, done)).add_done_callback(partial(self._settled, job, done))

    async def _write_settles(
        self, connection: Connection, jobs: Sequence[tuple[Job, Sequence[Settlement]]]
    ) -> list[list[Settled]]:
        given = [(job, done) for job, settlements in jobs for done in settlements]
        by_lease: dict[UUID, list[Settled]] = {}
        for one in await self._settle_all(connection, given, is_last_try=len(jobs) == 1):
            by_lease.setdefault(one[0].lease, []).append(one)
        return [by_lease.get(job.lease, []) for job, _settlements in jobs]

    async def _settle_all(
        self, connection: Connection, given: Sequence[tuple[Job, Settlement]], *, is_last_try: bool
    ) -> list[Settled]:
        try:
            return await settling.settle(connection, given, worker=self._worker)
        except DATABASE_ERRORS:
            raise
        except Exception:
            if not is_last_try:
                raise  # they are tried one by one
            # Better no report and no event than a message that goes twice.
            log.exception("delivery.settled_alone", message=str(given[0][0].message_id))
        return await settling.settle(connection, given, worker=self._worker, alone=True)

    def _settled(self, job: Job, given: Sequence[Settlement], answer: "asyncio.Future[list[Settled]]") -> None:
        """Where they could not be written, the lease is not renewed either: it ends, and the mail is tried again."""
        self._renewed.pop(job.lease, None)
        for done in given:
            self._marked.pop(done.recipient.id, None)
        self._on_free(job, len(given))
        if answer.cancelled():
            return
        if answer.exception():
            self._figures["errors"] += 1
            return
        owned = answer.result()
        for _job, done, _state in owned:
            self._figures[str(done.outcome)] += 1
        if lost := len(given) - len(owned):
            self._figures["leases_lost"] += lost
            log.warning("delivery.settled_too_late", message=str(job.message_id), recipients=lost)

    def _note_wait(self) -> None:
        self._figures["settles_late"] += 1
        log.warning("delivery.settle_waits")

    # --- The end ---

    async def finish(self, *, timeout: float) -> None:
        """Writes what waits to be written; gives the rest back. The parts are still running."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._settles.drained()
                if self._beside:
                    await asyncio.wait(set(self._beside))
        await cancel(list(self._beside))
        with suppress(*DATABASE_ERRORS):
            async with self._pool.connection() as connection:
                await leases.give_back(connection, list(self._renewed))
