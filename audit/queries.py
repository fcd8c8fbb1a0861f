"""Reading the auth log: pages of events, and counts of them.

Shapes  auth_events lists AuthEvent, newest first, keyset pages by (at, id). auth_counts and accepted_addresses
        count from AuthHour, which is rolled up every 30 s and so at most that far behind; `since` is taken down to its
        full hour there. organization_id None: the whole installation, for operators only.
Units   since: inclusive, until: exclusive; aware. count: attempts, a folded run with all of its own.
Errors  ValueError for an address, network or cursor that is none; views check what people type.
Source  docs/data.md.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from django.db.models import Max, Q, QuerySet, Sum

from audit import pages
from audit.models import AuthEvent, AuthHour, Reason, Result
from audit.pages import NONE
from audit.record import printable, read_ip
from audit.retention import kept_since

__all__ = ["NONE", "NO_FILTERS", "AuthFilters", "Cursor", "auth_events", "filtered_events"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthFilters:
    """What to list. An empty field filters nothing; NONE asks for rows in which the value is empty."""

    result: str = ""
    reason: str = ""
    ip: str = ""
    cidr: str = ""
    username: str = ""
    mechanism: str = ""
    tls: str = ""
    smtp_user_id: int | None = None
    app_password_id: int | None = None
    reference: str = ""
    since: datetime | None = None
    until: datetime | None = None


NO_FILTERS = AuthFilters()


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended; str() goes into a link, and parse() reads it back."""

    at: datetime
    id: UUID

    def __str__(self) -> str:
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%S.%f}-{self.id.hex}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        at, _, id_ = text.partition("-")
        return cls(datetime.strptime(at, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC), UUID(hex=id_))

    @classmethod
    def of(cls, event: AuthEvent) -> "Cursor":
        return cls(event.at, event.id)


def auth_events(
    organization_id: int | None, *, filters: AuthFilters = NO_FILTERS, before: Cursor | None = None, limit: int = 50
) -> list[AuthEvent]:
    """A page of events, newest first. The next page is before=Cursor.of(the last one). Raises pages.SearchTooLong."""
    filters = _kept(organization_id, filters)
    if filters.reference:
        events = filtered_events(organization_id, filters=filters)
        if before:
            events = events.filter(Q(at__lt=before.at) | Q(at=before.at, id__lt=before.id))
        return list(events.order_by("-at", "-id")[:limit])
    if organization_id is not None and _is_anothers(organization_id, filters.smtp_user_id):
        return []
    wanted = pages.Wanted(
        kinds=pages.kinds_of(
            organization_id,
            result=filters.result,
            reason=filters.reason,
            mechanism=filters.mechanism,
            tls=filters.tls,
        ),
        conditions=_conditions(organization_id, filters),
        since=filters.since,
        until=filters.until,
        before=(before.at, before.id) if before else None,
        days=_days(organization_id, filters),
    )
    if organization_id is not None or not filters.username:
        return pages.read(wanted, limit=limit)
    # A name is one organization's, or nobody's; the index has the organization between name and kind.
    nobodys = pages.read(replace(wanted, nobodys=True), limit=limit)
    owner = _owner_of(filters.username)
    theirs = pages.read(replace(wanted, conditions=[*wanted.conditions, owner]), limit=limit) if owner else []
    return sorted([*nobodys, *theirs], key=lambda event: (event.at, event.id), reverse=True)[:limit]


def _is_anothers(organization_id: int, smtp_user_id: int | None) -> bool:
    """Any row of an SMTP user tells whose it is: its rows need not be looked through for one of somebody else's."""
    if smtp_user_id is None:
        return False
    owners = AuthEvent.objects.filter(smtp_user_id=smtp_user_id).values_list("organization_id", flat=True)[:1]
    return any(owner != organization_id for owner in owners)


def _owner_of(username: str) -> tuple[str, int] | None:
    """As a condition: the organization to which the name belongs, if it does to any."""
    owned = AuthEvent.objects.filter(_named(username), organization_id__isnull=False)
    found = list(owned.values_list("organization_id", flat=True)[:1])  # in no order: any row tells
    return ("organization_id = %s", found[0]) if found and found[0] is not None else None


def _conditions(organization_id: int | None, filters: AuthFilters) -> list[tuple[str, Any]]:
    """As _matches(), in SQL; the kinds say the rest."""
    found: list[tuple[str, Any]] = []
    if organization_id is not None:
        found.append(("organization_id = %s", organization_id))
    if filters.smtp_user_id is not None:
        found.append(("smtp_user_id = %s", filters.smtp_user_id))
    if filters.app_password_id is not None:
        found.append(("app_password_id = %s", filters.app_password_id))
    if filters.ip:
        found.append(("ip = %s::inet", str(read_ip(filters.ip))))
    if filters.cidr:
        network = ip_network(filters.cidr.strip(), strict=False)
        found += [("ip >= %s::inet", str(network[0])), ("ip <= %s::inet", str(network[-1]))]
    if filters.username:
        given = printable(filters.username, 255)
        names = sorted({given, given.lower()})
        found.append(("username_given = %s", given) if len(names) == 1 else ("username_given = ANY(%s)", names))
    if filters.mechanism not in {"", NONE}:
        found.append(("mechanism = %s", printable(filters.mechanism, 32).upper()))
    return found


def _days(organization_id: int | None, filters: AuthFilters) -> dict[date, list[str]] | None:
    """An address (or range) and what it did may each be everywhere, and together nowhere: the sums know."""
    if not (filters.ip or filters.cidr):
        return None
    network = ip_network(filters.cidr.strip(), strict=False) if filters.cidr else ip_network(str(read_ip(filters.ip)))
    equal = {
        "organization_id": organization_id,
        "smtp_user_id": filters.smtp_user_id,
        "result": filters.result,
        "reason": filters.reason,
    }
    days = pages.days_of(str(network[0]), str(network[-1]), equal=equal, since=filters.since, until=filters.until)
    if days and filters.username:
        return None  # the name's index or the address's: PostgreSQL knows which has less
    return {day: [] for day in days} if filters.smtp_user_id is not None else days


def _kept(organization_id: int | None, filters: AuthFilters) -> AuthFilters:
    """What is past an organization's retention is hidden at once, whenever it will be deleted."""
    floor = kept_since(organization_id) if organization_id is not None else None
    if floor is None or (filters.since and filters.since >= floor):
        return filters
    return replace(filters, since=floor)


def filtered_events(organization_id: int | None, *, filters: AuthFilters) -> QuerySet[AuthEvent]:
    """All that pass the filters, unordered: for exports and facets."""
    filters = _kept(organization_id, filters)
    events = AuthEvent.objects.all()
    if organization_id is not None:
        events = events.filter(organization_id=organization_id)
    if filters.since:
        events = events.filter(at__gte=filters.since)
    if filters.until:
        events = events.filter(at__lt=filters.until)
    return events.filter(_matches(filters))


def _matches(filters: AuthFilters) -> Q:
    equal = {
        "result": filters.result,
        "reason": filters.reason,
        "mechanism": printable(filters.mechanism, 32).upper(),  # what no row can hold (a NUL) finds nothing
        "tls_version": printable(filters.tls, 16),
        "smtp_user_id": filters.smtp_user_id,
        "app_password_id": filters.app_password_id,
        "reference": printable(filters.reference, 64).strip().upper(),
    }
    wanted = {name: value for name, value in equal.items() if value not in {"", None}}
    matches = Q(**{name: "" if value == NONE else value for name, value in wanted.items()})
    if filters.username:
        matches &= _named(filters.username)
    return matches & _addresses(filters)


def _addresses(filters: AuthFilters) -> Q:
    matches = Q()
    if filters.ip:
        matches &= Q(ip=str(read_ip(filters.ip)))
    if filters.cidr:
        network = ip_network(filters.cidr.strip(), strict=False)
        # inet orders a family's addresses by their bits: a range over the index, without an operator of its own.
        matches &= Q(ip__gte=str(network[0]), ip__lte=str(network[-1]))
    return matches


def _named(username: str) -> Q:
    given = printable(username, 255)  # as it was stored
    return Q(username_given__in={given, given.lower()})


@dataclass(frozen=True, slots=True)
class AuthCounts:
    accepted: int
    refused: int
    error: int
    reasons: dict[str, int]  # reason -> attempts, most first
    last_at: datetime | None

    @property
    def total(self) -> int:
        return self.accepted + self.refused + self.error


def auth_counts(
    organization_id: int | None, *, since: datetime, until: datetime | None = None, smtp_user_id: int | None = None
) -> AuthCounts:
    """Attempts by result and reason since that hour, from the sums."""
    rows = list(
        _hours(organization_id, since, until, smtp_user_id)
        .values("result", "reason")
        .annotate(attempts=Sum("count"), latest=Max("last_at"))
        .order_by("-attempts", "reason")
    )
    of_result = {result: sum(row["attempts"] for row in rows if row["result"] == result) for result in Result.values}
    return AuthCounts(
        accepted=of_result[Result.ACCEPTED],
        refused=of_result[Result.REFUSED],
        error=of_result[Result.ERROR],
        reasons={row["reason"]: row["attempts"] for row in rows},
        last_at=max((row["latest"] for row in rows), default=None),
    )


@dataclass(frozen=True, slots=True)
class AddressUse:
    """Logins of one SMTP user from one address."""

    smtp_user_id: int
    ip: str
    count: int
    last_at: datetime


def accepted_addresses(
    organization_id: int, *, since: datetime, smtp_user_id: int | None = None, app_password_id: int | None = None
) -> list[AddressUse]:
    """From where logins were accepted, most first. An app password's come from the events: sums do not know it."""
    rows: QuerySet[AuthHour] | QuerySet[AuthEvent] = _hours(organization_id, since, None, smtp_user_id)
    if app_password_id is not None:
        narrowed = AuthFilters(smtp_user_id=smtp_user_id, app_password_id=app_password_id, since=since)
        rows = filtered_events(organization_id, filters=narrowed)
    sums = (
        rows.filter(result=Result.ACCEPTED, reason=Reason.OK, smtp_user_id__isnull=False)
        .values("smtp_user_id", "ip")
        .annotate(attempts=Sum("count"), latest=Max("last_at"))
        .order_by("-attempts", "ip")
    )
    return [AddressUse(row["smtp_user_id"] or 0, row["ip"], row["attempts"], row["latest"]) for row in sums]


def _hours(
    organization_id: int | None, since: datetime, until: datetime | None, smtp_user_id: int | None
) -> QuerySet[AuthHour]:
    hours = AuthHour.objects.filter(hour__gte=since.astimezone(UTC).replace(minute=0, second=0, microsecond=0))
    if organization_id is not None:
        hours = hours.filter(organization_id=organization_id)
    if until:
        hours = hours.filter(hour__lt=until)
    if smtp_user_id is not None:
        hours = hours.filter(smtp_user_id=smtp_user_id)
    return hours
