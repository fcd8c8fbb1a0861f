"""Secrets of ours where none belongs: a canary that was tried, an app password or API key in a name, sender or subject.

Shapes  Sightings: one for each smtpd process, filled by the redaction of audit.record and by the recorder; taken() and
        store_alarms() put what it has into CredentialAlarm, with the auth events and off every session's way.
        SESSION: the session of the running task, so that a redacted text is told with where it came from; weakly, as
        every timer of a task keeps its context, and a session shall be freed as it ends.
Units   SEEN_MAX: texts that wait in a process. AGAIN_SECONDS: the same text is looked up once in that time.
Errors  None are raised: what overflows is dropped, a flood of made-up secrets costs one look-up in an index each.
Source  docs/security.md, Canaries and secrets in the open.
"""

import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg import AsyncConnection

from accounts import api_keys, checksum
from audit import record
from audit.models import Reason
from audit.record import AuthAttempt, printable
from relay import app_passwords

if TYPE_CHECKING:
    from relay.smtp.state import SessionState

SESSION: "ContextVar[weakref.ref[SessionState] | None]" = ContextVar("smtp session", default=None)
SEEN_MAX: Final = 200
CANARIES_MAX: Final = 1000
AGAIN_SECONDS: Final = 600.0
MESSAGE: Final = "message"  # its subject, id or From: the fields that are cleaned without a name

STORE_CANARIES = """
    INSERT INTO relay_credentialalarm (at, kind, app_password_id, place, ip, client_name, reference, count)
    SELECT tried.at, 'canary', password.id, 'password', tried.ip, tried.client_name, tried.reference, tried.count
    FROM unnest(%s::timestamptz[], %s::bigint[], %s::inet[], %s::text[], %s::text[], %s::int[])
         AS tried (at, app_password_id, ip, client_name, reference, count)
    JOIN relay_apppassword password ON password.id = tried.app_password_id
"""
# Only what lives: a stranger's made-up text leaves no row. (A NULL organization: nobody had signed in.)
STORE_SEEN = """
    WITH seen AS (
        SELECT * FROM unnest(%s::timestamptz[], %s::bytea[], %s::text[], %s::inet[], %s::text[], %s::bigint[])
            AS seen (at, digest, place, ip, client_name, session_organization_id)
    )
    INSERT INTO relay_credentialalarm (at, kind, app_password_id, api_key_id, place, ip, client_name, reference,
        session_organization_id, count)
    SELECT at, 'seen', password.id, NULL, place, ip, client_name, '', session_organization_id, 1
    FROM seen JOIN relay_apppassword password ON password.digest = seen.digest
    WHERE password.revoked_at IS NULL AND (password.expires_at IS NULL OR password.expires_at > now())
    UNION ALL
    SELECT at, 'seen', NULL, key.id, place, ip, client_name, '', session_organization_id, 1
    FROM seen JOIN accounts_apikey key ON key.digest = seen.digest
    WHERE key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > now())
"""


@dataclass(frozen=True, slots=True)
class Seen:
    at: datetime
    secret: str
    place: str
    ip: str
    client_name: str
    organization_id: int | None

    def __repr__(self) -> str:
        return f"Seen({self.place!r}, {self.ip!r})"  # never the secret


@dataclass(slots=True)
class Tried:
    """Attempts with one canary from one address since the last flush."""

    at: datetime
    client_name: str
    reference: str
    count: int = 0


@dataclass(frozen=True, slots=True)
class Alarms:
    canaries: dict[tuple[int, str], Tried]
    seen: list[Seen]


class Sightings:
    def __init__(self) -> None:
        self._canaries: dict[tuple[int, str], Tried] = {}
        self._seen: deque[Seen] = deque(maxlen=SEEN_MAX)
        self._until: dict[str, float] = {}  # what was looked up of late

    def start(self) -> None:
        record.on_secret[:] = [self.note_secret]

    def note_canary(self, attempt: AuthAttempt) -> None:
        if attempt.reason != Reason.CANARY or attempt.app_password_id is None or len(self._canaries) >= CANARIES_MAX:
            return
        fresh = Tried(attempt.at, attempt.client_name, attempt.reference)
        self._canaries.setdefault((attempt.app_password_id, attempt.ip), fresh).count += attempt.count

    def note_secret(self, text: str, field: str) -> None:
        """Cheap, as it runs within a session: the digests are made when the recorder writes."""
        running, secret = SESSION.get(), _secret_in(text)
        session = running() if running else None
        if session is None or secret is None or not self._is_news(secret):
            return
        identity = session.identity
        organization_id = identity.organization_id if identity else None
        client_name = session.session.host_name or ""
        place = field or MESSAGE
        self._seen.append(Seen(datetime.now(UTC), secret, place, session.ip, client_name, organization_id))

    def taken(self) -> Alarms:
        alarms = Alarms(self._canaries, list(self._seen))
        self._canaries = {}
        self._seen.clear()
        return alarms

    def _is_news(self, secret: str) -> bool:
        now = time.monotonic()
        if self._until.get(secret, 0.0) > now:
            return False
        if len(self._until) >= SEEN_MAX:
            self._until = {kept: until for kept, until in self._until.items() if until > now}
        if len(self._until) < SEEN_MAX:
            self._until[secret] = now + AGAIN_SECONDS
        return True


async def store_alarms(connection: AsyncConnection[Any], alarms: Alarms) -> None:
    """In the connection's transaction; the caller commits."""
    if alarms.canaries:
        tried = [
            (each.at, app_password_id, ip, each.client_name, each.reference, each.count)
            for (app_password_id, ip), each in alarms.canaries.items()
        ]
        await connection.execute(STORE_CANARIES, _columns(tried))
    if alarms.seen:
        rows = [
            (each.at, digest, each.place, each.ip, printable(each.client_name, 255), each.organization_id)
            for each in alarms.seen
            for digest in _digests(each.secret)
        ]
        await connection.execute(STORE_SEEN, _columns(rows))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _secret_in(text: str) -> str | None:
    """The text is what was redacted: a secret, perhaps with letters behind it. Keys may be older than the checksum."""
    found = checksum.SECRET.match(text)
    if found is None or (text.startswith(app_passwords.PREFIX) and not checksum.holds(found[0])):
        return None
    return found[0]


def _digests(secret: str) -> list[bytes]:
    return app_passwords.digests(secret) if secret.startswith(app_passwords.PREFIX) else api_keys.digests(secret)
