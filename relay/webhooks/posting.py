"""One post: the body, its signatures, and what the endpoint answered.

Shapes  body_of(job) -> the octets that are signed and sent. Poster.post(job) -> Outcome; it keeps a few connections to
        each address, and touches no database: it is called in threads.
Units   SECONDS: of one post, DNS and TLS included. LINE_SECONDS: so long a connection is kept, and with it the address
        that its name had. EXCERPT: octets of the answer that are kept.
Errors  None: what goes wrong is the Outcome's words, in the customer's language of errors.
Source  Standard Webhooks; relay.outside for where we go. Redirects are not followed: the address is what was saved.
"""

import json
import re
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext as _
from standardwebhooks import Webhook

from audit.record import printable
from relay.logs import get_logger
from relay.outside import Answer, Line, OutsideFailed, OutsideRefused
from relay.sealed import EncryptionKeyMissing, opened

SECONDS: Final = 15.0
LINE_SECONDS: Final = 30.0
LINES_KEPT: Final = 32  # of one endpoint
EXCERPT: Final = 1024
STALE_SECONDS: Final = 1.0  # a kept connection that fails sooner had been closed by the other side
PROBLEM_MAX: Final = 255
GONE: Final = 410
BUSY: Final = (429, 503)
RETRY_AFTER_MAX: Final = 3600

NAMES: Final = (
    "message_id", "reference", "header_message_id", "alert_id", "what", "kind", "severity", "scope", "smtp_user",
    "smtp_users", "sender", "recipient", "ip", "state", "code", "enhanced_code", "words",
)  # fmt: skip
_SECRET: Final = re.compile(r"(whsec_)[0-9A-Za-z+/=_-]{5,}")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed delivery. secrets: sealed, the present one first."""

    id: int
    endpoint_id: int
    url: str
    secrets: tuple[bytes, ...]
    event_id: UUID
    type: str
    occurred_at: datetime
    data: str  # JSON, as the database has it
    attempts: int  # before this one
    created_at: datetime
    claimed_at: float  # monotonic
    organization_id: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """status None: there was no answer. words: empty after a success."""

    at: datetime
    seconds: float
    status: int | None
    words: str
    response: str = ""
    retry_after: int = 0

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300 and not self.words

    def as_try(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(),
            "seconds": round(self.seconds, 3),
            "status": self.status,
            "words": self.words,
            "response": self.response,
        }


def event_name(event_id: UUID) -> str:
    """What goes into webhook-id and `id`: the same at every try, for who must not act twice."""
    return f"evt_{event_id.hex}"


def body_of(*, event_id: UUID, type: str, occurred_at: datetime, data: str) -> bytes:
    """The same octets at every try, since the database keeps what it was given."""
    found = json.loads(data)
    head = {
        "id": event_name(event_id),
        "type": type,
        "timestamp": occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": {name: found[name] for name in sorted(found, key=_place)},
    }
    return json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()


def _place(name: str) -> tuple[int, str]:
    """For people who read it: PostgreSQL keeps names by their length."""
    return (NAMES.index(name), name) if name in NAMES else (len(NAMES), name)


def headers_of(body: bytes, *, event_id: UUID, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """One signature for each secret, separated by spaces: during a rotation either one verifies."""
    name, text = event_name(event_id), body.decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(each).sign(name, now, text) for each in secrets),
    }


def excerpt_of(body: bytes) -> str:
    """The beginning of an answer, line by line, without what looks like a secret of ours."""
    lines = body[:EXCERPT].decode("utf-8", "backslashreplace").splitlines()
    return _SECRET.sub(r"\1…[redacted]", "\n".join(printable(line, EXCERPT) for line in lines))[:EXCERPT]


class Poster:
    """Of one process; its connections are shared by the threads that post."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lines: dict[tuple[int, str], deque[Line]] = {}
        self._lock = threading.Lock()

    def post(self, job: Job) -> Outcome:
        at, began = timezone.now(), monotonic()
        try:
            answer = self._ask(job, at)
        except (OutsideRefused, OutsideFailed) as wrong:
            return Outcome(at, monotonic() - began, None, str(wrong)[:PROBLEM_MAX])
        except EncryptionKeyMissing:
            return Outcome(at, 0.0, None, _("The endpoint's secret cannot be read. Rotate it."))
        except Exception:
            log.exception("webhook.post_failed", endpoint_id=job.endpoint_id, delivery_id=job.id)
            return Outcome(at, monotonic() - began, None, _("Internal error."))
        return _outcome(answer, at, monotonic() - began)

    def close(self) -> None:
        with self._lock:
            lines = [line for kept in self._lines.values() for line in kept]
            self._lines.clear()
        for line in lines:
            line.close()

    def _ask(self, job: Job, now: datetime) -> Answer:
        body = body_of(event_id=job.event_id, type=job.type, occurred_at=job.occurred_at, data=job.data)
        secrets = [opened(each) for each in job.secrets]
        headers = headers_of(body, event_id=job.event_id, secrets=secrets, now=now)
        ends_at = monotonic() + self._seconds
        if (kept := self._kept_line(job)) is not None:
            began = monotonic()
            try:
                return self._over(kept, job, body, headers, ends_at)
            except OutsideFailed:
                if monotonic() - began > STALE_SECONDS:
                    raise
        line = Line(job.url, seconds=ends_at - monotonic())
        return self._over(line, job, body, headers, ends_at)

    def _over(self, line: Line, job: Job, body: bytes, headers: dict[str, str], ends_at: float) -> Answer:
        left = ends_at - monotonic()
        answer = line.ask("POST", body=body, headers=headers, seconds=left, octets=EXCERPT, excerpt=True)
        with self._lock:
            kept = self._lines.setdefault((job.endpoint_id, job.url), deque())
            if len(kept) < LINES_KEPT:
                kept.append(line)
                return answer
        line.close()
        return answer

    def _kept_line(self, job: Job) -> Line | None:
        """The one used last: what lies longer ends sooner."""
        key, old = (job.endpoint_id, job.url), []
        with self._lock:
            kept = self._lines.get(key)
            found = None
            while kept:
                line = kept.pop()
                if monotonic() - line.opened_at < LINE_SECONDS:
                    found = line
                    break
                old.append(line)
            if not kept:
                self._lines.pop(key, None)
        for line in old:
            line.close()
        return found

    def close_old(self) -> None:
        """What nobody has used since its end."""
        now, old = monotonic(), []
        with self._lock:
            for key, kept in list(self._lines.items()):
                old += [line for line in kept if now - line.opened_at >= LINE_SECONDS]
                fresh = deque(line for line in kept if now - line.opened_at < LINE_SECONDS)
                self._lines[key] = fresh
                if not fresh:
                    del self._lines[key]
        for line in old:
            line.close()


def _outcome(answer: Answer, at: datetime, seconds: float) -> Outcome:
    status = answer.status
    text = excerpt_of(answer.body)
    if 200 <= status < 300:
        return Outcome(at, seconds, status, "", text)
    if 300 <= status < 400:
        words = _("It answered %(status)d. Redirects are not followed: enter the address where it leads.")
    else:
        words = _("It answered %(status)d.")
    after = answer.headers.get("retry-after", "").strip()
    retry_after = min(int(after), RETRY_AFTER_MAX) if status in BUSY and after.isascii() and after.isdigit() else 0
    return Outcome(at, seconds, status, words % {"status": status}, text, retry_after)
