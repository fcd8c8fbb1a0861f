"""What smtpd knows of SMTP users: read in one query, kept for 5 s at most.

Shapes  find(username) -> Entry, or Unknown. Both kinds are cached, each in a bounded LRU of its own, so that guessing
        names cannot push out the entries of those who send.
Units   seconds on the event loop's clock.
Errors  DirectoryUnavailable: PostgreSQL is out of reach (454 4.7.0, never 535).
"""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import psycopg
from django.conf import settings
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from relay.credentials import PasswordState, UserState
from relay.database import fetch_all
from relay.logs import get_logger
from relay.networks import Range
from relay.sign_in_policy import ANYTHING, Policy

log = get_logger(__name__)

FRESH_SECONDS = 5.0
ENTRIES_MAX = 20_000
UNKNOWN_MAX = 20_000
NAMES_MAX = 500  # of one query
PASSWORDS_MAX = 200  # of one SMTP user: all that live, and the newest that ended; there is no end to those
TIMEOUT_SECONDS = 3.0
READINGS_MAX = 3  # of one look-up, if changes keep arriving meanwhile; the transaction has the last word anyway

READ_ENTRIES = """
SELECT smtp_user.id, smtp_user.organization_id, smtp_user.username, customer.state, smtp_user.disabled_at IS NOT NULL,
       smtp_user.may_send_null, smtp_user.excess,
       smtp_user.recipients_per_hour IS NOT NULL OR smtp_user.recipients_per_hour_per_ip IS NOT NULL,
       CASE WHEN customer.state = 'pending' THEN 'sandbox' ELSE coalesce(named.kind, %(default_route)s) END,
       encode(smtp_user.scram_salt, 'hex'), smtp_user.scram_iterations, smtp_user.cram_md5_enabled_at IS NOT NULL,
       smtp_user.token_epoch, policy.tls_least, policy.refused_mechanisms,
       EXISTS (SELECT FROM relay_suppression kept WHERE kept.organization_id = smtp_user.organization_id),
       (SELECT json_agg(json_build_array(password.id, encode(password.digest, 'hex'), password.revoked_at IS NOT NULL,
                                         extract(epoch FROM password.expires_at), password.kind,
                                         encode(password.scram_stored_key || password.scram_server_key ||
                                                coalesce(password.scram_keys_as_shown, ''), 'hex'),
                                         encode(password.cram_md5_secret, 'escape'), password.slept_at IS NOT NULL))
        FROM (SELECT * FROM relay_apppassword made WHERE made.smtp_user_id = smtp_user.id
              ORDER BY made.revoked_at IS NOT NULL OR coalesce(made.expires_at <= now(), FALSE), made.id DESC
              LIMIT %(passwords_max)s) AS password),
       (SELECT json_agg(json_build_array(network.smtp_user_id, network.app_password_id, text(network.cidr),
                                         network.ends_at IS NULL OR network.ends_at > now()))
        FROM relay_network network WHERE network.organization_id = smtp_user.organization_id
             AND (network.smtp_user_id IS NULL OR network.smtp_user_id = smtp_user.id)
             AND NOT EXISTS (SELECT FROM relay_apppassword ended WHERE ended.id = network.app_password_id
                             AND (ended.revoked_at IS NOT NULL OR ended.expires_at < now() - interval '1 day'))),
       (SELECT json_agg(sender.pattern) FROM relay_senderaddress sender WHERE sender.smtp_user_id = smtp_user.id),
       (SELECT json_agg(json_build_array(domain.name, domain.verified_at IS NOT NULL, EXISTS (
            SELECT FROM relay_sendingdomain other WHERE other.name = domain.name AND other.verified_at IS NOT NULL
                   AND other.organization_id <> domain.organization_id), (
            SELECT own.kind FROM relay_routechoice choice JOIN relay_namedroute own ON own.id = choice.route_id
            WHERE choice.domain_id = domain.id AND customer.state <> 'pending')))
        FROM relay_sendingdomain domain WHERE domain.organization_id = smtp_user.organization_id)
FROM relay_smtpuser smtp_user
JOIN accounts_organization customer ON customer.id = smtp_user.organization_id
LEFT JOIN relay_routechoice chosen ON chosen.organization_id = customer.id
LEFT JOIN accounts_subscription bought ON chosen.id IS NULL AND bought.organization_id = customer.id
LEFT JOIN relay_routechoice of_plan ON of_plan.plan_id = bought.plan_id
LEFT JOIN relay_namedroute named ON named.id = coalesce(chosen.route_id, of_plan.route_id)
LEFT JOIN relay_signinpolicy policy ON policy.organization_id = customer.id
WHERE smtp_user.username = ANY(%(usernames)s)
"""
READ_UNKNOWN = """
SELECT name, (SELECT id FROM accounts_organization WHERE slug = missing.slug),
       EXISTS (SELECT FROM accounts_user WHERE email = missing.name)
FROM unnest(%s::text[], %s::text[]) AS missing (name, slug)
"""


class DirectoryUnavailable(Exception):
    """The database did not answer."""


@dataclass(frozen=True, slots=True)
class DomainStanding:
    """A domain that the organization added. held_elsewhere: another organization has it verified."""

    verified: bool
    held_elsewhere: bool
    route: str = ""  # the kind of its own route; empty: it takes the organization's


@dataclass(frozen=True, slots=True)
class Entry:
    """An SMTP user with everything that a session asks about it."""

    state: UserState
    route: str
    excess: str
    may_send_null: bool
    has_own_limits: bool  # of the SMTP user, or of each address, beside the plan's
    senders: frozenset[str]
    domains: dict[str, DomainStanding]
    policy: Policy = ANYTHING  # what the organization refuses of old ways to sign in
    domain_routes: dict[str, str] = field(
        default_factory=dict
    )  # kinds, of those domains that have a route of their own
    has_suppressions: bool = False  # without them no recipient is looked up

    def route_for(self, address: str) -> str:
        """The kind of route that mail from this address takes."""
        if not self.domain_routes:
            return self.route
        return self.domain_routes.get(address.rpartition("@")[2].lower(), self.route)


@dataclass(frozen=True, slots=True)
class Unknown:
    """No SMTP user has the name. is_person: it is the e-mail address of somebody who uses the panel."""

    organization_id: int | None = None
    is_person: bool = False


class Cache:
    """The newest answers by username, each with the time after which it is asked again."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._answers: OrderedDict[str, tuple[float, Entry | Unknown]] = OrderedDict()

    def get(self, username: str) -> Entry | Unknown | None:
        kept = self._answers.get(username)
        if kept is None or kept[0] <= self._clock():
            return None
        self._answers.move_to_end(username)
        return kept[1]

    def put(self, username: str, answer: Entry | Unknown) -> None:
        self._answers[username] = (self._clock() + FRESH_SECONDS, answer)
        self._answers.move_to_end(username)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def clear(self) -> None:
        self._answers.clear()

    def drop_organization(self, organization_id: int) -> None:
        concerned = [
            username
            for username, (_until, answer) in self._answers.items()
            if isinstance(answer, Entry) and answer.state.organization_id == organization_id
        ]
        for username in concerned:
            del self._answers[username]


class Directory:
    """One for each smtpd process. Look-ups that wait at the same time are one query."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        self._entries, self._unknown = Cache(ENTRIES_MAX), Cache(UNKNOWN_MAX)
        self._asked: dict[str, asyncio.Future[Entry | Unknown]] = {}
        self._wanted: list[str] = []
        self._reader: asyncio.Task[None] | None = None
        self._generation = 0

    async def find(self, username: str) -> Entry | Unknown:
        """The SMTP user of this name, whatever its case, with or without `@<hostname>`. Raises DirectoryUnavailable."""
        name = canonical_username(username)
        if answer := self._entries.get(name) or self._unknown.get(name):
            return answer
        if "\0" in name or len(name) > 320 or not name.isprintable():
            return Unknown()  # PostgreSQL takes no NUL, and no SMTP user is called that
        if (asked := self._asked.get(name)) is None:
            asked = self._asked[name] = asyncio.get_running_loop().create_future()
            self._wanted.append(name)
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read_wanted(), name="directory")
        return await asyncio.shield(asked)

    def forget(self, organization_id: int | None = None) -> None:
        """Drops what is kept of an organization, or everything; a query under way is made again."""
        self._generation += 1
        self._unknown.clear()
        if organization_id is None:
            self._entries.clear()
        else:
            self._entries.drop_organization(organization_id)

    async def _read_wanted(self) -> None:
        while self._wanted:
            names, self._wanted = self._wanted[:NAMES_MAX], self._wanted[NAMES_MAX:]
            try:
                answers = await self._read(names)
            except Exception as error:  # whatever it is: nobody may wait for ever, and 454 is the answer
                if not isinstance(error, psycopg.Error | PoolTimeout | OSError):
                    log.exception("directory.failed")
                for name in names:
                    self._asked.pop(name).set_exception(DirectoryUnavailable())
            else:
                for name in names:
                    self._asked.pop(name).set_result(answers[name])

    async def _read(self, names: list[str]) -> dict[str, Entry | Unknown]:
        for _reading in range(READINGS_MAX):
            generation = self._generation
            answers = await _query(self._pool, names)
            if generation == self._generation:
                for name, answer in answers.items():
                    (self._entries if isinstance(answer, Entry) else self._unknown).put(name, answer)
                break
        return answers


def canonical_username(username: str) -> str:
    name = username.strip().lower()
    return name.removesuffix(f"@{settings.GATEPOST_HOSTNAME.lower()}")


async def _query(pool: AsyncConnectionPool[Any], names: list[str]) -> dict[str, Entry | Unknown]:
    words = {"usernames": names, "default_route": settings.GATEPOST_DEFAULT_ROUTE, "passwords_max": PASSWORDS_MAX}
    rows = await fetch_all(pool, READ_ENTRIES, words, timeout=TIMEOUT_SECONDS)
    answers: dict[str, Entry | Unknown] = {record[2]: _entry(record) for record in rows}
    if missing := [name for name in names if name not in answers]:
        slugs = [name.rpartition(".")[2] for name in missing]
        for name, organization_id, is_person in await fetch_all(
            pool, READ_UNKNOWN, [missing, slugs], timeout=TIMEOUT_SECONDS
        ):
            answers[name] = Unknown(organization_id=organization_id, is_person=is_person)
    return answers


def _entry(record: tuple[Any, ...]) -> Entry:
    id, organization_id, username, organization_state, disabled, may_send_null, excess, limits, route = record[:9]
    salt, iterations, cram_md5, token_epoch, tls_least, refused_mechanisms = record[9:15]
    passwords, networks, senders, domains = (part or [] for part in record[16:])
    lists = _lists_of(networks)
    state = UserState(
        smtp_user_id=id,
        organization_id=organization_id,
        username=username,
        organization_state=organization_state,
        disabled=disabled,
        organization_networks=lists.get((None, None)),
        networks=lists.get((id, None)),
        scram_salt=bytes.fromhex(salt),
        scram_iterations=iterations,
        cram_md5=cram_md5 and settings.GATEPOST_CRAM_MD5,
        token_epoch=token_epoch,
        passwords=tuple(
            PasswordState(
                id=password_id,
                digest=bytes.fromhex(digest),
                revoked=revoked,
                expires_at=datetime.fromtimestamp(float(expires), UTC) if expires is not None else None,
                networks=lists.get((None, password_id)),
                needs_allowlist=kind == "device",
                asleep=asleep,
                canary=kind == "canary",
                scram_keys=_pairs_of_keys(bytes.fromhex(keys)),
                cram_md5_secret=sealed.encode() if sealed else None,
            )
            for password_id, digest, revoked, expires, kind, keys, sealed, asleep in passwords
        ),
    )
    standings = {
        name: DomainStanding(verified, held_elsewhere, own or "") for name, verified, held_elsewhere, own in domains
    }
    domain_routes = {name: standing.route for name, standing in standings.items() if standing.route}
    patterns = frozenset(pattern.casefold() for pattern in senders)
    policy = ANYTHING if tls_least is None else Policy(tls_least, frozenset(refused_mechanisms))
    return Entry(
        state, route, excess, may_send_null, limits, patterns, standings, policy, domain_routes, record[15]
    )  # fmt: skip


def _pairs_of_keys(keys: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """StoredKey and ServerKey, 32 octets each, one pair after the other."""
    return tuple((keys[at : at + 32], keys[at + 32 : at + 64]) for at in range(0, len(keys), 64))


def _lists_of(networks: list[Any]) -> dict[tuple[int | None, int | None], tuple[Range, ...]]:
    """By SMTP user and app password, of which one is None: the live ranges of each list that has rows."""
    found: defaultdict[tuple[int | None, int | None], list[Range]] = defaultdict(list)
    for smtp_user_id, app_password_id, cidr, live in networks:
        ranges = found[None if app_password_id else smtp_user_id, app_password_id]
        if live:
            ranges.append(ip_network(cidr))
    return {owner: tuple(ranges) for owner, ranges in found.items()}
