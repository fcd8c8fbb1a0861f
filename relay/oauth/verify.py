"""AUTH with an access token: whom it signs in, or why it does not.

Shapes  verify_token(pool, directory, token, username=…, ip=…) -> Verified or Refused. For relay.smtp.auth, in its loop.
        Ours ("gpo_…") are found by one indexed read; JWTs of outside issuers are proved by keys in the database.
        Nothing about a token is cached: what was ended a moment ago is refused. The SMTP user comes from the directory
        (5 s at most, dropped when it changes).
Errors  None are raised. Refused.reason: BAD_TOKEN, TOKEN_EXPIRED, TOKEN_OF_ANOTHER, USER_DISABLED,
        ORGANIZATION_SUSPENDED, NETWORK, UNKNOWN_USER, PANEL_PASSWORD, or UNAVAILABLE (454, never 535).
Source  RFC 7628 (OAUTHBEARER), RFC 6750; docs/flow.md, docs/smtp.md.

A session that a token opened is ended by its SMTP user's token_epoch (relay.oauth.sessions), and should not outlive
Verified.expires_at.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from accounts.models import Organization
from audit.models import Reason
from relay.database import fetch_all
from relay.directory import Directory, DirectoryUnavailable, Entry, Unknown, canonical_username
from relay.logs import get_logger
from relay.networks import Address, allowed
from relay.oauth import jwts, tokens

log = get_logger(__name__)

SCOPE = "smtp.send"
TIMEOUT_SECONDS = 3.0
CLAIM_LENGTH_MAX = 255
KEYS_FRESH = timedelta(hours=24)  # an issuer whose keys we could not confirm for so long may have withdrawn them
FETCH_AGAIN_SECONDS = 300  # an unknown kid has the keys fetched, but not more often than this

READ_OWN = """
SELECT smtp_user.username, token.expires, token.scope, token.application_id
FROM oauth_access_token token JOIN relay_smtpuser smtp_user ON smtp_user.id = token.smtp_user_id
WHERE token.token_checksum = %s
"""
READ_ISSUERS = """
SELECT issuer.id, issuer.organization_id, issuer.audience, issuer.claim, issuer.life_minutes_max, issuer.keys,
       issuer.keys_fetched_at
FROM oauth_outside_issuer issuer JOIN accounts_organization customer ON customer.id = issuer.organization_id
WHERE issuer.issuer = %(issuer)s AND (
    customer.id = %(organization)s
    OR (%(organization)s::bigint IS NULL
        AND customer.slug = split_part(lower(%(claims)s::jsonb ->> issuer.claim), '.', 2)))
ORDER BY issuer.id LIMIT 20
"""
READ_SUBJECT = """
SELECT smtp_user.username FROM oauth_outside_subject subject JOIN relay_smtpuser smtp_user
       ON smtp_user.id = subject.smtp_user_id
WHERE subject.issuer_id = %s AND subject.value = %s
"""
FETCH_SOON = """
UPDATE oauth_outside_issuer SET next_fetch_at = clock_timestamp()
WHERE id = %(id)s AND next_fetch_at > clock_timestamp()
      AND greatest(keys_fetched_at, fetch_failed_at) < clock_timestamp() - make_interval(secs => %(seconds)s)
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Verified:
    """The token signs in this SMTP user. by: "client:7" or "issuer:3", for the log."""

    entry: Entry
    expires_at: datetime
    by: str

    @property
    def smtp_user_id(self) -> int:
        return self.entry.state.smtp_user_id

    @property
    def organization_id(self) -> int:
        return self.entry.state.organization_id


@dataclass(frozen=True, slots=True)
class Refused:
    """Why not, truly: for the audit row. The ids are set as soon as it is known whose attempt it was."""

    reason: Reason
    organization_id: int | None = None
    smtp_user_id: int | None = None
    detail: str = ""  # for the log line; the client never sees it


class _Stop(Exception):
    def __init__(
        self, reason: Reason, detail: str = "", *, entry: Entry | None = None, organization_id: int | None = None
    ) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.entry, self.organization_id = reason, detail, entry, organization_id


@dataclass(frozen=True, slots=True)
class _Issuer:
    id: int
    organization_id: int
    claim: str
    rules: jwts.Rules
    keys_fetched_at: datetime | None


async def verify_token(
    pool: AsyncConnectionPool[Any], directory: Directory, token: str, *, username: str | None, ip: Address
) -> Verified | Refused:
    """username: as the client gave it beside the token, or None; if given, the token must be this SMTP user's."""
    named: Entry | None = None
    try:
        if username:
            named = await _named(directory, username)
        if token.startswith(tokens.ACCESS):
            found = await _own(pool, directory, token)
        else:
            found = await _outside(pool, directory, token, named=named)
        return _admitted(found, named=named, ip=ip)
    except _Stop as stop:
        concerned = stop.entry or named
        state = concerned.state if concerned else None
        if stop.detail:
            log.info("oauth.token_refused", detail=stop.detail, username=state.username if state else None)
        return Refused(
            stop.reason,
            state.organization_id if state else stop.organization_id,
            state.smtp_user_id if state else None,
            stop.detail,
        )
    except (DirectoryUnavailable, psycopg.OperationalError, PoolTimeout, OSError):
        return Refused(Reason.UNAVAILABLE)


async def _named(directory: Directory, username: str) -> Entry:
    found = await directory.find(username)
    if isinstance(found, Unknown):
        reason = Reason.PANEL_PASSWORD if found.is_person else Reason.UNKNOWN_USER
        raise _Stop(reason, organization_id=found.organization_id)
    return found


def _admitted(found: Verified, *, named: Entry | None, ip: Address) -> Verified:
    """The token is good: may its SMTP user sign in, from here?"""
    state = found.entry.state
    if named is not None and named.state.smtp_user_id != state.smtp_user_id:
        raise _Stop(Reason.TOKEN_OF_ANOTHER, "the token is of another SMTP user", entry=named)
    if state.disabled:
        raise _Stop(Reason.USER_DISABLED, entry=found.entry)
    if state.organization_state == Organization.State.SUSPENDED:
        raise _Stop(Reason.ORGANIZATION_SUSPENDED, entry=found.entry)
    if not allowed(ip, state.organization_networks, state.networks):
        raise _Stop(Reason.NETWORK, entry=found.entry)
    return found


async def _own(pool: AsyncConnectionPool[Any], directory: Directory, token: str) -> Verified:
    rows = await fetch_all(pool, READ_OWN, [tokens.checksum(token)], timeout=TIMEOUT_SECONDS)
    if not rows:
        raise _Stop(Reason.BAD_TOKEN, "there is no such token, or it has been ended")
    username, expires_at, scope, client_id = rows[0]
    entry = await _named(directory, username)
    if expires_at <= datetime.now(UTC):
        raise _Stop(Reason.TOKEN_EXPIRED, entry=entry)
    if SCOPE not in scope.split():
        raise _Stop(Reason.BAD_TOKEN, "it lacks the scope smtp.send", entry=entry)
    return Verified(entry, expires_at, f"client:{client_id}")


async def _outside(
    pool: AsyncConnectionPool[Any], directory: Directory, token: str, *, named: Entry | None
) -> Verified:
    """By the issuers of the named SMTP user's organization; unnamed, of the one whose username the claim holds."""
    try:
        unproved = jwts.read(token)
    except jwts.NotProved as wrong:
        raise _Stop(wrong.reason, wrong.detail) from None
    organization_id = named.state.organization_id if named else None
    issuers = await _issuers(pool, unproved, organization_id)
    if not issuers:
        raise _Stop(Reason.BAD_TOKEN, "its issuer is not configured")
    refused = jwts.NotProved("its issuer is not configured")
    for issuer in issuers:
        try:
            claims = await _proved(pool, issuer, unproved)
            entry = await _entry_of(pool, directory, issuer, claims)
            return Verified(entry, jwts.end_of(claims, issuer.rules), f"issuer:{issuer.id}")
        except jwts.NotProved as wrong:
            refused = wrong
    raise _Stop(refused.reason, refused.detail)


async def _issuers(
    pool: AsyncConnectionPool[Any], unproved: jwts.Unproved, organization_id: int | None
) -> list[_Issuer]:
    """Each organization's own configuration decides about its SMTP users, and about nobody else's."""
    words = {"issuer": unproved.issuer, "organization": organization_id, "claims": _as_json(unproved.claims)}
    rows = await fetch_all(pool, READ_ISSUERS, words, timeout=TIMEOUT_SECONDS)
    return [
        _Issuer(id, organization, claim, jwts.Rules(unproved.issuer, audience, keys, timedelta(minutes=life)), fetched)
        for id, organization, audience, claim, life, keys, fetched in rows
    ]


async def _proved(pool: AsyncConnectionPool[Any], issuer: _Issuer, unproved: jwts.Unproved) -> dict[str, Any]:
    now = datetime.now(UTC)
    if issuer.keys_fetched_at is None or now - issuer.keys_fetched_at > KEYS_FRESH:
        raise jwts.NotProved("the issuer's keys could not be fetched")
    try:
        return jwts.prove(unproved, issuer.rules, now=now)
    except jwts.KeyUnknown:
        words = {"id": issuer.id, "seconds": FETCH_AGAIN_SECONDS}
        await fetch_all(pool, FETCH_SOON, words, timeout=TIMEOUT_SECONDS)
        raise


async def _entry_of(
    pool: AsyncConnectionPool[Any], directory: Directory, issuer: _Issuer, claims: dict[str, Any]
) -> Entry:
    """Exactly one SMTP user of the issuer's organization: by the list of subjects, else by its username."""
    value = claims.get(issuer.claim)
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= CLAIM_LENGTH_MAX:
        raise jwts.NotProved("it has no such claim")
    rows = await fetch_all(pool, READ_SUBJECT, [issuer.id, value], timeout=TIMEOUT_SECONDS)
    found = await directory.find(rows[0][0] if rows else canonical_username(value))
    if isinstance(found, Unknown) or found.state.organization_id != issuer.organization_id:
        raise jwts.NotProved("its claim names no SMTP user")
    return found


def _as_json(claims: dict[str, Any]) -> str:
    """The claims that could be a username, as jsonb takes them."""
    texts = {
        name: value
        for name, value in claims.items()
        if isinstance(value, str) and value.isprintable() and name.isprintable() and len(value) <= CLAIM_LENGTH_MAX
    }
    return json.dumps(texts)
