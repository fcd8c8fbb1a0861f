"""What a session does about guessing: 421 at the greeting for banned addresses, 454 for logins that must wait.

Shapes  tried(login) -> the login as relay.guessing knows it. put_off(...) answers and records one that must wait.
Source  docs/smtp.md, Signing in; docs/security.md, Guessing.
"""

from audit.models import Reason, Result
from audit.record import attempt
from relay.guessing.model import Try
from relay.proofs import Secret
from relay.smtp import replies, sasl
from relay.smtp.recorder import Recorded
from relay.smtp.replies import Reply
from relay.smtp.state import SessionState

FAILURES_MAX = 3


class Guesses(SessionState):
    def turn_away(self) -> bool:
        """At the greeting: True if the address is banned. Its row is shared with the others of the same minute."""
        seconds = self.server.guard.banned(self.ip)
        if not seconds:
            return False
        self.server.guard.turned_away(self.ip)
        row = attempt(result=Result.REFUSED, reason=Reason.BANNED, ip=self.ip, port=self.port, worker=self.server.name)
        self.server.figures.auth.labels("none", row.result, row.reason).inc()
        self.refuse_recorded(replies.BANNED.filled(seconds=seconds), self.server.recorder.auth(row))
        self.finish()
        return True

    def tried(self, login: sasl.Login | sasl.TokenLogin) -> Try:
        """A SCRAM or CRAM-MD5 proof differs each time, so that it does not tell whether the secret is another one."""
        if isinstance(login, sasl.TokenLogin):
            return self.server.guard.tried(self.ip, login.username, login.token)
        secret = login.proof.text if isinstance(login.proof, Secret) else None
        return self.server.guard.tried(self.ip, login.username, secret)

    def end_after_failures(self, last: Recorded) -> None:
        """The last word has the reference of the last failure: there is nothing else to find."""
        self.auth_failures += 1
        if self.auth_failures >= FAILURES_MAX:
            self.refuse_recorded(replies.AUTH_TOO_MANY, last)
            self.finish()

    def refuse_recorded(self, reply: Reply, row: Recorded) -> None:
        """Of attempts that share a row, the first is in the log: a flood must not fill that instead."""
        self.refuse(reply, reference=row.reference, is_logged=row.is_repeated)
