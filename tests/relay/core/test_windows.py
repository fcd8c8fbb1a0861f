"""relay.windows against a naive model: a list of what was accepted when."""

import copy

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.windows import BUCKETS, Window

HOUR, LATEST = 3600, 3660  # no more than the limit within the one; room again after the other
COUNTS = strategies.integers(1, 30)


class Limited(RuleBasedStateMachine):
    """Waits, steps of the clock and messages in any order. Time is the highest reading that the window has seen."""

    @initialize(start=strategies.floats(1.7e9, 1.8e9), limit=strategies.integers(1, 25))
    def begin(self, start: float, limit: int) -> None:
        self.now, self.seen, self.limit = start, start, limit
        self.window = Window(0)
        self.taken: list[tuple[float, int]] = []

    @rule(
        seconds=strategies.one_of(
            strategies.floats(0, 130),
            strategies.sampled_from([0.0, 59.0, 60.0, 61.0, 3540.0, 3599.0, 3600.0, 3659.0, 3660.0, 3661.0]),
            strategies.floats(0, 9000),
        )
    )
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_for_the_minute(self) -> None:
        self.now = (self.now // 60 + 1) * 60

    @rule(seconds=strategies.floats(0, 9000))
    def step_back(self, seconds: float) -> None:
        self.now -= seconds

    @rule(count=COUNTS)
    def send(self, count: int) -> None:
        self.seen = max(self.seen, self.now)
        self.window.advance(int(self.now // 60))
        if self.window.used + count <= self.limit:
            self.window.add(count)
            self.taken.append((self.seen, count))
        else:
            recent = sum(each for at, each in self.taken if self.seen - at < LATEST)
            assert recent + count > self.limit, "refused, though 61 minutes have passed"

    @rule(count=COUNTS)
    def ask(self, count: int) -> None:
        self.seen = max(self.seen, self.now)
        self.window.advance(int(self.now // 60))
        seconds = self.window.seconds_until(count, limit=self.limit, now=self.now)
        if seconds is None:
            assert count > self.limit
        else:
            assert self._fits(count, after=seconds)
            assert seconds == 0 or not self._fits(count, after=seconds - 1)

    def _fits(self, count: int, *, after: float) -> bool:
        window = copy.deepcopy(self.window)
        window.advance(int((self.now + after) // 60))
        return window.used + count <= self.limit

    @invariant()
    def no_hour_has_more_than_the_limit(self) -> None:
        for start, _count in getattr(self, "taken", []):
            assert sum(count for at, count in self.taken if start <= at < start + HOUR) <= self.limit


TestLimited = Limited.TestCase
TestLimited.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("second", [0.0, 0.5, 59.0, 59.999])
def test_a_full_minute_leaves_as_the_sixty_first_begins(second: float) -> None:
    """1,000 in the first minute leave no room until 61 minutes after it began, to the second."""
    window = Window(0)
    window.advance(0)
    window.add(1000)
    for now in (60.0, 3599.0, 3600.0, 3659.999):
        window.advance(int(now // 60))
        assert window.used == 1000
        assert window.seconds_until(1, limit=1000, now=now) == max(1, -int(-(3660 - now) // 1))
    window.advance(61)
    assert window.used == 0
    early = Window(0, [1000] + [0] * (BUCKETS - 1))
    assert early.seconds_until(1, limit=1000, now=second) == -int(-(3660 - second) // 1)


def test_time_never_runs_backwards() -> None:
    """An earlier minute empties nothing, and what is added counts in the last minute seen."""
    window = Window(1000)
    window.add(5)
    window.advance(900)
    window.add(2)
    assert (window.minute, window.used, window.by_age()[-1]) == (1000, 7, 7)


def test_more_than_the_limit_never_fits() -> None:
    """None, whatever is used; and a limit lowered below the use still tells a time."""
    window = Window(10)
    assert window.seconds_until(11, limit=10, now=600.0) is None
    window.add(50)
    assert window.seconds_until(10, limit=10, now=600.0) == 3660


def test_ages_are_told_from_the_oldest() -> None:
    """The running minute stands last."""
    window = Window(0)
    for minute in range(100):
        window.advance(minute)
        window.add(minute)
    assert window.by_age() == list(range(39, 100))
