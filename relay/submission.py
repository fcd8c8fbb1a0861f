"""Submission: what a session hands to the core, and what comes back.

Shapes  authenticate(directory, username, proof, ip), authenticate_token(pool, directory, username, token, ip)
        -> Authentication.
        submit(writer, Submission) -> Accepted, OverLimit, Ended or Unavailable.
Errors  None are raised: the session turns each outcome into its reply.
Source  RFC 6409 (submission), RFC 4954 (AUTH); docs/flow.md.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from audit.models import Reason
from relay import credentials
from relay.credentials import Proof
from relay.directory import Directory, DirectoryUnavailable, Entry, Unknown
from relay.limits import OverLimit
from relay.networks import Address
from relay.oauth.verify import Refused, verify_token


@dataclass(frozen=True, slots=True)
class Envelope:
    """One recipient as RCPT gave it; the DSN words are kept as they came (RFC 3461)."""

    address: str
    notify: str = ""
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class TokenHold:
    """On what a session of an access token stands, as one of an app password stands on that."""

    epoch: int  # SmtpUser.token_epoch at the sign-in: it goes up when sessions of tokens must end
    until: float  # the token's end, seconds since 1970


@dataclass(frozen=True, slots=True)
class Submission:
    """A complete message, its envelope, and the trace of who sent it. `content` is as it will be relayed."""

    id: UUID
    reference: str
    organization_id: int
    smtp_user_id: int
    app_password_id: int | None  # None: signed in by a token
    reverse_path: str
    recipients: tuple[Envelope, ...]
    content: bytes = field(repr=False)
    route: str
    header_from: str = ""
    header_message_id: str = ""
    subject: str = ""
    smtputf8: bool = False
    body_8bit: bool = False
    dsn_ret: str = ""
    dsn_envid: str = ""
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    client_ip: str = ""
    client_name: str = ""
    tls_version: str = ""
    tls_cipher: str = ""
    mechanism: str = ""
    port: int = 0
    worker: str = ""
    token: TokenHold | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Committed: message, recipients and every debit. held: waits for room in the limit's window."""

    held: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The app password, SMTP user or organization ended before the commit."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Not accepted, and not the client's fault."""

    why: str
    disk_is_full: bool = False  # PostgreSQL said so (53100)


@dataclass(frozen=True, slots=True)
class PaymentDue:
    """Not accepted: the organization's sending is held until it has paid."""


Outcome = Accepted | OverLimit | Ended | PaymentDue | Unavailable


class Writes(Protocol):
    async def write(self, submission: Submission) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Authentication:
    """The verdict on one attempt, with what the audit row needs. entry is set only if it was accepted."""

    reason: Reason
    entry: Entry | None = None
    organization_id: int | None = None
    smtp_user_id: int | None = None
    app_password_id: int | None = None
    token: TokenHold | None = None


async def authenticate(directory: Directory, *, username: str, proof: Proof, ip: Address) -> Authentication:
    """Looks the SMTP user up (cached for 5 s) and judges the proof. The reason is true, and for the audit alone."""
    try:
        found = await directory.find(username)
    except DirectoryUnavailable:
        return Authentication(Reason.UNAVAILABLE)
    if isinstance(found, Unknown):
        reason = Reason.PANEL_PASSWORD if found.is_person else Reason.UNKNOWN_USER
        return Authentication(reason, organization_id=found.organization_id)
    verdict = credentials.verify(found.state, proof, ip=ip, now=datetime.now(UTC))
    return Authentication(
        verdict.reason,
        entry=found if verdict.accepted else None,
        organization_id=found.state.organization_id,
        smtp_user_id=found.state.smtp_user_id,
        app_password_id=verdict.app_password_id,
    )


async def authenticate_token(
    pool: AsyncConnectionPool[Any], directory: Directory, *, username: str, token: str, ip: Address
) -> Authentication:
    """The SMTP user for which the token was issued. If the client names one, it must be the same.

    The epoch is read before the token: if the token ends between the two, it has gone up, and nothing commits.
    """
    try:
        named = await directory.find(username) if username else None
    except DirectoryUnavailable:
        return Authentication(Reason.UNAVAILABLE)
    found = await verify_token(pool, directory, token, username=username or None, ip=ip)
    if isinstance(found, Refused):
        return Authentication(found.reason, organization_id=found.organization_id, smtp_user_id=found.smtp_user_id)
    if not isinstance(named, Entry):
        name = found.entry.state.username
        return await authenticate_token(pool, directory, username=name, token=token, ip=ip)
    return Authentication(
        Reason.OK,
        entry=found.entry,
        organization_id=found.organization_id,
        smtp_user_id=found.smtp_user_id,
        token=TokenHold(named.state.token_epoch, found.expires_at.timestamp()),
    )


def permitted(found: Authentication, *, mechanism: str, tls_version: str) -> Authentication:
    """The same, unless the organization refuses this mechanism or TLS version; asked last, of who has the secret."""
    if found.entry is None:
        return found
    obstacle = found.entry.policy.obstacle(mechanism=mechanism, tls_version=tls_version)
    return found if obstacle is None else replace(found, reason=obstacle, entry=None, token=None)


async def submit(writer: Writes, submission: Submission) -> Outcome:
    """Hands a message to the writer; Accepted means that it is committed."""
    return await writer.write(submission)
