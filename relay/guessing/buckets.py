"""Leaky buckets by key, in bounded memory: how much somebody has failed lately.

Shapes  Rule(most, every): `most` failures at once, then one more every `every` seconds.
Units   seconds on whatever clock the caller uses; it may go back (no drop is lost), and keys are never compared.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Rule:
    most: float
    every: float

    def wait(self, level: float) -> float:
        """Seconds until one more failure fits; 0 if it fits now."""
        over = level - (self.most - 1)
        return over * self.every if over > 1e-9 else 0.0


class Buckets(Generic[Key]):
    """The least recently used key is forgotten first."""

    def __init__(self, rule: Rule, *, keys_max: int, level_max: float) -> None:
        """level_max bounds the wait: who has failed a thousand times waits no longer than who reached it."""
        self.rule, self._keys_max, self._level_max = rule, keys_max, level_max
        self._levels: OrderedDict[Key, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._levels)

    def level(self, key: Key, now: float) -> float:
        kept = self._levels.get(key)
        return 0.0 if kept is None else max(0.0, kept[0] - max(0.0, now - kept[1]) / self.rule.every)

    def wait(self, key: Key, now: float) -> float:
        return self.rule.wait(self.level(key, now)) if key in self._levels else 0.0

    def add(self, key: Key, now: float, weight: float = 1.0) -> float:
        """The level with this failure in it."""
        kept = self._levels.get(key)
        level = min(self._level_max, self.level(key, now) + weight)
        self._levels[key] = (level, now if kept is None else max(now, kept[1]))
        self._levels.move_to_end(key)
        if len(self._levels) > self._keys_max:
            self._levels.popitem(last=False)
        return level

    def forget(self, key: Key) -> None:
        self._levels.pop(key, None)
