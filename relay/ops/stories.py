"""The timeline of a username's or an address's story: attempts hour by hour, and their bars.

Shapes  hours_of(filters) -> Hours that had attempts. chart_of(hours) -> Chart, in units of an SVG view box.
Units   count: attempts. Hours are UTC. A bar is BAR wide; the highest is HEIGHT high.
Source  audit/review.py tells the rest of the story.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Q, Sum
from django.db.models.functions import TruncHour

from audit.models import Result
from audit.queries import AuthFilters, filtered_events

BAR, HEIGHT = 6, 100
LOWEST = 2  # so that one attempt beside a flood is still seen


@dataclass(frozen=True, slots=True)
class Hour:
    at: datetime
    accepted: int
    refused: int  # or could not be checked


@dataclass(frozen=True, slots=True)
class Bar:
    hour: Hour
    x: int
    accepted_y: int
    accepted_height: int
    refused_y: int
    refused_height: int


@dataclass(frozen=True, slots=True)
class Chart:
    width: int
    height: int
    bars: list[Bar]
    peak: int
    since: datetime
    until: datetime


def hours_of(filters: AuthFilters) -> list[Hour]:
    """From the events: sums by hour do not know usernames."""
    grouped = (
        filtered_events(None, filters=filters)
        .annotate(hour=TruncHour("at", tzinfo=UTC))
        .values("hour")
        .annotate(all=Sum("count"), accepted=Sum("count", filter=Q(result=Result.ACCEPTED), default=0))
        .order_by("hour")
    )
    return [Hour(row["hour"], row["accepted"], row["all"] - row["accepted"]) for row in grouped]


def chart_of(hours: list[Hour], *, since: datetime, now: datetime) -> Chart:
    """Each hour's bar at its true place in the period."""
    start = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    peak = max((hour.accepted + hour.refused for hour in hours), default=0)
    return Chart(
        width=(int((now - start) / timedelta(hours=1)) + 1) * BAR,
        height=HEIGHT,
        bars=[_bar(hour, start=start, peak=peak) for hour in hours],
        peak=peak,
        since=start,
        until=now,
    )


def _bar(hour: Hour, *, start: datetime, peak: int) -> Bar:
    refused = _height(hour.refused, peak)
    accepted = min(_height(hour.accepted, peak), HEIGHT - refused)
    return Bar(
        hour=hour,
        x=int((hour.at - start) / timedelta(hours=1)) * BAR,
        accepted_y=HEIGHT - accepted,
        accepted_height=accepted,
        refused_y=HEIGHT - accepted - refused,
        refused_height=refused,
    )


def _height(count: int, peak: int) -> int:
    return max(LOWEST, round((HEIGHT - LOWEST) * count / peak)) if count else 0
