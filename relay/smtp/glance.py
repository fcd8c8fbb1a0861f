"""The early look at limits: re-read without a lock, so that MAIL and RCPT can say no before the content travels.

Shapes  obstacle(identity, ip, count) -> OverLimit if there is plainly no room for count recipients, else None.
Units   seconds on the event loop's clock.
Errors  None: if PostgreSQL does not answer there is no early word. The transaction has the last one.
"""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from relay.database import fetch_all
from relay.limits import Key, OverLimit, keys_and_limits
from relay.submission import Submission
from relay.windows import Window

REREAD_SECONDS = 0.25  # when the last look said no, or nearly
TRUST_SECONDS = 15.0  # when it said that there is plenty; what this process accepts meanwhile is counted
PLENTY = 0.5  # of the limit
SEEN_MAX = 50_000
QUIET_SECONDS = 2.0

READ = """
    SELECT plan.recipients_per_hour, smtp_user.recipients_per_hour, smtp_user.recipients_per_hour_per_ip,
           extract(epoch FROM clock_timestamp())::float8,
           ARRAY(SELECT json_build_array(scope, owner_id, host(ip), minute, buckets) FROM relay_limitwindow
                 WHERE scope = 1 AND owner_id = smtp_user.organization_id
                    OR scope = 2 AND owner_id = smtp_user.id
                    OR scope = 3 AND owner_id = smtp_user.id AND ip = %(ip)s::inet)
    FROM relay_smtpuser smtp_user
    JOIN accounts_subscription bought ON bought.organization_id = smtp_user.organization_id
    JOIN accounts_plan plan ON plan.id = bought.plan_id
    WHERE smtp_user.id = %(smtp_user_id)s
"""


class Sender(Protocol):
    @property
    def smtp_user_id(self) -> int: ...
    @property
    def organization_id(self) -> int: ...
    @property
    def has_own_limits(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """The tightest limits as last read. at: loop time of the look."""

    at: float
    windows: tuple[tuple[Key, int, Window], ...]
    now: float

    def obstacle(self, count: int) -> OverLimit | None:
        """Of the limits in the way the one that is longest, as the transaction judges."""
        found = [
            OverLimit(key.scope, limit, window.used, window.seconds_until(count, limit=limit, now=self.now))
            for key, limit, window in self.windows
            if window.used + count > limit
        ]
        return max(found, key=lambda over: math.inf if over.seconds is None else over.seconds, default=None)

    def fresh_for(self, count: int, now: float) -> bool:
        age = now - self.at
        plenty = all(window.used + count <= limit * (1 - PLENTY) for _key, limit, window in self.windows)
        return age < (TRUST_SECONDS if plenty else REREAD_SECONDS)


class Glance:
    """One for each smtpd process."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        # An organization's window serves all its SMTP users, but for those with limits of their own.
        self._seen: OrderedDict[tuple[int, str | None], Seen] = OrderedDict()
        self._quiet_until = 0.0

    async def obstacle(self, sender: Sender, ip: str, count: int) -> OverLimit | None:
        key = (sender.smtp_user_id, ip) if sender.has_own_limits else (sender.organization_id, None)
        seen = self._seen.get(key)
        if seen is None or not seen.fresh_for(count, time.monotonic()):
            seen = await self._look(sender, ip)
            if seen is None:
                return None
            self._seen[key] = seen
            self._seen.move_to_end(key)
            while len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)
        return seen.obstacle(count)

    def taken(self, submission: Submission) -> None:
        """The transaction said yes: what is known of the room shrinks by it."""
        for key in ((submission.smtp_user_id, submission.client_ip), (submission.organization_id, None)):
            if seen := self._seen.get(key):
                for _key, _limit, window in seen.windows:
                    window.add(len(submission.recipients))

    def learn(self, submission: Submission) -> None:
        """The transaction said no: the next MAIL looks again."""
        self._seen.pop((submission.smtp_user_id, submission.client_ip), None)
        self._seen.pop((submission.organization_id, None), None)

    async def _look(self, sender: Sender, ip: str) -> Seen | None:
        if time.monotonic() < self._quiet_until:
            return None
        try:
            rows = await fetch_all(self._pool, READ, {"ip": ip, "smtp_user_id": sender.smtp_user_id}, timeout=1)
        except (psycopg.Error, PoolTimeout, OSError):
            self._quiet_until = time.monotonic() + QUIET_SECONDS  # let not every MAIL wait for a database that is away
            return None
        if not rows:
            return None
        plan_limit, user_limit, ip_limit, now, found = rows[0]
        kept = {
            Key(scope, owner, address): Window(minute, list(buckets))
            for scope, owner, address, minute, buckets in found
        }
        limits = keys_and_limits(
            sender.organization_id,
            plan_limit,
            smtp_user_id=sender.smtp_user_id,
            smtp_user_limit=user_limit,
            ip=ip,
            ip_limit=ip_limit,
        )
        windows = tuple((key, limit, kept.get(key) or Window(int(now // 60))) for key, limit in limits)
        for _key, _limit, window in windows:
            window.advance(int(now // 60))
        return Seen(time.monotonic(), windows, now)
