"""Refusals of an organization, found again: by reference, as a list, in counts.

Shapes  told_by(organization_id, reference) -> Told: the sign-in, refusal or message that carries it.
        refusal_page() -> Page of RefusalRow, newest first. refusal_counts() -> one number for each age.
Errors  None: another organization's reference is as unknown as a made-up one; a bad cursor starts at the newest.
Source  relay/models/refusals.py: written by relay/smtp/recorder.py, for those who had signed in; sign-ins are audit's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Q
from django.utils import timezone

from audit.models import AuthEvent
from audit.queries import AuthFilters, auth_events
from relay.models import Message, Refusal, SmtpUser
from relay.pasted import PastedReply


@dataclass(frozen=True, slots=True)
class RefusalRow:
    refusal: Refusal
    smtp_user: SmtpUser | None  # gone, or not there any more


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[RefusalRow]
    older: str  # cursor, empty at the end


@dataclass(frozen=True, slots=True)
class Told:
    attempt: AuthEvent | None = None
    refusal: RefusalRow | None = None
    message: Message | None = None

    def __bool__(self) -> bool:
        return bool(self.attempt or self.refusal or self.message)


def told_by(organization_id: int, reference: str) -> Told:
    attempts = auth_events(organization_id, filters=AuthFilters(reference=reference), limit=1)
    if attempts:
        return Told(attempt=attempts[0])
    mine = Q(organization_id=organization_id, reference=reference)
    refusals = refusal_rows(Refusal.objects.filter(mine)[:1])
    if refusals:
        return Told(refusal=refusals[0])
    return Told(message=Message.objects.filter(mine).prefetch_related("recipients").first())


def refusal_page(organization_id: int, *, since: datetime | None = None, cursor: str = "", limit: int) -> Page:
    refusals = Refusal.objects.filter(organization_id=organization_id)
    if since:
        refusals = refusals.filter(at__gte=since)
    if place := _place(cursor):
        at, pk = place
        refusals = refusals.filter(Q(at__lte=at), Q(at__lt=at) | Q(pk__lt=pk))
    found = list(refusals.order_by("-at", "-pk")[: limit + 1])
    older = f"{found[limit - 1].at.timestamp():.6f}_{found[limit - 1].pk}" if len(found) > limit else ""
    return Page(refusal_rows(found[:limit]), older)


def refusal_rows(refusals: Iterable[Refusal]) -> list[RefusalRow]:
    """With each one's SMTP user, in one further query whatever their number."""
    refusals = list(refusals)
    users = SmtpUser.objects.in_bulk({each.smtp_user_id for each in refusals})
    return [RefusalRow(each, users.get(each.smtp_user_id)) for each in refusals]


def reply_of(refusal: Refusal) -> PastedReply:
    """As its client was told it, for relay.refusal_reasons."""
    return PastedReply(refusal.code, refusal.enhanced_code, refusal.text)


def refusal_counts(organization_id: int, *, ages: Sequence[timedelta], now: datetime | None = None) -> list[int]:
    """In one pass over the longest of the ages."""
    now = now or timezone.now()
    asked = {f"n{number}": Count("pk", filter=Q(at__gte=now - age)) for number, age in enumerate(ages)}
    recent = Refusal.objects.filter(organization_id=organization_id, at__gte=now - max(ages))
    sums = recent.aggregate(**asked)
    return [sums[name] for name in asked]


def _place(cursor: str) -> tuple[datetime, int] | None:
    seconds, _sep, pk = cursor.partition("_")
    try:
        return datetime.fromtimestamp(float(seconds), UTC), int(pk)
    except (ValueError, OverflowError, OSError):
        return None
