"""Volume against its own usual hour: what is far from it, and what only looks so."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.anomalies.models import Severity
from audit.anomalies.rows import Finding
from audit.anomalies.volume import ENOUGH, LEAST, unusual_volume

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)  # a Tuesday
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def weekly(recipients: int, *, weeks: int = 9, hour: datetime = NOW) -> dict[datetime, int]:
    return {hour - week * 7 * DAY: recipients for week in range(1, weeks + 1)}


def judge(recipients: int, history: dict[datetime, int], *, hour: datetime = NOW, taught: int = 0) -> Finding | None:
    return unusual_volume(
        organization_id=1, smtp_user_id=11, hour=hour, recipients=recipients, history=history, taught=taught
    )


def test_far_beyond_the_usual_hour() -> None:
    """Ten times the median is told with both figures; three times is not."""
    finding = judge(2_000, weekly(200))
    assert finding is not None
    assert (finding.evidence["recipients"], finding.evidence["usual"]) == (2_000, 200)
    assert judge(600, weekly(200)) is None


def test_a_hundredfold_is_critical() -> None:
    """Severity grows with the distance."""
    near, far = judge(1_000, weekly(200)), judge(100_000, weekly(200))
    assert near is not None and far is not None
    assert (near.severity, far.severity) == (Severity.WARNING, Severity.CRITICAL)


def test_not_before_enough_history() -> None:
    """Under three weeks nothing is judged; without any history neither."""
    assert judge(9_999, {NOW - ENOUGH + HOUR: 100}) is None
    assert judge(9_999, {}) is None
    assert judge(9_999, {NOW - ENOUGH: 100}) is not None


def test_small_hours_are_never_far() -> None:
    """A hundred emails in an hour are no alarm, whatever is usual."""
    assert judge(LEAST, weekly(1)) is None


def test_one_odd_week_moves_nothing() -> None:
    """The median of eight weeks does not follow a single outlier, only its peak does."""
    history = weekly(200)
    history[NOW - 21 * DAY] = 20_000
    assert judge(25_000, history) is None  # as large as once before in this hour
    assert judge(40_000, history) is not None


@pytest.mark.parametrize("shift", [-1, 1])
def test_daylight_saving_moves_a_job_by_an_hour(shift: int) -> None:
    """The hours beside it count as its own."""
    assert judge(3_000, weekly(3_000, hour=NOW + shift * HOUR)) is None


def test_the_night_is_not_the_day() -> None:
    """What is usual at noon is far from usual at three in the night."""
    history = {
        NOW - day * DAY + (hour - 12) * HOUR: 2_000 if 9 <= hour < 18 else 20
        for day in range(1, 60)
        for hour in range(24)
    }
    assert judge(2_000, history) is None
    assert judge(2_000, history, hour=NOW.replace(hour=3)) is not None


def test_another_day_of_the_same_time() -> None:
    """A weekly mailing that slips by a day after a holiday is known by its time of day."""
    assert judge(3_000, weekly(3_000), hour=NOW + DAY) is None


def test_a_monthly_run() -> None:
    """The invoices of the first were sent a month ago, at the same time, on whatever weekday."""
    first = datetime(2026, 4, 1, 6, tzinfo=UTC)
    history = {first - timedelta(days=31): 4_000} | {first - day * DAY: 5 for day in range(1, 90) if day != 31}
    assert judge(4_000, history, hour=first) is None
    assert judge(9_000, history, hour=first) is not None


def test_campaigns_that_come_when_they_want() -> None:
    """After two irregular bursts of its size a third one is a habit."""
    history = weekly(50) | {NOW - 40 * DAY - 5 * HOUR: 3_000}
    assert judge(3_000, history) is not None
    assert judge(3_000, history | {NOW - 23 * DAY + 4 * HOUR: 2_500}) is None


def test_what_was_said_to_be_right() -> None:
    """ "This was me" holds for half as much again, and no more."""
    assert judge(2_900, weekly(200), taught=2_000) is None
    assert judge(3_100, weekly(200), taught=2_000) is not None


@given(st.lists(st.integers(0, 5_000), min_size=8, max_size=8), st.integers(0, 5_000))
def test_no_more_than_ever_before_is_never_unusual(values: list[int], recipients: int) -> None:
    """An hour that does not exceed the most of its own weeks opens nothing."""
    history = {NOW - week * 7 * DAY: value for week, value in enumerate(values, start=1)}
    assert judge(min(recipients, max(values)), history) is None
