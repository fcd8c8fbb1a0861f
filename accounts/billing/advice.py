"""Which plan would have refused how much, and what it costs: advice from what was really sent.

Shapes  Minutes: emails asked for by minute (accepted, and refused over the limit), aware UTC minutes since the epoch.
        refused_under(minutes, limit) walks the rolling hour as the limit itself does; advise() -> one Advice for each
        plan on sale, cheapest first, with the cheapest that would have refused nothing.
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


@dataclass(frozen=True, slots=True)
class Advice:
    plan: Plan
    refused: int
    is_best: bool = False


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


def advise(plans: Sequence[Plan], minutes: Mapping[int, int]) -> list[Advice]:
    """One for each plan, cheapest first; at most one is best."""
    found = [Advice(plan, refused_under(minutes, plan.recipients_per_hour)) for plan in plans]
    found.sort(key=lambda advice: (advice.plan.price_cents, advice.plan.recipients_per_hour))
    best = next((advice for advice in found if not advice.refused), None)
    return [Advice(each.plan, each.refused, each is best) for each in found]
