"""Months and shares of them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.billing.periods import Period, months_after, period_at, share, tax_of

MOMENTS = st.integers(946_684_800, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))  # 2000-2099


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "months", "expected"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2028-01-31", 1, "2028-02-29"),
        ("2026-01-31", 2, "2026-03-31"),
        ("2028-02-29", 12, "2029-02-28"),
        ("2028-02-29", 48, "2032-02-29"),
        ("2026-12-15", 1, "2027-01-15"),
        ("2026-01-15", -1, "2025-12-15"),
    ],
)
def test_a_month_later(anchor: str, months: int, expected: str) -> None:
    """Short months end on their last day, and the anchor's day returns after them."""
    assert months_after(day(anchor), months) == day(expected)


def test_a_clock_change_is_no_change() -> None:
    """An anchor in a zone with summer time is read as UTC: the hour does not move."""
    anchor = datetime(2026, 3, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    assert months_after(anchor, 1) == day("2026-04-10T11:00:00")


@given(MOMENTS, MOMENTS)
def test_every_moment_lies_in_its_period_and_periods_meet(anchor: datetime, moment: datetime) -> None:
    """No moment is left out, none is in two, whatever the anchor."""
    period = period_at(anchor, moment)
    assert moment in period
    assert period_at(anchor, period.end).start == period.end
    assert period_at(anchor, period.start) == period
    assert timedelta(days=28) <= period.end - period.start <= timedelta(days=31)


@given(st.integers(0, 10**9), MOMENTS, st.floats(0, 1))
def test_a_share_and_what_is_before_it_are_the_price(price: int, anchor: datetime, part: float) -> None:
    """To the cent, as both are rounded; the whole costs the price, nothing costs nothing."""
    period = period_at(anchor, anchor)
    moment = period.start + (period.end - period.start) * part
    before = share(price, of=Period(period.start, period.end), since=period.start) - share(
        price, of=period, since=moment
    )
    assert 0 <= before <= price
    assert share(price, of=period, since=period.start) == price
    assert share(price, of=period, since=period.end) == 0


def test_half_a_month_costs_half() -> None:
    """Rounded half up."""
    period = Period(day("2026-04-01"), day("2026-05-01"))
    assert share(14_500, of=period, since=day("2026-04-16")) == 7_250
    assert share(101, of=period, since=day("2026-04-16")) == 51


@pytest.mark.parametrize(("net", "rate", "tax"), [(10_000, 1900, 1900), (50, 1900, 10), (-50, 1900, -10), (7, 0, 0)])
def test_tax(net: int, rate: int, tax: int) -> None:
    """Half a cent goes away from nought, so that a credit note takes back what the invoice took."""
    assert tax_of(net, rate) == tax
