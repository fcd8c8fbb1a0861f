"""What the auth review was asked: filters out of a query string, and back into addresses.

Shapes  AttemptFilters wraps audit.queries.AuthFilters with a period and a customer. facets_of() -> a Facet a column.
Errors  None: an address that is none is named in `bad`, and the list is then empty.
Source  audit/queries.py and audit/review.py read the rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Organization
from audit.models import AuthEvent, Reason, Result
from audit.queries import NONE, AuthFilters, Cursor, auth_events, filtered_events
from audit.review import facets
from relay.ops.asked import (
    PAGE,
    Period,
    address_of,
    choice_asked,
    network_of,
    number_asked,
    period_asked,
    text_asked,
)

FACET_VALUES = 6


@dataclass(frozen=True, slots=True)
class Column:
    """A column that can be narrowed: its name in addresses, its field of AuthFilters, and what facets() calls it."""

    parameter: str
    field: str
    facet: str
    label: str | Promise


COLUMNS = (
    Column("result", "result", "result", gettext_lazy("Result")),
    Column("reason", "reason", "reason", gettext_lazy("Reason")),
    Column("ip", "ip", "ip", gettext_lazy("IP address")),
    Column("network", "cidr", "network", gettext_lazy("Network")),
    Column("username", "username", "username_given", gettext_lazy("Username")),
    Column("mechanism", "mechanism", "mechanism", gettext_lazy("Mechanism")),
    Column("tls", "tls", "tls_version", gettext_lazy("TLS")),
)
_LABELS: dict[str, Mapping[str, str | Promise]] = {"result": dict(Result.choices), "reason": dict(Reason.choices)}


@dataclass(frozen=True, slots=True)
class AttemptFilters:
    period: Period
    organization_id: int | None = None
    columns: AuthFilters = field(default_factory=AuthFilters)
    bad: tuple[str, ...] = ()

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "AttemptFilters":
        ip, network = text_asked(query, "ip"), text_asked(query, "network")
        read_ip, read_network = address_of(ip), network_of(network)
        return cls(
            period=period_asked(query),
            organization_id=number_asked(query, "customer"),
            columns=AuthFilters(
                result=choice_asked(query, "result", Result.values),
                reason=choice_asked(query, "reason", Reason.values),
                ip=read_ip or "",
                cidr=read_network or "",
                username=text_asked(query, "username", 255),
                mechanism=text_asked(query, "mechanism", 32),
                tls=text_asked(query, "tls", 16),
            ),
            bad=tuple(given for given, read in ((ip, read_ip), (network, read_network)) if given and not read),
        )

    @property
    def is_short(self) -> bool:
        """Whether its facets are cheap enough to be counted again every few seconds."""
        return self.period.length <= timedelta(hours=1)

    def until(self, now: datetime) -> AuthFilters:
        """As audit reads it: the columns, since the period's begin."""
        return replace(self.columns, since=self.period.since(now))

    def query(self) -> dict[str, str]:
        """The filters as they stand in an address."""
        narrowed = {column.parameter: getattr(self.columns, column.field) for column in COLUMNS}
        query = {"period": self.period.key, **{name: value for name, value in narrowed.items() if value}}
        return query | ({"customer": str(self.organization_id)} if self.organization_id is not None else {})


def attempts(filters: AttemptFilters, *, now: datetime) -> QuerySet[AuthEvent]:
    """All rows that the filters leave, in no order."""
    if filters.bad:
        return AuthEvent.objects.none()
    return filtered_events(filters.organization_id, filters=filters.until(now))


def page_of(filters: AttemptFilters, *, now: datetime, before: str = "") -> tuple[list[AuthEvent], str]:
    """A page of rows, newest first, and the key at which the next one begins ("" if there is none)."""
    if filters.bad:
        return [], ""
    found = auth_events(filters.organization_id, filters=filters.until(now), before=cursor_of(before), limit=PAGE + 1)
    return found[:PAGE], str(Cursor.of(found[PAGE - 1])) if len(found) > PAGE else ""


def cursor_of(text: str) -> Cursor | None:
    """A key that cannot be read begins at the newest row."""
    try:
        return Cursor.parse(text) if text else None
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class FacetLine:
    """One value of a column: `value` for the address, empty if it cannot be asked for."""

    value: str
    label: str
    count: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Facet:
    column: Column
    lines: list[FacetLine]


def facets_of(filters: AttemptFilters, *, now: datetime) -> tuple[int, list[Facet]]:
    """How many attempts the filters leave, and every column's commonest values among them."""
    if filters.bad:
        return 0, []
    since = filters.period.since(now)
    found = facets(filters.organization_id, since=since, filters=filters.columns, top=FACET_VALUES)
    lines = [
        Facet(column, [_line(filters, column, each.value, each.count) for each in found[column.facet]])
        for column in COLUMNS
    ]
    return sum(each.count for each in found["result"]), [facet for facet in lines if facet.lines]


def _line(filters: AttemptFilters, column: Column, value: str, count: int) -> FacetLine:
    label = str(_LABELS.get(column.parameter, {}).get(value, value)) or _("none")
    asked = value or (NONE if column.parameter in {"mechanism", "tls"} else "")
    return FacetLine(asked, label, count, chosen=bool(asked) and getattr(filters.columns, column.field) == asked)


def organizations_of(events: Iterable[AuthEvent]) -> dict[int, Organization]:
    """The customers that a page's rows name; one that no longer exists is missing."""
    return Organization.objects.in_bulk({event.organization_id for event in events if event.organization_id})
