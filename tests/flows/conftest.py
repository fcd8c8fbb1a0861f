"""Clients of the running Gatepost: a mail program, and what its owner then sees.

Shapes  smtp_user(**fields) -> Login: a new SMTP user of the demo's organization with a live app password, which may
        send as @demo.example. Each test has its own, so that no test meets another's limits or lists.
        Login.send(to, content) over STARTTLS, `tls=True` over implicit TLS; .refusal() -> the SMTP error.
        message_to(running, address) -> the API's document of the one message to it, once it is settled.
"""

import secrets
import smtplib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from embedded.program import wait_for
from tests.plugins.running import Running

DELIVERED_SECONDS = 5.0


@dataclass
class Login:
    running: Running
    id: int
    username: str
    app_password_id: int
    secret: str
    sender: str = "hello@demo.example"

    def session(self, *, tls: bool = False) -> smtplib.SMTP:
        """Connected and encrypted, the certificate verified; not signed in."""
        at, trust = self.running.doors, self.running.trust
        if tls:
            return smtplib.SMTP_SSL("127.0.0.1", at.smtps_port, context=trust, timeout=30)
        client = smtplib.SMTP("127.0.0.1", at.smtp_port, timeout=30)
        client.starttls(context=trust)
        return client

    def send(self, to: str, content: bytes = b"", *, tls: bool = False) -> None:
        """Raises what smtplib raises unless the server takes it. Lines of the content end in CRLF."""
        with self.session(tls=tls) as client:
            client.login(self.username, self.secret)
            refused = client.sendmail(self.sender, [to], content or self.mail(to), ["BODY=8BITMIME"])
            assert not refused

    def send_until_taken(self, to: str, *, seconds: float) -> None:
        """As a mail server does it: what is refused for now is sent again, and what is refused for good is an error."""

        def is_taken() -> bool:
            try:
                self.send(to)
            except (OSError, smtplib.SMTPServerDisconnected):
                return False
            except smtplib.SMTPResponseException as refused:
                if refused.smtp_code >= 500:
                    raise
                return False
            return True

        assert wait_for(is_taken, seconds=seconds)

    def mail(self, to: str, body: bytes = b"Hello.\r\n", *, headers: bytes = b"") -> bytes:
        head = f"From: {self.sender}\r\nTo: {to}\r\nSubject: A test\r\n".encode()
        return head + headers + b"\r\n" + body

    def refusal(self) -> smtplib.SMTPAuthenticationError:
        """What AUTH PLAIN is answered with, which must be a refusal. smtplib's login would try LOGIN after it."""
        with self.session() as client, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            client.ehlo()
            client.user, client.password = self.username, self.secret  # what auth_plain reads
            client.auth("PLAIN", client.auth_plain)
        return refused.value


@pytest.fixture
def smtp_user(running: Running) -> Callable[..., Login]:
    def make(**fields: Any) -> Login:
        name = f"t{secrets.token_hex(4)}"
        made = running.post("smtp-users", **{"name": name, "excess": "refuse"} | fields)
        running.post(f"smtp-users/{made['id']}/senders", pattern="@demo.example")
        password = running.post(f"smtp-users/{made['id']}/app-passwords", name="flow")
        return Login(running, made["id"], made["username"], password["id"], password["secret"])

    return make


@pytest.fixture
def to() -> str:
    """A recipient of this test alone."""
    return f"{secrets.token_hex(6)}@example.net"


def message_to(
    running: Running, address: str, *, state: str = "delivered", seconds: float = DELIVERED_SECONDS
) -> dict[str, Any]:
    """The one message to this address, once it is in this state."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = running.get(f"messages?to={address}")["items"]
        return [message["state"] for message in found] == [state]

    assert wait_for(is_there, seconds=seconds), found
    return found[0]


def content_of(running: Running, message: dict[str, Any]) -> bytes:
    return running.open(f"messages/{message['id']}/content")
