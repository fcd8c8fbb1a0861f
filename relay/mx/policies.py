"""The MTA-STS policies of recipients' domains: found by the DNS, fetched by HTTPS, kept in PostgreSQL.

Shapes  await Policies(pool).of(domain) -> Policy or None. One for each delivery loop; the table is shared by all.
Units   seconds.
Errors  What the database raises. A policy that cannot be fetched is none, unless one that holds is kept (RFC 8461 3.3).
Source  RFC 8461 3.3 (fetching), 5.1 (whoever answers for the DNS must not be able to take a policy away), 10.2.

The policy's host is chosen by whoever owns the domain: it is fetched as every address that strangers choose, by
relay.outside, in a thread of its own.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_address
from time import monotonic

from django.conf import settings
from django.utils import timezone, translation
from psycopg.types.json import Jsonb

from relay import outside, resolver
from relay.connections import Pool
from relay.logs import get_logger
from relay.models import MtaStsPolicy
from relay.mx.sts import OFF, Policy, PolicyError, parse_policy, record_id
from relay.networks import Address
from relay.resolver import Outcome

FETCH_SECONDS = 10.0
POLICY_OCTETS = 64 * 1024
FETCHING = 16  # at a time: a slow server of one domain must not hold up the policies of others
LOOKED_UP_AGAIN = 60.0  # the table, for a domain that was looked up
FAILED_AGAIN = 300.0  # a fetch that failed: RFC 8461 3.3 asks for five minutes at least
REFRESHED_AFTER = timedelta(days=1)  # RFC 8461 3.3: policies are fetched anew before they end
REMEMBERED = 20_000  # domains

log = get_logger(__name__)

_READ = "SELECT policy_id, mode, mx, max_age, fetched_at, expires_at FROM relay_mtastspolicy WHERE domain = %s"
_WRITE = """
INSERT INTO relay_mtastspolicy (domain, policy_id, mode, mx, max_age, fetched_at, expires_at)
VALUES (%(domain)s, %(policy_id)s, %(mode)s, %(mx)s, %(max_age)s, %(fetched_at)s, %(expires_at)s)
ON CONFLICT (domain) DO UPDATE SET policy_id = excluded.policy_id, mode = excluded.mode, mx = excluded.mx,
    max_age = excluded.max_age, fetched_at = excluded.fetched_at, expires_at = excluded.expires_at
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A policy with the id under which the DNS named it."""

    policy_id: str
    policy: Policy
    fetched_at: datetime
    expires_at: datetime

    @property
    def holds(self) -> bool:
        return self.expires_at > timezone.now()

    @property
    def is_old(self) -> bool:
        return self.fetched_at + min(REFRESHED_AFTER, (self.expires_at - self.fetched_at) / 2) < timezone.now()


class Policies:
    """Belongs to one event loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[str, tuple[float, Kept | None]] = OrderedDict()  # until when; what the table has
        self._failed: OrderedDict[str, tuple[float, str]] = OrderedDict()  # until when; the id in vain
        self._fetches: dict[str, asyncio.Task[Kept | None]] = {}
        self._threads = ThreadPoolExecutor(FETCHING, thread_name_prefix="mta-sts")

    async def of(self, domain: str) -> Policy | None:
        """What must be obeyed now."""
        if not settings.GATEPOST_MX_MTA_STS:
            return None
        answer = await resolver.query(f"_mta-sts.{domain}", "TXT")
        named = record_id(answer.texts) if answer.outcome is Outcome.RECORDS else ""
        kept = await self._kept(domain)
        is_new = bool(named) and (kept is None or kept.policy_id != named)
        if (is_new or (named and kept and kept.is_old)) and not self._failed_lately(domain, named):
            fetching = self._fetch_once(domain, named)
            if is_new:
                kept = await asyncio.shield(fetching) or kept
        return kept.policy if kept and kept.policy.mode != OFF else None

    async def close(self) -> None:
        for task in list(self._fetches.values()):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- What is kept ---

    async def _kept(self, domain: str) -> Kept | None:
        until, kept = self._known.get(domain, (0.0, None))
        if until <= monotonic():
            kept = await self._read(domain)
            self._remember(domain, kept)
        return kept if kept and kept.holds else None

    async def _read(self, domain: str) -> Kept | None:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_READ, [domain])).fetchone()
        if row is None:
            return None
        policy_id, mode, mx, max_age, fetched_at, expires_at = row
        return Kept(policy_id, Policy(mode, tuple(mx), max_age), fetched_at, expires_at)

    def _remember(self, domain: str, kept: Kept | None) -> None:
        self._known[domain] = (monotonic() + LOOKED_UP_AGAIN, kept)
        self._known.move_to_end(domain)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _failed_lately(self, domain: str, named: str) -> bool:
        until, failed = self._failed.get(domain, (0.0, ""))
        return until > monotonic() and failed == named

    # --- What is fetched ---

    def _fetch_once(self, domain: str, named: str) -> "asyncio.Task[Kept | None]":
        """Many messages to one domain wait for one fetch."""
        task = self._fetches.get(domain)
        if task is None:
            task = asyncio.create_task(self._fetch(domain, named))
            self._fetches[domain] = task
            task.add_done_callback(lambda done: self._fetched(domain, done))
        return task

    def _fetched(self, domain: str, task: "asyncio.Task[Kept | None]") -> None:
        """Nobody may be waiting for it: what was raised is told here as well."""
        self._fetches.pop(domain, None)
        if not task.cancelled() and (error := task.exception()):
            log.warning("mta_sts.not_kept", domain=domain, error=type(error).__name__)

    async def _fetch(self, domain: str, named: str) -> Kept | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(2 * FETCH_SECONDS):  # the wait for a thread included
                addresses = await _addresses_of(f"mta-sts.{domain}")
                policy = await loop.run_in_executor(self._threads, partial(fetch_policy, domain, addresses))
        except (PolicyError, TimeoutError, outside.OutsideFailed, outside.OutsideRefused) as exc:
            log.warning("mta_sts.not_fetched", domain=domain, reason=str(exc) or "no answer in time")
            self._failed[domain] = (monotonic() + FAILED_AGAIN, named)
            self._failed.move_to_end(domain)
            while len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)
            return None
        now = timezone.now()
        kept = Kept(named, policy, now, now + timedelta(seconds=policy.max_age))
        await self._write(domain, kept)
        self._remember(domain, kept)
        log.info("mta_sts.fetched", domain=domain, mode=policy.mode, max_age=policy.max_age)
        return kept

    async def _write(self, domain: str, kept: Kept) -> None:
        values = {
            "domain": domain,
            "policy_id": kept.policy_id,
            "mode": kept.policy.mode,
            "mx": Jsonb(list(kept.policy.mx)),
            "max_age": kept.policy.max_age,
            "fetched_at": kept.fetched_at,
            "expires_at": kept.expires_at,
        }
        async with self._pool.connection() as connection:
            await connection.execute(_WRITE, values)


async def _addresses_of(host: str) -> list[Address]:
    """Raises PolicyError where there are none."""
    answers = await asyncio.gather(resolver.query(host, "A"), resolver.query(host, "AAAA"))
    found = [ip_address(address) for answer in answers for address in answer.addresses]
    if not found:
        raise PolicyError(f"{host} has no address")
    return found


def fetch_policy(domain: str, addresses: Sequence[Address]) -> Policy:
    """Blocks. RFC 8461 3.3: no redirect, valid certificate, status 200. Raises PolicyError and as outside does."""
    port = settings.GATEPOST_MTA_STS_PORT
    host = f"mta-sts.{domain}" if port == 443 else f"mta-sts.{domain}:{port}"
    with translation.override("en"):  # the words are for the log
        answer = outside.fetch(
            f"https://{host}/.well-known/mta-sts.txt",
            seconds=FETCH_SECONDS,
            octets=POLICY_OCTETS,
            redirects=0,
            addresses=addresses,
        )
    if answer.status != 200:
        raise PolicyError(f"the answer has status {answer.status}")
    if answer.headers.get("content-type", "text/plain").partition(";")[0].strip().lower() != "text/plain":
        raise PolicyError("the answer is not text/plain")
    return parse_policy(answer.body)


def forget_ended_policies() -> int:
    """Deletes policies that hold no longer."""
    return MtaStsPolicy.objects.filter(expires_at__lt=timezone.now()).delete()[0]
