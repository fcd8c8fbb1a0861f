"""When the limit will release what it holds: the windows played forward, the oldest message first.

Shapes  forecast() -> Forecast: rows of HeldMessage with the time of their release as things stand, and how many more.
Units   release_at: aware UTC; None: never, as a limit is less than the message.
Errors  None.
Source  relay/limits.py: release_held() decides; this looks ahead by the same windows and the same order.

What is accepted until then by others of the same windows comes before: the times are the earliest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.utils import timezone

from accounts.models import Organization
from relay.limits import Key, keys_and_limits
from relay.models import LimitWindow, Message
from relay.windows import Window

SHOWN: Final = 100
# As relay.limits.HELD_MESSAGES orders them; those that never fit are shown, and hold nobody up.
_HELD = """
    SELECT message.id, message.smtp_user_id, host(message.client_ip), count(*), plan.recipients_per_hour,
           smtp_user.recipients_per_hour, smtp_user.recipients_per_hour_per_ip
    FROM relay_message message
    JOIN relay_recipient held ON held.message_id = message.id AND held.state = 'held'
         AND held.due_at < '9999-01-01 00:00+00'
    JOIN accounts_subscription bought ON bought.organization_id = message.organization_id
    JOIN accounts_plan plan ON plan.id = bought.plan_id
    LEFT JOIN relay_smtpuser smtp_user ON smtp_user.id = message.smtp_user_id
    WHERE message.organization_id = %s
    GROUP BY message.id, plan.recipients_per_hour, smtp_user.recipients_per_hour, smtp_user.recipients_per_hour_per_ip
    ORDER BY message.received_at, message.id LIMIT %s
"""
_COUNT = """
    SELECT count(DISTINCT message.id), count(*) FROM relay_message message
    JOIN relay_recipient held ON held.message_id = message.id AND held.state = 'held'
         AND held.due_at < '9999-01-01 00:00+00'
    WHERE message.organization_id = %s
"""


@dataclass(frozen=True, slots=True)
class HeldMessage:
    message: Message
    recipients: int
    release_at: datetime | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """is_suspended: nothing is released before the organization is activated again."""

    rows: Sequence[HeldMessage]
    messages: int
    recipients: int
    is_suspended: bool = False

    @property
    def more(self) -> int:
        return self.messages - len(self.rows)


def forecast(organization: Organization, *, limit: int = SHOWN, now: datetime | None = None) -> Forecast:
    now = now or timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [organization.pk])
        messages, recipients = cursor.fetchone()
        cursor.execute(_HELD, [organization.pk, limit])
        held = cursor.fetchall()
    asked = [(row[0], row[3], _limits(organization.pk, row)) for row in held]
    windows = _windows({key for _id, _count, limits in asked for key, _limit in limits}, now=now)
    found = Message.objects.in_bulk([row[0] for row in held])
    rows = [HeldMessage(found[pk], number, at) for pk, number, at in _play(asked, windows, now) if pk in found]
    is_suspended = organization.state == Organization.State.SUSPENDED
    return Forecast(rows, messages, recipients, is_suspended)


Limits = Sequence[tuple[Key, int]]


def _limits(organization_id: int, row: Sequence[Any]) -> Limits:
    _id, smtp_user_id, ip, _count, plan_limit, user_limit, ip_limit = row
    return keys_and_limits(
        organization_id, plan_limit, smtp_user_id=smtp_user_id, smtp_user_limit=user_limit, ip=ip, ip_limit=ip_limit
    )


def _windows(keys: set[Key], *, now: datetime) -> dict[Key, Window]:
    minute = int(now.timestamp() // 60)
    found = {key: Window(minute) for key in keys}
    owners = {key.owner_id for key in keys}
    for row in LimitWindow.objects.filter(owner_id__in=owners):
        key = Key(row.scope, row.owner_id, row.ip)
        if key in found:
            found[key] = Window(row.minute, list(row.buckets))
            found[key].advance(minute)
    return found


def _play(
    asked: Sequence[tuple[UUID, int, Limits]], windows: dict[Key, Window], now: datetime
) -> list[tuple[UUID, int, datetime | None]]:
    """Nothing overtakes an older message of the same window, so a window's time never runs backwards."""
    begun = dict.fromkeys(windows, now.timestamp())
    played: list[tuple[UUID, int, datetime | None]] = []
    for message_id, number, limits in asked:
        if any(number > limit for _key, limit in limits):
            played.append((message_id, number, None))
            continue
        at = max(begun[key] for key, _limit in limits)
        while True:
            waits = []
            for key, limit in limits:
                windows[key].advance(int(at // 60))
                waits.append(windows[key].seconds_until(number, limit=limit, now=at) or 0)
            if not any(waits):
                break
            at += max(waits)
        for key, _limit in limits:
            windows[key].add(number)
            begun[key] = at
        played.append((message_id, number, datetime.fromtimestamp(at, UTC)))
    return played
