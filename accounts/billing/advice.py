"""Which plan would have refused how much, and what it costs: advice from what was really sent.

Shapes  Minutes: accepted emails by minute since the epoch.
        refused_under(minutes, limit) walks the rolling hour as the limit itself does; advise() -> one Advice for each
        plan, cheapest first, with the cheapest that would have refused nothing.
Units   emails; cents a month.
Errors  None.
Source  docs/billing.md, Advice.

An accept leaves the window 60 to 61 minutes later, as at the door. Emails of one minute count one by one here, while
a message with several recipients is taken whole or not at all at the door: the advice may be out by one message.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accounts.models import Plan

WINDOW_MINUTES = 61  # the running minute and the sixty before it


def refused_under(minutes: Mapping[int, int], limit: int) -> int:
    """How many of these emails a limit would have refused, had nobody tried again."""
    window: deque[tuple[int, int]] = deque()
    used = refused = 0
    for minute in sorted(minutes):
        while window and window[0][0] <= minute - WINDOW_MINUTES:
            used -= window.popleft()[1]
        taken = min(minutes[minute], limit - used)
        refused += minutes[minute] - taken
        if taken:
            window.append((minute, taken))
            used += taken
    return refused


def peak_of(minutes: Mapping[int, int]) -> int:
    """The most emails of any window: the least limit that refuses nothing."""
    window: deque[tuple[int, int]] = deque()
    used = most = 0
    for minute in sorted(minutes):
        while window and window[0][0] <= minute - WINDOW_MINUTES:
            used -= window.popleft()[1]
        window.append((minute, minutes[minute]))
        used += minutes[minute]
        most = max(most, used)
    return most


@dataclass(frozen=True, slots=True)
class Advice:
    plan: Plan
    refused: int
    is_best: bool = False


def advise(plans: Sequence[Plan], refused: Mapping[str, int]) -> list[Advice]:
    """One for each plan whose limit was tried, cheapest first; the first that refuses nothing is best, if any does.

    refused: hourly limit, as text -> emails.
    """
    tried = [plan for plan in plans if str(plan.recipients_per_hour) in refused]
    tried.sort(key=lambda plan: (plan.price_cents, plan.recipients_per_hour))
    found = [Advice(plan, refused[str(plan.recipients_per_hour)]) for plan in tried]
    best = next((advice for advice in found if not advice.refused), None)
    return [Advice(each.plan, each.refused, each is best) for each in found]
