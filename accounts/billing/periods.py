"""Months of a subscription, and the share of a month's price that a part of it costs.

Shapes  Period: from start (included) to end (not included), aware UTC. The n-th period starts n months after the
        anchor, on the anchor's day and time, or on the month's last day where there is no such day.
Units   cents, whole; a share is rounded half up, so that a share and its counterpart may differ by one cent from the
        price, never more, and the same change made twice costs the same.
Errors  None.
Source  docs/billing.md.

All of it is UTC: no clock change makes a month longer or shorter than the calendar says.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Period:
    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def months_after(anchor: datetime, months: int) -> datetime:
    """The anchor's day and time so many months later; the month's last day where it has no such day."""
    anchor = anchor.astimezone(UTC)
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    day = min(anchor.day, monthrange(year, month + 1)[1])
    return anchor.replace(year=year, month=month + 1, day=day)


def period_at(anchor: datetime, moment: datetime) -> Period:
    """The period in which a moment lies; before the anchor there are periods too."""
    anchor, moment = anchor.astimezone(UTC), moment.astimezone(UTC)
    months = (moment.year - anchor.year) * 12 + moment.month - anchor.month
    if months_after(anchor, months) > moment:
        months -= 1
    return Period(months_after(anchor, months), months_after(anchor, months + 1))


def share(price_cents: int, *, of: Period, since: datetime) -> int:
    """What the rest of a period costs, from a moment within it on."""
    whole = (of.end - of.start) // MICROSECOND
    rest = (of.end - min(max(since, of.start), of.end)) // MICROSECOND
    return (2 * price_cents * rest + whole) // (2 * whole)


def tax_of(net_cents: int, rate_hundredths: int) -> int:
    """The tax on an amount; rate_hundredths: hundredths of a percent. Rounded half away from nought."""
    tax = (2 * abs(net_cents) * rate_hundredths + 10_000) // 20_000
    return tax if net_cents >= 0 else -tax
