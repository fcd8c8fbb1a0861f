"""Volume far from its own usual hour.

Shapes  unusual_volume(): one hour of one SMTP user against its own history; hours without mail count as zero.
        An hour is judged by the same hour of the week and its neighbours (a cron job that drifts, daylight saving), in
        the weeks before: median and median absolute deviation, which one odd week does not move. An hour that is far
        beyond is still usual if it is the hour of the day, the day of the month, or the irregular habit (newsletters)
        of that SMTP user, or if somebody said so.
Units   recipients an hour. history: recipients by hour start, at most HISTORY back, the hour itself not in it.
Source  1.4826 makes the deviation that of a normal distribution. docs/operations.md, Alerts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from audit.anomalies.models import Kind, Severity
from audit.anomalies.rows import Finding

LEAST: Final = 100  # an hour of fewer is never far from usual
HISTORY: Final = timedelta(days=100)
ENOUGH: Final = timedelta(days=21)
WEEKS: Final = 8
TIMES: Final = 4.0  # times the median
DEVIATIONS: Final = 8.0
PEAK: Final = 1.5  # times the largest hour that counts as usual
_WEEK: Final = timedelta(days=7)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(hours=20)  # nearer than that is the same event

History = Mapping[datetime, int]


@dataclass(frozen=True, slots=True)
class Usual:
    median: float
    bound: float


def slots(hour: datetime) -> list[list[datetime]]:
    """The same hour of the week in the weeks before, and the hours beside it: a list for each of the three."""
    return [[hour - _WEEK * week + _HOUR * beside for week in range(1, WEEKS + 1)] for beside in (0, -1, 1)]


def usual(hour: datetime, history: History, *, began_at: datetime) -> Usual:
    middle = spread = 0.0
    peak = 0
    for slot in slots(hour):
        values = [history.get(each, 0) for each in slot if each >= began_at]
        if not values:
            continue
        centre = median(values)
        middle, peak = max(middle, centre), max(peak, *values)
        spread = max(spread, median(abs(value - centre) for value in values))
    return Usual(middle, max(LEAST, TIMES * middle, middle + DEVIATIONS * 1.4826 * spread, PEAK * peak))


def unusual_volume(
    *,
    organization_id: int,
    smtp_user_id: int,
    hour: datetime,
    recipients: int,
    history: History,
    taught: int = 0,
) -> Finding | None:
    """None as well while there is not enough history. `taught`: an hourly volume that somebody said is right."""
    if recipients <= max(LEAST, PEAK * taught) or not history:
        return None
    began_at = min(history)
    if hour - began_at < ENOUGH:
        return None
    expected = usual(hour, history, began_at=began_at)
    if recipients <= expected.bound or _is_habit(hour, recipients, history, began_at):
        return None
    critical = recipients >= 10 * max(expected.bound, max(history.values()) / 4)
    largest = max(history, key=lambda each: history[each])
    return Finding(
        kind=Kind.VOLUME,
        organization_id=organization_id,
        key=f"{Kind.VOLUME}:{smtp_user_id}",
        severity=Severity.CRITICAL if critical else Severity.WARNING,
        evidence={
            "recipients": recipients,
            "hour": hour,
            "usual": round(expected.median),
            "bound": round(expected.bound),
            "largest": history[largest],
            "largest_at": largest,
        },
        smtp_user_ids=frozenset({smtp_user_id}),
        first_at=hour,
        last_at=hour + _HOUR,
    )


def _is_habit(hour: datetime, recipients: int, history: History, began_at: datetime) -> bool:
    alike = recipients / PEAK
    near = [each for each, count in history.items() if count >= alike]
    return (
        any(_same_hour_of_day(each, hour) and _DAY <= hour - each <= 2 * _WEEK for each in near)
        or any(_same_day_of_month(each, hour) for each in near)
        or len(set(_irregular_days(history, recipients / 2, began_at))) >= 2
    )


def _same_hour_of_day(one: datetime, other: datetime) -> bool:
    apart = abs(one.hour - other.hour)
    return min(apart, 24 - apart) <= 2


def _same_day_of_month(one: datetime, other: datetime) -> bool:
    """Within three days (weekends move it), and an hour of the day that is near."""
    if other - one < timedelta(days=20):
        return False
    apart = abs(one.day - other.day)
    return min(apart, 31 - apart) <= 3 and _same_hour_of_day(one, other)


def _irregular_days(history: History, least: float, began_at: datetime) -> Iterator[object]:
    """Days of large hours that their own weeks before do not explain."""
    for each, count in history.items():
        if count >= least and each - began_at >= _WEEK and count > usual(each, history, began_at=began_at).bound:
            yield each.date()
