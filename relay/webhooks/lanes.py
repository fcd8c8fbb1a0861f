"""Who may post now: fairness between endpoints within one worker process. Arithmetic alone, without a clock of its own.

Shapes  Lanes.room() is for queue.claim(); put() takes what was claimed, next() gives the one to post now, done() hears
        how it went. Good endpoints share GOOD threads, those that fail or are slow share POOR others, one post
        at a time each: so whoever is slow waits for itself alone. One owner has half of either at most, however many
        endpoints it has: those that were quick and then hang, all at once, leave the other half to the others.
Units   SLOW_SECONDS: a post that takes longer makes its endpoint a poor one until it is quick again. AHEAD: claimed for
        each thread of an endpoint, so that it does not wait for the database.
Errors  None.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")

GOOD: Final = 64
POOR: Final = 16
WIDTH_FIRST: Final = 2
WIDTH_MAX: Final = 32
AHEAD: Final = 4
SLOW_SECONDS: Final = 2.0
FORGOTTEN_AFTER: Final = 10_000  # endpoints that are remembered


@dataclass(slots=True)
class Lane(Generic[T]):
    """One endpoint's. owner: the organization, 0 if unknown. width: posts at once; it grows with each quick success."""

    owner: int = 0
    width: int = WIDTH_FIRST
    is_poor: bool = False
    running: int = 0
    waiting: deque[T] = field(default_factory=deque)

    @property
    def room(self) -> int:
        ahead = 1 if self.is_poor else AHEAD
        return max(0, self.width * ahead - self.running - len(self.waiting))


@dataclass(frozen=True, slots=True)
class Room:
    """For what there is room. of: endpoint -> how many, and whether it is a poor one; of others: WIDTH_FIRST."""

    good: int
    poor: int
    of: Mapping[int, tuple[int, bool]]


class Lanes(Generic[T]):
    def __init__(self, *, good: int = GOOD, poor: int = POOR) -> None:
        self._most = {False: good, True: poor}
        self._running = {False: 0, True: 0}
        self._running_of: Counter[tuple[int, bool]] = Counter()  # owner, on threads for poor ones
        self._lanes: dict[int, Lane[T]] = {}
        self._turn: deque[int] = deque()  # endpoints with something waiting, the next one first

    @property
    def threads(self) -> int:
        return sum(self._most.values())

    @property
    def waiting(self) -> int:
        return sum(len(self._lanes[pk].waiting) for pk in self._turn)

    def room(self) -> Room:
        used = self._running_of.copy()
        for pk in self._turn:
            lane = self._lanes[pk]
            used[lane.owner, lane.is_poor] += len(lane.waiting)
        most = {False: self._most[False] * AHEAD, True: self._most[True]}

        def left(is_poor: bool) -> int:
            """What one owner has claimed beyond its half takes nothing from the others' room."""
            counted = [min(n, most[kind] // 2) if owner else n for (owner, kind), n in used.items() if kind == is_poor]
            return max(0, most[is_poor] - sum(counted))

        def own(lane: Lane[T]) -> int:
            share = most[lane.is_poor] // 2 - used[lane.owner, lane.is_poor]
            return max(0, min(lane.room, share)) if lane.owner else lane.room

        of = {pk: (own(lane), lane.is_poor) for pk, lane in self._lanes.items()}
        return Room(good=left(False), poor=left(True), of=of)

    def put(self, endpoint_id: int, item: T, *, owner: int = 0) -> None:
        lane = self._lanes.setdefault(endpoint_id, Lane(owner))
        if not lane.waiting:
            self._turn.append(endpoint_id)
        lane.waiting.append(item)

    def next(self) -> tuple[T, bool] | None:
        """What to post now, and whether on a thread for poor ones. The endpoints take turns."""
        for _each in range(len(self._turn)):
            pk = self._turn.popleft()
            lane = self._lanes[pk]
            may = lane.running < lane.width and self._has_thread(lane)
            item = lane.waiting.popleft() if may else None
            if lane.waiting:
                self._turn.append(pk)
            if item is not None:
                lane.running += 1
                self._running[lane.is_poor] += 1
                self._running_of[lane.owner, lane.is_poor] += 1
                return item, lane.is_poor
        return None

    def _has_thread(self, lane: Lane[T]) -> bool:
        most, own = self._most[lane.is_poor], self._running_of[lane.owner, lane.is_poor]
        return self._running[lane.is_poor] < most and (not lane.owner or own < max(1, most // 2))

    def done(self, endpoint_id: int, *, was_poor: bool, seconds: float, is_success: bool) -> Sequence[T]:
        """What is not to be posted now after all, to be given back: the endpoint has become a poor one.

        was_poor: as next() said, since what began as a good one's occupies one of their threads to its end.
        """
        lane = self._lanes[endpoint_id]
        lane.running -= 1
        self._running[was_poor] -= 1
        self._running_of[lane.owner, was_poor] -= 1
        if not self._running_of[lane.owner, was_poor]:
            del self._running_of[lane.owner, was_poor]
        if not is_success or seconds > SLOW_SECONDS:
            lane.is_poor, lane.width = True, 1
        else:
            lane.width = WIDTH_FIRST if lane.is_poor else min(WIDTH_MAX, lane.width + 1)
            lane.is_poor = False
        given_back: Sequence[T] = ()
        if lane.is_poor and lane.waiting:
            given_back, lane.waiting = tuple(lane.waiting), deque()
            self._turn.remove(endpoint_id)
        self._forget()
        return given_back

    def _forget(self) -> None:
        if len(self._lanes) > FORGOTTEN_AFTER:
            idle = [
                pk for pk, lane in self._lanes.items() if not lane.running and not lane.waiting and not lane.is_poor
            ]
            for pk in idle:
                del self._lanes[pk]
