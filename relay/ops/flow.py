"""What went through in 5 minutes, 1 hour and 24 hours: accepted, delivered and failed mail, and logins by reason.

Shapes  flow_of() -> Flow rows and RefusedReason rows, each with one count for each of FLOOR_PERIODS.
Units   Mail: recipients. Logins: attempts. The day's counts are kept for DAY_SECONDS, because the Floor is fetched
        every few seconds and a day of a busy installation is millions of rows; the shorter periods are always counted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.core.cache import cache
from django.db.models import Count, Q, Sum
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from audit.models import AuthEvent, Reason, Result
from relay.models import Message, Recipient
from relay.ops.asked import FLOOR_PERIODS, Period

DAY_SECONDS = 30
DAY_KEY = "ops.flow.day"
YOUNG, DAY = FLOOR_PERIODS[:-1], FLOOR_PERIODS[-1:]

Counts = tuple[int, ...]
Login = tuple[str, str]  # result, reason
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Flow:
    name: str
    label: str | Promise
    counts: Counts


@dataclass(frozen=True, slots=True)
class RefusedReason:
    reason: str
    label: str
    counts: Counts


def flow_of(*, now: datetime) -> tuple[list[Flow], list[RefusedReason]]:
    young_mail, young_logins = _counted(YOUNG, now=now)
    day_mail, day_logins = cache.get_or_set(DAY_KEY, lambda: _counted(DAY, now=now), DAY_SECONDS) or ({}, {})
    logins = _merged(young_logins, day_logins)
    bad = {login: counts for login, counts in logins.items() if login[0] != Result.ACCEPTED}
    good = {login: counts for login, counts in logins.items() if login not in bad}
    mail = _merged(young_mail, day_mail)
    flows = [
        Flow("accepted", _("Accepted"), mail["accepted"]),
        Flow("delivered", _("Delivered"), mail["delivered"]),
        Flow("failed", _("Failed"), mail["failed"]),
        Flow("logins", _("Logins accepted"), _added(good.values())),
        Flow("refused", _("Logins refused"), _added(bad.values())),
    ]
    return flows, _reasons(bad)


def _reasons(bad: Mapping[Login, Counts]) -> list[RefusedReason]:
    """The commonest of the day first."""
    labels = dict(Reason.choices)
    found = [RefusedReason(reason, str(labels.get(reason, reason)), counts) for (_r, reason), counts in bad.items()]
    return sorted(found, key=lambda each: each.counts[::-1], reverse=True)


def _merged(young: Mapping[Key, Counts], day: Mapping[Key, Counts]) -> dict[Key, Counts]:
    """Side by side. A day that was counted a moment ago is never less than the hour that is counted now."""
    none_young, none_day = (0,) * len(YOUNG), (0,) * len(DAY)
    merged = {}
    for key in (*young, *(key for key in day if key not in young)):
        short = young.get(key, none_young)
        merged[key] = (*short, max(short[-1], *day.get(key, none_day)))
    return merged


def _added(all_counts: Iterable[Counts]) -> Counts:
    return tuple(map(sum, zip((0,) * len(FLOOR_PERIODS), *all_counts, strict=True)))


def _counted(periods: Sequence[Period], *, now: datetime) -> tuple[dict[str, Counts], dict[Login, Counts]]:
    return _mail(periods, now=now), _logins(periods, now=now)


def _mail(periods: Sequence[Period], *, now: datetime) -> dict[str, Counts]:
    longest = periods[-1].since(now)
    accepted = Message.objects.filter(received_at__gte=longest)
    counts = accepted.aggregate(
        **_each(periods, "received_at", lambda young: Sum("recipient_count", filter=young), now)
    )
    found = {"accepted": _counts(counts)}
    for state in (Recipient.State.DELIVERED, Recipient.State.FAILED):
        settled = Recipient.objects.filter(state=state, settled_at__gte=longest)
        counts = settled.aggregate(**_each(periods, "settled_at", lambda young: Count("pk", filter=young), now))
        found[state.value] = _counts(counts)
    return found


def _logins(periods: Sequence[Period], *, now: datetime) -> dict[Login, Counts]:
    rows = AuthEvent.objects.filter(at__gte=periods[-1].since(now)).order_by().values("result", "reason")
    counted = rows.annotate(**_each(periods, "at", lambda young: Sum("count", filter=young), now))
    return {(row["result"], row["reason"]): _counts(row) for row in counted}


def _each(periods: Sequence[Period], at: str, what: Callable[[Q], Any], now: datetime) -> dict[str, Any]:
    """Aggregates p0, p1...: `what` over the rows younger than each period."""
    return {f"p{place}": what(Q(**{f"{at}__gte": period.since(now)})) for place, period in enumerate(periods)}


def _counts(row: Mapping[str, Any]) -> Counts:
    return tuple(row[name] or 0 for name in sorted(row) if name[0] == "p" and name[1:].isdigit())
