"""Lanes of one delivery loop: what goes the same way waits in one line, and no lane takes all there is.

Shapes  A lane has jobs that wait and up to `allowed` that are tried at once. Lanes.add() starts what may start.
Units   in_hand: recipients claimed and not yet written down. Seconds on the event loop's clock.
Source  docs/delivery.md, The queue.

How many are tried at once follows what the next hop can bear: from START up to PER_LANE, one more for each message that
went, half after each failure, one alone while it is in trouble.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic

from relay.cancellation import cancel
from relay.models.messages import Route
from relay.queue import Job, Room

START, PER_LANE = 10, 20
IN_HAND = 800  # recipients claimed for next hops
LANE_IN_HAND = 200  # above it no more of this lane is claimed
SANDBOX_IN_HAND = 800
FULL_SECONDS = 3.0  # for which a lane is full before anybody asks how fast it is
SLOW_SECONDS = 10.0  # a lane that needs longer for what is in hand is slow
ALIVE_SECONDS = 30.0  # after a message went, a failure is taken for too many at once, not for trouble
ASIDE_SECONDS = (15.0, 600.0)
BEHIND_SECONDS = 20.0  # after which the next of a lane in trouble may be the test


class Lane:
    """One of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[Job] = deque()
        self.running = self.in_hand = self.failures = self.aside = 0
        self.limit = START
        self.went_at = float("-inf")
        self._full_since = 0.0
        self._done = self._done_before = 0

    @property
    def allowed(self) -> int:
        return 1 if self.failures else self.limit

    @property
    def is_full(self) -> bool:
        return self.in_hand >= LANE_IN_HAND or self.is_on_trial

    @property
    def is_on_trial(self) -> bool:
        """In trouble, and its one message is there."""
        return self.failures > 0 and self.in_hand > 0

    @property
    def is_idle(self) -> bool:
        return not self.in_hand and not self.running

    def count(self, recipients: int) -> None:
        """Claimed, or written down (less than 0)."""
        was_full = self.in_hand >= LANE_IN_HAND
        self.in_hand += recipients
        self._done -= min(recipients, 0)
        if not was_full and self.in_hand >= LANE_IN_HAND:
            self._full_since, self._done_before, self.aside = monotonic(), self._done, 0

    def went(self) -> None:
        self.failures = 0
        self.went_at = monotonic()
        self.limit = min(PER_LANE, self.limit + 1)

    def is_alive(self) -> bool:
        return monotonic() - self.went_at < ALIVE_SECONDS

    def seconds_aside(self) -> float:
        """For how long mail that finds this full lane is put aside; 0 if the lane moves well enough to wait for it."""
        full_for = monotonic() - self._full_since
        if self.in_hand < LANE_IN_HAND or full_for < FULL_SECONDS:
            return 0
        each_second = (self._done - self._done_before) / full_for
        if each_second * SLOW_SECONDS > self.in_hand:
            return 0
        least, most = ASIDE_SECONDS
        return min(most, max(least, (self.in_hand + self.aside) / max(each_second, 0.01)))


class Lanes:
    """All of one loop."""

    def __init__(self, work: Callable[[Job, Lane], Awaitable[None]]) -> None:
        self._work = work
        self._lanes: dict[str, Lane] = {}
        self._in_use: set[Lane] = set()  # with something in hand
        self._crowded: dict[str, float] = {}  # by lane: until when
        self._tasks: set[asyncio.Task[None]] = set()
        self.in_hand = self.sandbox_in_hand = self.running = 0

    def add(self, job: Job) -> bool:
        """False: its lane is in trouble, and another message is the test."""
        lane = self.lane(job.lane)
        if job.failures and not lane.is_alive():
            lane.failures = max(lane.failures, job.failures)
        if lane.is_on_trial:
            return False
        self.count(job, len(job.recipients))
        lane.waiting.append(job)
        self.start(lane)
        return True

    def lane(self, name: str) -> Lane:
        if (lane := self._lanes.get(name)) is None:
            lane = self._lanes[name] = Lane(name)
        return lane

    def count(self, job: Job, recipients: int) -> None:
        """recipients: claimed, or (less than 0) no longer in hand."""
        if job.route == Route.SANDBOX:
            self.sandbox_in_hand += recipients
            return
        self.in_hand += recipients
        lane = self.lane(job.lane)
        lane.count(recipients)
        if lane.in_hand > 0:
            self._in_use.add(lane)
        else:
            self._in_use.discard(lane)

    def start(self, lane: Lane) -> None:
        for _ in range(min(lane.allowed - lane.running, len(lane.waiting))):
            lane.running += 1
            task = asyncio.create_task(self._serve(lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, lane: Lane) -> None:
        """One message after the other, while there are any and no more are tried than may be."""
        try:
            while lane.waiting and lane.running <= lane.allowed:
                job = lane.waiting.popleft()
                self.running += 1
                try:
                    await self._work(job, lane)
                finally:
                    self.running -= 1
        finally:
            lane.running -= 1
        self.start(lane)

    def take_waiting(self, lanes: Iterable[Lane] | None = None) -> list[Job]:
        """Those that have not begun, of these lanes or of all; they are no longer in hand."""
        taken: list[Job] = []
        for lane in list(self._in_use) if lanes is None else lanes:
            taken += lane.waiting
            lane.waiting.clear()
        for job in taken:
            self.count(job, -len(job.recipients))
        return taken

    def room(self) -> Room:
        routes = [Route.SANDBOX.value] if self.sandbox_in_hand < SANDBOX_IN_HAND else []
        if self.in_hand < IN_HAND:
            routes += [Route.SMARTHOST.value, Route.MX.value]
        now = monotonic()
        self._crowded = {name: until for name, until in self._crowded.items() if until > now}
        slow = dict.fromkeys(self._crowded, ASIDE_SECONDS[0])
        slow |= {lane.name: seconds for lane in self._in_use if (seconds := lane.seconds_aside())}
        slow |= {lane.name: BEHIND_SECONDS for lane in self._in_use if lane.is_on_trial}
        full = [lane.name for lane in self._in_use if lane.is_full and lane.name not in slow]
        return Room(routes, full, slow)

    def note_crowded(self, lane: Lane) -> None:
        """Its next hop has enough waiting from other lanes: its own mail comes later."""
        self._crowded[lane.name] = monotonic() + ASIDE_SECONDS[0]

    def with_waiting(self) -> list[Lane]:
        return [lane for lane in self._in_use if lane.waiting]

    def note_aside(self, parked: Iterable[tuple[str, int]]) -> None:
        for name, recipients in parked:
            if name in self._lanes:
                self._lanes[name].aside += recipients

    def forget_idle(self) -> None:
        """What is known of a lane in which nothing went for a while is not worth its memory."""
        for lane in [lane for lane in self._lanes.values() if lane.is_idle and not lane.is_alive()]:
            del self._lanes[lane.name]

    def has_room_for(self, job: Job) -> bool:
        """Whether a claim may bring more of what this was."""
        if job.route == Route.SANDBOX:
            return self.sandbox_in_hand < SANDBOX_IN_HAND
        return self.in_hand < IN_HAND and not self.lane(job.lane).is_full

    def __len__(self) -> int:
        return len(self._in_use)

    async def end(self, *, timeout: float) -> int:
        """Waits for what runs; then ends it. Returns how many did not come to their end."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)
        unfinished = list(self._tasks)
        await cancel(unfinished)
        return len(unfinished)
