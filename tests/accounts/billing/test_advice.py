"""What a plan would have refused."""

from hypothesis import given
from hypothesis import strategies as st

from accounts.billing.advice import advise, peak_of, refused_under
from accounts.models import Plan
from relay.windows import Window

MINUTES = st.dictionaries(st.integers(0, 400), st.integers(1, 60), max_size=60)


@given(MINUTES, st.integers(1, 300))
def test_it_refuses_what_the_doors_own_window_refuses(minutes: dict[int, int], limit: int) -> None:
    """Minute by minute against relay.windows, which binds the real accepts."""
    window, refused = Window(0), 0
    for minute in sorted(minutes):
        window.advance(minute)
        taken = min(minutes[minute], limit - window.used)
        if taken:
            window.add(taken)
        refused += minutes[minute] - taken
    assert refused_under(minutes, limit) == refused


@given(MINUTES)
def test_the_peak_is_the_least_limit_that_refuses_nothing(minutes: dict[int, int]) -> None:
    """One less refuses something."""
    peak = peak_of(minutes)
    assert refused_under(minutes, peak) == 0
    if peak > 0:
        assert refused_under(minutes, peak - 1) > 0


def test_the_cheapest_that_refuses_nothing_is_best() -> None:
    """Whatever the order of the plans; none is best if all are too small."""
    plans = [
        Plan(code="big", price_cents=300, recipients_per_hour=100),
        Plan(code="small", price_cents=100, recipients_per_hour=10),
        Plan(code="middle", price_cents=200, recipients_per_hour=50),
    ]
    refused = {str(limit): refused_under({0: 30, 10: 20}, limit) for limit in (10, 50, 100)}
    found = advise(plans, refused)
    assert [(each.plan.code, each.refused, each.is_best) for each in found] == [
        ("small", 40, False),
        ("middle", 0, True),
        ("big", 0, False),
    ]
    assert not any(each.is_best for each in advise(plans, {"10": 91, "50": 51, "100": 1}))
    assert [each.plan.code for each in advise(plans, {"100": 1})] == ["big"]  # of the others nothing is known yet
