"""What a session knows, and how it refuses: the ground on which the verbs stand."""

import math
from dataclasses import dataclass, field
from typing import Any

from audit.record import new_reference, redacted
from relay.directory import Entry
from relay.logs import get_logger
from relay.smtp import replies
from relay.smtp.protocol import Connection
from relay.smtp.replies import Reply
from relay.submission import Envelope, TokenHold

log = get_logger(__name__)

RECORDED_REFUSALS_MAX = 20  # of one session: beyond it the log line must do


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in, and by which app password; by an access token, there is none."""

    entry: Entry
    app_password_id: int | None
    mechanism: str
    tls_version: str = ""
    tls_cipher: str = ""
    read_at: float = 0.0  # when entry was read, on the loop's clock
    token: TokenHold | None = None

    @property
    def smtp_user_id(self) -> int:
        return self.entry.state.smtp_user_id

    @property
    def organization_id(self) -> int:
        return self.entry.state.organization_id

    @property
    def has_own_limits(self) -> bool:
        return self.entry.has_own_limits


@dataclass(slots=True)
class Transaction:
    """An open mail transaction: MAIL was taken."""

    reverse_path: str
    smtputf8: bool = False
    body_8bit: bool = False
    dsn_ret: str = ""
    dsn_envid: str = ""
    recipients: list[Envelope] = field(default_factory=list)
    chunks: bytearray | None = None  # BDAT has begun
    octets: int = 0
    suppressed: dict[str, str] | None = None  # what was looked up: key to words, empty where it is not suppressed


class SessionState(Connection):
    """Fields of a session and the replies that need them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.identity: Identity | None = None
        self.transaction: Transaction | None = None
        self.auth_failures = 0
        self.errors = 0
        self.refusals = 0
        self.ended = False
        self.last_words = replies.ENDED  # to be said when it has ended
        self.ends_at = math.inf  # when its token does, on the loop's clock
        self.stale = False  # something that the identity's entry tells has changed

    def reset(self) -> None:
        """RSET, EHLO, the end of a message (RFC 5321 4.1.1.5): the transaction goes, the identity stays."""
        self.transaction = None
        self.give_back()

    def refuse(self, reply: Reply, *, about: str = "", reference: str = "", is_logged: bool = False) -> str:
        """Replies with a new reference, logs it, and records it if somebody is signed in. Returns the reference.

        reference: of the row that it has already. is_logged: as others of a flood that share the row.
        """
        self.errors += 1
        reference = reference or new_reference()
        self.send(reply.line(reference))
        self.server.figures.refused.labels(reply.code, reply.enhanced).inc()
        if not is_logged:
            self._log_refusal(reply, reference)
        if self.identity and self.refusals < RECORDED_REFUSALS_MAX:
            self.refusals += 1
            self.server.recorder.refusal(self, reply, reference, about=about)
        return reference

    def _log_refusal(self, reply: Reply, reference: str) -> None:
        log.info(
            "smtp.refused",
            reference=reference,
            ip=self.ip,
            port=self.port,
            code=reply.code,
            enhanced=reply.enhanced,
            text=redacted(reply.text, "sender"),  # of the addresses that it may name, most are that
            username=self.identity.entry.state.username if self.identity else None,
            client=self.session.host_name,
        )

    def finish(self) -> None:
        """Ends the session after what was replied."""
        if self._replies and self.transport is not None:
            self.transport.write(b"".join(self._replies))
            self._replies.clear()
        self.close()

    def may_send(self) -> bool:
        """EHLO and AUTH are done; otherwise says what is missing."""
        if not self.session.host_name:
            self.refuse(replies.SEND_EHLO)
        elif self.identity is None:
            self.refuse(replies.AUTH_REQUIRED)
        else:
            return True
        return False

    @property
    def tls_version(self) -> str:
        return (self.tls.version() or "") if self.tls else ""

    @property
    def tls_cipher(self) -> str:
        cipher = self.tls.cipher() if self.tls else None
        return cipher[0] if cipher else ""
