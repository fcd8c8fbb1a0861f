"""Which failed logins get a row of their own, and which are counted in one that they share.

Shapes  Folder.place(AuthAttempt) -> None: a row of its own; else the Run that counts it, with its reference.
Units   rows; minutes of the attempts' own clock. Bounds are of the machine, divided among its processes.
Errors  None.
Source  docs/security.md, Floods; audit/folded.py.

The key of a run is (reason, /24 or /64, organization, SMTP user or unknown name, minute). The first few attempts of a
key stay single. Above KEYS_MAX new keys a minute a key widens to reason and prefix, above WIDE_MAX of those to the
reason alone. And rows cost from a budget that a flood empties, whatever keys it makes: 10,000,000 failures at 500 a
second cost less than 100,000 rows.
"""

from collections import Counter
from dataclasses import dataclass, field

from audit.folded import MINUTE, Run, RunKey
from audit.models import Result
from audit.record import AuthAttempt

SINGLES = 5  # of one key and minute
KEYS_MAX = 1_000  # new ones a minute
WIDE_MAX = 200
RUNS_MAX = 20_000  # kept while the database is away; beyond it the oldest is dropped

BUDGET = 10_000.0
BUDGET_PER_MINUTE = 150.0
BUDGET_PER_FAILURE = 0.002
SINGLES_LEAVE = 0.25  # of the budget: what is left is for shared rows, which tell more for each
TRUSTED_BUDGET = 1_000.0  # for addresses from which somebody signs in: a flood elsewhere takes no row from them
TRUSTED_PER_MINUTE = 20.0


@dataclass(slots=True)
class Budget:
    """Rows that may be made: so many at once, and as many more a minute."""

    most: float
    per_minute: float
    left: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.left = self.most

    def earn(self, now: float, rows: float = 0.0) -> None:
        passed = max(0.0, now - self.at) if self.at else 0.0
        self.left = min(self.most, self.left + passed / 60 * self.per_minute + rows)
        self.at = max(self.at, now)

    def spend(self, *, leave: float = 0.0) -> bool:
        if self.left - 1 < leave:
            return False
        self.left -= 1
        return True


class Folder:
    """One for each smtpd process."""

    def __init__(self, *, share: int = 1) -> None:
        self._keys_max, self._wide_max = max(10, KEYS_MAX // share), max(2, WIDE_MAX // share)
        self._budget = Budget(BUDGET / share, BUDGET_PER_MINUTE / share)
        self._trusted = Budget(TRUSTED_BUDGET / share, TRUSTED_PER_MINUTE / share)
        self._minute = 0
        self._seen: Counter[RunKey] = Counter()
        self._runs: dict[RunKey, Run] = {}
        self._wide = 0
        self.dropped = 0

    def place(self, each: AuthAttempt, *, trusted: bool = False) -> Run | None:
        """Accepted logins are never folded. trusted: somebody signed in from this address lately."""
        if each.result == Result.ACCEPTED:
            return None
        now = each.at.timestamp()
        self._begin(int(now) // MINUTE)
        self._budget.earn(now, BUDGET_PER_FAILURE)
        self._trusted.earn(now)
        key = RunKey(self._minute, each.reason, each.network, each.organization_id, each.smtp_user_id)
        if key not in self._seen and len(self._seen) >= self._keys_max and not (trusted and self._trusted.spend()):
            return self._counted(self._widened(each), each)
        self._seen[key] += 1
        if self._seen[key] <= SINGLES and self._may_be_single(trusted=trusted):
            return None
        if key not in self._runs and not ((trusted and self._trusted.spend()) or self._budget.spend()):
            key = self._widened(each)
        return self._counted(key, each)

    def take(self) -> list[Run]:
        """The runs that have counted something since the last time. Those of minutes that are over are forgotten."""
        runs = [run for run in self._runs.values() if run.count]
        over = self._minute - 1  # a process that stores late may still count in the minute before
        self._runs = {key: run for key, run in self._runs.items() if key.minute >= over}
        return runs

    @property
    def waiting(self) -> int:
        return sum(run.count > 0 for run in self._runs.values())

    def _begin(self, minute: int) -> None:
        if minute <= self._minute:
            return
        self._minute, self._wide = minute, 0
        self._seen.clear()
        while len(self._runs) > RUNS_MAX:
            self.dropped += self._runs.pop(next(iter(self._runs))).count

    def _may_be_single(self, *, trusted: bool) -> bool:
        if trusted and self._trusted.spend():
            return True
        return self._budget.spend(leave=self._budget.most * SINGLES_LEAVE)

    def _widened(self, each: AuthAttempt) -> RunKey:
        key = RunKey(self._minute, each.reason, each.network, is_narrow=False)
        if key in self._runs:
            return key
        if self._wide < self._wide_max and self._budget.spend():
            self._wide += 1
            return key
        return RunKey(self._minute, each.reason, is_narrow=False)

    def _counted(self, key: RunKey, each: AuthAttempt) -> Run:
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = Run(key, each)
        run.add(each)
        return run
