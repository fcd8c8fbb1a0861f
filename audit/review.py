"""The operator's review of attempts across customers: facets of a time, and the story of an address or a name.

Shapes  facets counts what the filters leave, by each of seven columns, in one pass. A Story is of one IP or username.
Units   since, until: aware; a facet's stretch is at most RANGE_MAX long, so that no click reads a month.
Errors  RangeTooLong.
Source  docs/data.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.db.models import Count, Max, Min, Q, QuerySet, Sum
from django.utils import timezone

from audit.models import AuthEvent, Result
from audit.queries import NO_FILTERS, AuthFilters, auth_events, filtered_events
from audit.record import read_ip

RANGE_MAX: Final = timedelta(days=31)
FACETS: Final = ("result", "reason", "ip", "network", "username_given", "mechanism", "tls_version")
_TOP: Final = 20


class RangeTooLong(ValueError):  # reads as what is wrong
    """The stretch of time is longer than RANGE_MAX."""


@dataclass(frozen=True, slots=True)
class FacetValue:
    value: str
    count: int


def facets(
    organization_id: int | None = None,
    *,
    since: datetime,
    until: datetime | None = None,
    filters: AuthFilters = NO_FILTERS,
    top: int = _TOP,
) -> dict[str, list[FacetValue]]:
    """For each of FACETS its most frequent values and their attempts, over what the filters leave."""
    until = until or timezone.now()
    if until - since > RANGE_MAX:
        raise RangeTooLong
    events = filtered_events(organization_id, filters=replace(filters, since=since, until=until))
    inner, parameters = events.values(*FACETS, "count").query.sql_with_params()
    sets = ", ".join(f"({name})" for name in FACETS)
    one_of = ", ".join(f"host({name})" if name == "ip" else name for name in FACETS)
    which = " ".join(f"WHEN grouping({name}) = 0 THEN '{name}'" for name in FACETS)
    # Only names of columns above are put into the text; every value is a parameter.
    query = f"""
        SELECT facet, value, attempts FROM (
            SELECT facet, value, attempts, row_number() OVER (PARTITION BY facet ORDER BY attempts DESC, value) AS place
            FROM (SELECT CASE {which} END AS facet, coalesce({one_of}) AS value, sum(count)::bigint AS attempts
                  FROM ({inner}) AS events GROUP BY GROUPING SETS ({sets})) AS counted
        ) AS placed WHERE place <= %s ORDER BY facet, place
    """  # noqa: S608
    found: dict[str, list[FacetValue]] = {name: [] for name in FACETS}
    with connection.cursor() as cursor:
        cursor.execute(query, [*parameters, top])
        for facet, value, attempts in cursor.fetchall():
            found[facet].append(FacetValue(value, attempts))
    return found


@dataclass(frozen=True, slots=True)
class Share:
    """One value of a story: how often, how often accepted, and when last."""

    value: str
    count: int
    accepted: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Story:
    """One address or one username over a stretch of time. `*_total`: different values; lists hold the most frequent."""

    subject: str
    count: int
    accepted: int
    refused: int
    error: int
    first_at: datetime | None
    last_at: datetime | None
    accepted_after_refusals: bool  # a success later than a refusal of the same subject: guessed, or mended settings
    usernames: list[Share]
    usernames_total: int
    ips: list[Share]
    ips_total: int
    networks: list[Share]
    reasons: list[Share]
    mechanisms: list[Share]
    client_names: list[Share]
    organization_ids: list[int]
    latest: list[AuthEvent]


def story_of_ip(ip: str, *, since: datetime | None = None, until: datetime | None = None) -> Story:
    """All that one address did, by default within the last 7 days."""
    address = str(read_ip(ip))
    return _story(address, AuthFilters(ip=address, since=since, until=until))


def story_of_username(name: str, *, since: datetime | None = None, until: datetime | None = None) -> Story:
    """All that was tried with one username, by default within the last 7 days."""
    return _story(name, AuthFilters(username=name, since=since, until=until))


def _story(subject: str, filters: AuthFilters) -> Story:
    filters = replace(filters, since=filters.since or (filters.until or timezone.now()) - timedelta(days=7))
    events = filtered_events(None, filters=filters)
    rows = events.values("result").annotate(attempts=Sum("count"), first=Min("at"), latest=Max("last_at"))
    ends = {row["result"]: (row["first"], row["latest"]) for row in rows}
    counts = {row["result"]: row["attempts"] for row in rows}
    distinct = events.aggregate(usernames=Count("username_given", distinct=True), ips=Count("ip", distinct=True))
    return Story(
        subject=subject,
        count=sum(counts.values()),
        accepted=counts.get(Result.ACCEPTED, 0),
        refused=counts.get(Result.REFUSED, 0),
        error=counts.get(Result.ERROR, 0),
        first_at=min((first for first, _ in ends.values()), default=None),
        last_at=max((last for _, last in ends.values()), default=None),
        accepted_after_refusals=_accepted_after_refusals(ends),
        usernames=_shares(events, "username_given"),
        usernames_total=distinct["usernames"],
        ips=_shares(events, "ip"),
        ips_total=distinct["ips"],
        networks=_shares(events, "network"),
        reasons=_shares(events, "reason"),
        mechanisms=_shares(events, "mechanism"),
        client_names=_shares(events, "client_name"),
        organization_ids=_organizations(events),
        latest=auth_events(None, filters=filters),
    )


def _accepted_after_refusals(ends: dict[str, tuple[datetime, datetime]]) -> bool:
    refused, accepted = ends.get(Result.REFUSED), ends.get(Result.ACCEPTED)
    return bool(refused and accepted and accepted[1] > refused[0])


def _shares(events: QuerySet[AuthEvent], column: str) -> list[Share]:
    rows = (
        events.values(column)
        .annotate(
            attempts=Sum("count"),
            accepted=Sum("count", filter=Q(result=Result.ACCEPTED), default=0),
            latest=Max("last_at"),
        )
        .order_by("-attempts", column)[:_TOP]
    )
    return [Share(str(row[column]), row["attempts"], row["accepted"], row["latest"]) for row in rows]


def _organizations(events: QuerySet[AuthEvent]) -> list[int]:
    ids: Iterable[int | None] = events.values_list("organization_id", flat=True).distinct()
    return sorted(id_ for id_ in ids if id_ is not None)
