"""relay.queries.full_at: when the limit is reached if sending goes on as it does."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from relay.limits import Usage
from relay.queries import full_at

NOW = datetime(2026, 5, 31, 14, 0, tzinfo=UTC)


def _usage(limit: int, per_minute: list[int]) -> Usage:
    return Usage(limit, sum(per_minute), 0, per_minute)


def test_steady_rate_is_carried_on() -> None:
    """500 used in ten minutes, 50 a minute more: 1,000 are reached after ten minutes."""
    usage = Usage(1000, 500, 0, [0] * 51 + [50] * 10)
    assert full_at(usage, now=NOW) == NOW + timedelta(minutes=10)


def test_what_leaves_the_window_makes_room() -> None:
    """Ten a minute for the whole hour stay at 610: no forecast for a limit of 700."""
    assert full_at(_usage(700, [10] * 61), now=NOW) is None


def test_silence_is_never_full() -> None:
    """Nothing sent in the last ten minutes: nothing to carry on."""
    assert full_at(_usage(1000, [90] * 10 + [0] * 51), now=NOW) is None


@given(st.lists(st.integers(0, 100), min_size=61, max_size=61), st.integers(1, 5000))
def test_forecast_is_within_the_hour(per_minute: list[int], limit: int) -> None:
    """Whatever was sent, the answer lies between now and an hour from now, or there is none."""
    at = full_at(_usage(limit, per_minute), now=NOW)
    assert at is None or NOW < at <= NOW + timedelta(hours=1)
