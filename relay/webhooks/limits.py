"""Who nears a limit and who reached it: looked for in the windows, never in an accept, told by webhook and by mail.

Shapes  look() reads the windows of organizations and of SMTP users with a limit of their own, without a lock, and
        writes one event (limit.near or limit.reached) and one mail at most for each of them: of the highest level that
        is reached and was not told. Mail is about an organization's own limit alone, and can be switched off.
Units   percent of the hourly limit: NEAR, and 100 for reached. APART: no level is told twice within it, which is a
        window. REFUSED_WITHIN: a refusal for the limit says that it is reached, though a few may still fit.
Errors  Those of the database; the next look sees the same.
Source  relay/windows.py; docs/webhooks.md, Events.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.utils import timezone

from relay import limit_mail
from relay.models import LimitWindow
from relay.smtp.replies import OVER_LIMIT, whose
from relay.webhooks import interest
from relay.webhooks.kinds import OF_LIMITS, Event
from relay.webhooks.models import LimitTold
from relay.webhooks.outbox import write
from relay.windows import Window

NEAR: Final = (80, 90)
FULL: Final = 100
APART: Final = timedelta(hours=1)
REFUSED_WITHIN: Final = timedelta(minutes=1)
_LOCK: Final = 0x6761_7465_0013  # advisory: of two looks at once, one goes home
_ORGANIZATIONS: Final = """
    SELECT bought.organization_id, 0, '', plan.recipients_per_hour, held.minute, held.buckets
    FROM accounts_subscription bought JOIN accounts_plan plan ON plan.id = bought.plan_id
    JOIN relay_limitwindow held ON held.scope = 1 AND held.owner_id = bought.organization_id
    WHERE bought.organization_id = ANY(%(organizations)s) AND held.minute > %(minute)s
"""
_SMTP_USERS: Final = """
    SELECT own.organization_id, own.id, own.username, own.recipients_per_hour, held.minute, held.buckets
    FROM relay_smtpuser own JOIN relay_limitwindow held ON held.scope = 2 AND held.owner_id = own.id
    WHERE own.organization_id = ANY(%(organizations)s) AND own.recipients_per_hour IS NOT NULL
      AND held.minute > %(minute)s
"""
# OVER_LIMIT alone: the reply says whose limit it is. A message that never fits says nothing about the hour.
_REFUSED: Final = """
    SELECT DISTINCT organization_id, CASE WHEN text LIKE %(users)s THEN smtp_user_id ELSE 0 END
    FROM relay_refusal
    WHERE organization_id = ANY(%(organizations)s) AND at > %(since)s AND at <= %(now)s
      AND code = %(code)s AND enhanced_code = %(enhanced)s AND (text LIKE %(users)s OR text LIKE %(organizations_own)s)
"""


@dataclass(frozen=True, slots=True)
class Use:
    organization_id: int
    smtp_user_id: int  # 0: the organization's own limit
    username: str
    limit: int
    used: int
    seconds_until_room: int

    @property
    def percent(self) -> int:
        return min(FULL, self.used * 100 // self.limit) if self.limit else FULL


@dataclass(frozen=True, slots=True)
class News:
    use: Use
    percent: int  # the level


def look(now: datetime | None = None) -> int:
    """How many were told."""
    now = now or timezone.now()
    listening = set(interest.current().of(*OF_LIMITS))
    mailed = limit_mail.wanted(now)
    organizations = listening | mailed
    if not organizations:
        return 0
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
            if not cursor.fetchone()[0]:
                return 0
        LimitTold.objects.filter(told_at__lt=now - APART).delete()
        uses = _uses(list(organizations), now)
        told: dict[tuple[int, int], set[int]] = defaultdict(set)
        for row in LimitTold.objects.filter(organization_id__in=organizations):
            told[row.organization_id, row.smtp_user_id].add(row.percent)
        news = [
            level
            for use in uses
            if (use.organization_id in listening or not use.smtp_user_id)
            and (level := _news(use, told[use.organization_id, use.smtp_user_id], now))
        ]
        for each in news:
            if each.use.organization_id in listening:
                _write(each, now)
            if each.use.organization_id in mailed and not each.use.smtp_user_id:
                limit_mail.send(
                    each.use.organization_id, percent=each.percent, limit=each.use.limit, used=each.use.used
                )
        return len(news)


def _uses(organizations: Sequence[int], now: datetime) -> list[Use]:
    seconds = now.timestamp()
    values: dict[str, Any] = {"organizations": organizations, "minute": int(seconds // 60) - 61}
    found = []
    with connection.cursor() as cursor:
        for statement in (_ORGANIZATIONS, _SMTP_USERS):
            cursor.execute(statement, values)
            found += [_use(row, seconds) for row in cursor.fetchall()]
    refused = _refused(organizations, now)
    return [
        replace(use, used=use.limit) if (use.organization_id, use.smtp_user_id) in refused else use for use in found
    ]


def _use(row: Sequence[Any], now: float) -> Use:
    organization_id, smtp_user_id, username, limit, minute, buckets = row
    window = Window(minute, list(buckets))
    window.advance(int(now // 60))
    seconds = window.seconds_until(1, limit=limit, now=now) or 0
    return Use(organization_id, smtp_user_id, username, limit, window.used, seconds)


def _refused(organizations: Sequence[int], now: datetime) -> set[tuple[int, int]]:
    """Owners whose limit turned mail away just now: what is left of it was too little."""
    values: dict[str, Any] = {
        "organizations": organizations,
        "since": now - REFUSED_WITHIN,
        "now": now,
        "code": OVER_LIMIT.code,
        "enhanced": OVER_LIMIT.enhanced,
        "users": f"%{whose(LimitWindow.Scope.SMTP_USER)}%",
        "organizations_own": f"%{whose(LimitWindow.Scope.ORGANIZATION)}%",
    }
    with connection.cursor() as cursor:
        cursor.execute(_REFUSED, values)
        return {(organization_id, owner) for organization_id, owner in cursor.fetchall()}


def _news(use: Use, told: set[int], now: datetime) -> News | None:
    """Of the levels that are reached now the highest one, if it was not told. Those below it are no news after it."""
    reached = [level for level in (*NEAR, FULL) if use.percent >= level]
    if not reached or max(reached) in told:
        return None
    LimitTold.objects.bulk_create(
        [
            LimitTold(organization_id=use.organization_id, smtp_user_id=use.smtp_user_id, percent=level, told_at=now)
            for level in reached
        ],
        ignore_conflicts=True,
    )
    return News(use, max(reached))


def _write(news: News, now: datetime) -> None:
    use = news.use
    data = {
        "scope": "smtp_user" if use.smtp_user_id else "organization",
        "smtp_user": use.username or None,
        "limit": use.limit,
        "used": use.used,
        "percent": news.percent,
        "seconds_until_room": use.seconds_until_room,
    }
    event = Event.LIMIT_REACHED if news.percent == FULL else Event.LIMIT_NEAR
    users = [use.smtp_user_id] if use.smtp_user_id else []
    write(event, organization_id=use.organization_id, smtp_user_ids=users, data=data, occurred_at=now)
