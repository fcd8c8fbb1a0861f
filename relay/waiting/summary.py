"""The queue in figures: what waits, by next hop, by cause and by organization, and how old the oldest is.

Shapes  summary() -> Summary, counted at once while the queue is short; of a long one it is the last that refresh()
        kept, with its time. refresh() is beat's.
Units   recipients; since: when the oldest was accepted.
Errors  None.
Source  docs/delivery.md, The queue; docs/performance.md for its figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

from django.conf import settings
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from relay.models import NamedRoute, QueueSummary
from relay.models.messages import Route
from relay.waiting.causes import words_of_cause
from relay.waiting.filters import CAUSE, HOP, JOINS, WAITING

SHORT: Final = 20_000  # recipients: as many are counted in a quarter of a second
GROUPS_MAX: Final = 100
EVERY: Final = timedelta(seconds=30)
SHARE: Final = 20  # counting a long queue takes a twentieth of the time at most

# One pass over what waits: each row is counted once for each of its groups.
_COUNT = f"""
    SELECT grouping(counted.hop, counted.cause, counted.organization_id), counted.hop, counted.cause,
           counted.organization_id, count(*), count(*) FILTER (WHERE counted.is_due), min(counted.received_at)
    FROM (
        SELECT {HOP} AS hop, {CAUSE} AS cause, message.organization_id, message.received_at,
               own.state = 'queued' AND own.due_at <= now() AS is_due
        FROM {WAITING} {JOINS}
    ) AS counted
    GROUP BY GROUPING SETS ((counted.hop), (counted.cause), (counted.organization_id), ())
    ORDER BY 5 DESC
"""  # noqa: S608 - constants
_BY = {3: "hops", 5: "causes", 6: "organizations", 7: "all"}  # the bits of the columns that a set leaves out
_LONG = f"""
    SELECT count(*) FROM (SELECT FROM relay_recipient WHERE state = 'queued' LIMIT {SHORT + 1}) AS first
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Group:
    """One next hop, cause or organization. key: what a filter takes."""

    key: str
    number: int
    due: int
    since: datetime
    words: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    at: datetime
    number: int
    due: int
    since: datetime | None
    is_live: bool
    hops: Sequence[Group] = ()
    causes: Sequence[Group] = ()
    organizations: Sequence[Group] = ()
    more: dict[str, int] = field(default_factory=dict)  # groups that are not listed


def summary(*, now: datetime | None = None) -> Summary:
    """Never slow: a long queue is not counted for a look at it."""
    now = now or timezone.now()
    if is_short():
        return _from_figures(_figures(), at=now, is_live=True)
    kept = QueueSummary.objects.first()
    if kept is None:
        return Summary(now, SHORT, 0, None, is_live=False)
    return _from_figures(kept.figures, at=kept.at, is_live=False)


def is_short() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_LONG)
        return bool(cursor.fetchone()[0] <= SHORT)


def refresh(*, now: datetime | None = None) -> bool:
    """Counts a long queue and keeps the figures, if the last are old enough for what counting costs."""
    now = now or timezone.now()
    kept = QueueSummary.objects.first()
    if kept is not None and now < kept.at + max(EVERY, SHARE * timedelta(seconds=kept.seconds)):
        return False
    if is_short():
        return bool(QueueSummary.objects.all().delete()[0])  # the next long queue begins without old figures
    began = monotonic()
    figures = _figures()
    values = {"at": now, "seconds": monotonic() - began, "figures": figures}
    QueueSummary.objects.update_or_create(pk=1, defaults=values)
    return True


def _figures() -> dict[str, Any]:
    """As they are kept: JSON."""
    found: dict[str, list[Any]] = {name: [] for name in _BY.values()}
    more = dict.fromkeys(found, 0)
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"default_route": settings.GATEPOST_DEFAULT_ROUTE})
        for bits, hop, cause, organization_id, number, due, since in cursor.fetchall():
            name = _BY[bits]
            key = {"hops": hop, "causes": cause, "organizations": str(organization_id), "all": ""}[name]
            if len(found[name]) >= GROUPS_MAX:
                more[name] += 1
            elif number:
                found[name].append([key, number, due, since.isoformat()])
    return found | {"more": more}


def _from_figures(figures: dict[str, Any], *, at: datetime, is_live: bool) -> Summary:
    words = {"hops": _hop_words(), "causes": None, "organizations": _names(figures["organizations"])}
    groups = {
        name: [
            Group(key, number, due, datetime.fromisoformat(since), _words(name, key, words[name]))
            for key, number, due, since in figures[name]
        ]
        for name in words
    }
    whole = figures["all"][0] if figures["all"] else None
    return Summary(
        at=at,
        number=whole[1] if whole else 0,
        due=whole[2] if whole else 0,
        since=datetime.fromisoformat(whole[3]) if whole else None,
        is_live=is_live,
        more=figures["more"],
        **groups,
    )


def _words(name: str, key: str, known: dict[str, str] | None) -> str:
    if name == "causes":
        return words_of_cause(key)
    assert known is not None
    return known.get(key) or (hop_words(key, known) if name == "hops" else key)


def _hop_words() -> dict[str, str]:
    """By id of the named route."""
    return {f"id:{pk}": name for pk, name in NamedRoute.objects.values_list("pk", "name")}


def hop_words(key: str, named: dict[str, str] | None = None) -> str:
    """A domain, or a route with its name."""
    kind, _colon, rest = key.partition(":")
    if kind == "mx":
        return rest
    number, _colon, route = rest.partition(":")
    label = str(Route(route).label) if route in Route.values else route
    if number == "0":
        return _("%(kind)s, built in") % {"kind": label}
    known = _hop_words() if named is None else named
    return _("%(kind)s “%(name)s”") % {"kind": label, "name": known.get(f"id:{number}", number)}


def _names(rows: Sequence[Sequence[Any]]) -> dict[str, str]:
    ids = [int(row[0]) for row in rows]
    return {str(pk): name for pk, name in Organization.objects.filter(pk__in=ids).values_list("pk", "name")}
