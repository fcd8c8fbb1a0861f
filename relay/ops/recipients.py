"""Recipients of all customers' messages as an operator may see them: envelope, state and attempts, never the content.

Shapes  RecipientFilters -> rows of Recipient (message and customer with it), newest first.
Units   period: since the message was accepted, or with `settled` since the recipient was delivered or failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet

from relay.models import DeliveryAttempt, Recipient
from relay.ops.asked import PAGE, PERIODS, Period, choice_asked, number_asked, text_asked


@dataclass(frozen=True, slots=True)
class RecipientFilters:
    state: str = ""
    period: Period | None = None  # None: of any age
    settled: bool = False
    due: bool = False  # only what should have left by now
    next_hop: str = ""
    outcome: str = ""
    organization_id: int | None = None
    username: str = ""
    address: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "RecipientFilters":
        return cls(
            state=choice_asked(query, "state", Recipient.State.values),
            period=PERIODS.get(query.get("period", "")),
            settled=query.get("settled") == "1",
            due=query.get("due") == "1",
            next_hop=text_asked(query, "next_hop", 255),
            outcome=choice_asked(query, "outcome", DeliveryAttempt.Outcome.values),
            organization_id=number_asked(query, "customer"),
            username=text_asked(query, "username", 32).lower(),
            address=text_asked(query, "address"),
        )


def recipients(filters: RecipientFilters, *, now: datetime) -> QuerySet[Recipient]:
    rows = Recipient.objects.select_related("message", "message__organization", "message__smtp_user")
    if filters.state:
        rows = rows.filter(state=filters.state)
    if filters.due:
        rows = rows.filter(state=Recipient.State.QUEUED, due_at__lte=now)
    if filters.organization_id is not None:
        rows = rows.filter(message__organization_id=filters.organization_id)
    if filters.username:
        rows = rows.filter(message__smtp_user__username=filters.username)
    if filters.address:
        rows = rows.filter(address=filters.address)
    if filters.next_hop or filters.outcome:
        return rows.filter(Exists(_attempts(filters, now=now)))
    if filters.period:
        column = "settled_at__gte" if filters.settled else "message__received_at__gte"
        rows = rows.filter(**{column: filters.period.since(now)})
    return rows


def _attempts(filters: RecipientFilters, *, now: datetime) -> QuerySet[DeliveryAttempt]:
    """With a next hop or an outcome, the period is the attempt's."""
    tried = DeliveryAttempt.objects.filter(recipient=OuterRef("pk"))
    if filters.period:
        tried = tried.filter(started_at__gte=filters.period.since(now))
    if filters.next_hop:
        tried = tried.filter(next_hop=filters.next_hop)
    if filters.outcome:
        tried = tried.filter(outcome=filters.outcome)
    return tried


def page_of(rows: QuerySet[Recipient], *, before: int | None = None) -> tuple[list[Recipient], bool]:
    """Rows are numbered in the order in which they were accepted, so the number is the key."""
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: PAGE + 1])
    return found[:PAGE], len(found) > PAGE
