"""The arithmetic of a rolling window: pure functions over sixty-one one-minute buckets.

Shapes  buckets: list of 61 counts; the bucket of minute m stands at m modulo 61. minute: the last one written.
Units   minute: Unix time divided by 60, whole. A recipient of minute m leaves as minute m + 61 begins, 60 to 61
        minutes after it was accepted: so in no rolling 60 minutes is more accepted than the limit.
Errors  None.
"""

from dataclasses import dataclass, field

BUCKETS = 61


@dataclass(slots=True)
class Window:
    minute: int
    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def advance(self, minute: int) -> None:
        """Empties the buckets of the minutes gone by. Time never runs backwards: an earlier minute changes nothing."""
        if minute - self.minute >= BUCKETS:
            self.buckets = [0] * BUCKETS
        else:
            for passed in range(self.minute + 1, minute + 1):
                self.buckets[passed % BUCKETS] = 0
        self.minute = max(self.minute, minute)

    @property
    def used(self) -> int:
        return sum(self.buckets)

    def add(self, count: int) -> None:
        self.buckets[self.minute % BUCKETS] += count

    def by_age(self) -> list[int]:
        """The counts from the oldest minute to the running one."""
        first = (self.minute + 1) % BUCKETS
        return self.buckets[first:] + self.buckets[:first]

    def seconds_until(self, count: int, *, limit: int, now: float) -> int | None:
        """Whole seconds until there is room for count; 0 if there is now, None if there never will be."""
        missing = self.used + count - limit
        if missing <= 0:
            return 0
        if count > limit:
            return None
        for age, leaving in enumerate(self.by_age()):
            missing -= leaving
            if missing <= 0:
                oldest = self.minute - BUCKETS + 1
                return max(1, -int(-((oldest + age + BUCKETS) * 60 - now) // 1))
        return None
