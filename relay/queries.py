"""Reading for the customer's pages: lists, counts and forecasts. Nothing here changes anything.

Shapes  MessageRow: a message as lists show it. Page: rows and the cursor of the next, older page.
        Outcome: what became of the emails of one period. An email is one accepted recipient.
Units   at: aware UTC. hours: Unix seconds of an hour's start, and emails accepted in it.
Errors  A cursor that was tampered with starts at the newest row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Count, Exists, Max, Min, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import TruncHour
from django.utils import timezone

from relay.limits import Usage
from relay.message_search import MessageSearch, apply
from relay.models import AppPassword, Message, Network, Recipient, SenderAddress, SendingDomain, SmtpUser
from relay.queue import message_state

PAGE_ROWS = 50
PERIODS = (("24h", timedelta(hours=24)), ("7d", timedelta(days=7)), ("30d", timedelta(days=30)))


@dataclass(frozen=True, slots=True)
class MessageRow:
    message: Message
    state: str
    first_recipient: str
    more_recipients: int


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[MessageRow]
    older: str  # cursor, empty at the end


def message_page(organization_id: int, search: MessageSearch, *, cursor: str = "", limit: int = PAGE_ROWS) -> Page:
    """Messages that the search means, newest first, from the cursor on."""
    messages = apply(search, Message.objects.filter(organization_id=organization_id))
    if place := _place(cursor):
        at, pk = place
        messages = messages.filter(Q(received_at__lt=at) | Q(received_at=at, pk__lt=pk))
    found = list(messages.select_related("smtp_user").order_by("-received_at", "-pk")[: limit + 1])
    older = f"{found[limit - 1].received_at.timestamp():.6f}_{found[limit - 1].pk}" if len(found) > limit else ""
    return Page(message_rows(found[:limit]), older)


def message_rows(messages: Iterable[Message]) -> list[MessageRow]:
    """With each message's state and first recipient, in one further query whatever their number."""
    messages = list(messages)
    sums = (
        Recipient.objects.filter(message__in=[message.pk for message in messages])
        .values("message_id")
        .annotate(states=ArrayAgg("state", distinct=True), first=Min("address"), number=Count("pk"))
    )
    by_id = {message.pk: message for message in messages}
    found: dict[UUID, MessageRow] = {}
    for row in sums:
        message = by_id[row["message_id"]]
        found[message.pk] = MessageRow(message, message_state(row["states"]), row["first"], row["number"] - 1)
    return [found.get(message.pk, MessageRow(message, message_state([]), "", 0)) for message in messages]


def _place(cursor: str) -> tuple[datetime, UUID] | None:
    seconds, _sep, pk = cursor.partition("_")
    try:
        return datetime.fromtimestamp(float(seconds), UTC), UUID(pk)
    except (ValueError, OverflowError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the emails accepted in a period; failed includes none that was cancelled."""

    period: str
    accepted: int
    delivered: int
    failed: int
    refused_at_door: int = 0  # replies after a sign-in
    refused: int = 0  # sign-ins


def outcomes(organization_id: int, *, now: datetime | None = None) -> list[Outcome]:
    """For 24 hours, 7 days and 30 days, in one pass over the recipients."""
    now = now or timezone.now()
    asked: dict[str, Count] = {}
    for name, age in PERIODS:
        recent = Q(message__received_at__gte=now - age)
        asked[f"accepted_{name}"] = Count("pk", filter=recent)
        asked[f"delivered_{name}"] = Count("pk", filter=recent & Q(state=Recipient.State.DELIVERED))
        asked[f"failed_{name}"] = Count("pk", filter=recent & Q(state=Recipient.State.FAILED))
    since = now - PERIODS[-1][1]
    mine = Recipient.objects.filter(message__organization_id=organization_id, message__received_at__gte=since)
    sums = mine.aggregate(**asked)
    return [
        Outcome(name, sums[f"accepted_{name}"], sums[f"delivered_{name}"], sums[f"failed_{name}"])
        for name, _age in PERIODS
    ]


def accepted_by_hour(organization_id: int, *, hours: int, now: datetime | None = None) -> list[tuple[datetime, int]]:
    """Emails accepted in each of the last hours, the empty ones too, oldest first."""
    last = (now or timezone.now()).replace(minute=0, second=0, microsecond=0)
    first = last - timedelta(hours=hours - 1)
    sums = (
        Message.objects.filter(organization_id=organization_id, received_at__gte=first)
        .annotate(hour=TruncHour("received_at", tzinfo=UTC))
        .values("hour")
        .annotate(number=Sum("recipient_count"))
        .values_list("hour", "number")
    )
    found = dict(sums)
    return [(first + timedelta(hours=n), found.get(first + timedelta(hours=n), 0)) for n in range(hours)]


def full_at(usage: Usage, *, now: datetime | None = None, over_minutes: int = 10) -> datetime | None:
    """When the limit is reached if sending goes on as in the last minutes; None if it is not within the hour.

    Minute by minute: what was sent leaves the window at its own time, what the rate adds comes in.
    """
    rate = sum(usage.per_minute[-over_minutes:]) / over_minutes
    if rate <= 0 or usage.used >= usage.limit:
        return None
    for minute in range(1, 61):
        if sum(usage.per_minute[minute:]) + rate * minute >= usage.limit:
            return (now or timezone.now()) + timedelta(minutes=minute)
    return None


@dataclass(frozen=True, slots=True)
class Setup:
    """How far an organization has come on the way to its first delivered mail, and what needs doing."""

    smtp_users: int
    app_passwords: int
    domains: int
    senders: int
    messages: int
    delivered: bool
    unverified: list[SendingDomain]
    expiring: list[AppPassword]
    without_network: list[SmtpUser]


def setup_of(organization_id: int, *, now: datetime | None = None) -> Setup:
    now = now or timezone.now()
    users = SmtpUser.objects.filter(organization_id=organization_id)
    passwords = AppPassword.objects.filter(smtp_user__organization_id=organization_id, revoked_at=None).exclude(
        kind=AppPassword.Kind.CANARY
    )
    domains = SendingDomain.objects.filter(organization_id=organization_id)
    mine = Recipient.objects.filter(message__organization_id=organization_id)
    soon = Q(expires_at__gt=now, expires_at__lte=now + timedelta(days=14), slept_at=None)
    takes_over = AppPassword.objects.filter(replaces=OuterRef("pk"), revoked_at=None)
    return Setup(
        smtp_users=users.count(),
        app_passwords=passwords.count(),
        domains=domains.count(),
        senders=SenderAddress.objects.filter(smtp_user__organization_id=organization_id).count(),
        messages=Message.objects.filter(organization_id=organization_id)[:1].count(),
        delivered=mine.filter(state=Recipient.State.DELIVERED).exists(),
        unverified=list(domains.filter(verified_at=None).order_by("name")[:5]),
        expiring=list(
            passwords.filter(soon, ~Exists(takes_over)).select_related("smtp_user").order_by("expires_at")[:5]
        ),
        without_network=_open_to_all(organization_id, users, now),
    )


def _open_to_all(organization_id: int, users: QuerySet[SmtpUser], now: datetime) -> list[SmtpUser]:
    live = Q(ends_at=None) | Q(ends_at__gt=now)
    lists = Network.objects.filter(live, organization_id=organization_id, app_password=None)
    if lists.filter(smtp_user=None).exists():
        return []
    closed = lists.values("smtp_user")
    return list(users.filter(disabled_at=None).exclude(pk__in=closed).order_by("username")[:5])


@dataclass(frozen=True, slots=True)
class SmtpUserRow:
    smtp_user: SmtpUser
    last_used_at: datetime | None
    live_passwords: int
    emails: int  # accepted in 30 days


def smtp_user_rows(organization_id: int, *, now: datetime | None = None) -> list[SmtpUserRow]:
    """Every SMTP user with its last use, live app passwords, and the emails of 30 days; the disabled ones last."""
    now = now or timezone.now()
    users = SmtpUser.objects.filter(organization_id=organization_id)
    live = (
        Q(app_passwords__revoked_at=None)
        & (Q(app_passwords__expires_at=None) | Q(app_passwords__expires_at__gt=now))
        & ~Q(app_passwords__kind=AppPassword.Kind.CANARY)
    )
    counted = users.annotate(live=Count("app_passwords", filter=live), last=Max("app_passwords__last_used_at"))
    sent = dict(
        Message.objects.filter(organization_id=organization_id, received_at__gte=now - timedelta(days=30))
        .exclude(smtp_user=None)
        .values("smtp_user_id")
        .annotate(number=Sum("recipient_count"))
        .values_list("smtp_user_id", "number")
    )
    rows = [SmtpUserRow(user, user.last, user.live, sent.get(user.pk, 0)) for user in counted.order_by("username")]
    return sorted(rows, key=lambda row: row.smtp_user.disabled_at is not None)
