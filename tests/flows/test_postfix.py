"""Postfix, from Debian's package, sends all its mail through our submission port: relayhost with SASL, TLS verified."""

import smtplib
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded.program import wait_for
from tests.flows.conftest import Login, content_of, message_to
from tests.plugins.peers import PostfixPeer
from tests.plugins.running import Running

LIMIT = 8


def relayed(postfix: PostfixPeer, login: Login, *, password: str = "") -> None:
    """From now on."""
    trust = Path(login.running.credentials["ca_file"])
    postfix.relay_to(
        login.running.doors.smtp_port, authority=trust, login=f"{login.username}:{password or login.secret}"
    )


def into(postfix: PostfixPeer, login: Login, to: list[str], *, sender: str = "") -> None:
    """As programs on Postfix's machine do: in clear, over the loopback address, without a login."""
    with smtplib.SMTP("127.0.0.1", postfix.relay_port, timeout=30) as client:
        for address in to:
            client.sendmail(sender or login.sender, [address], login.mail(address, b".\r\nFrom Postfix.\r\n"))


def test_mail_from_postfix_is_delivered_bounced_and_deferred(
    running: Running, smtp_user: Callable[..., Login], postfix_peer: PostfixPeer, to: str
) -> None:
    """What may be sent arrives; a foreign sender comes back to Postfix for good; what is over the limit waits there."""
    login = smtp_user(recipients_per_hour=LIMIT)
    relayed(postfix_peer, login)
    addresses = [f"{number}.{to}" for number in range(LIMIT - 1)]
    into(postfix_peer, login, addresses)
    into(postfix_peer, login, [f"foreign.{to}"], sender="somebody@else.example")
    messages = [message_to(running, address, seconds=20) for address in addresses]
    assert {(message["state"], message["tls_version"]) for message in messages} == {("delivered", "TLSv1.3")}
    assert content_of(running, messages[0]).endswith(b"\r\n\r\n.\r\nFrom Postfix.\r\n")
    assert wait_for(lambda: postfix_peer.queued() == 0, seconds=10), postfix_peer.log()[-2000:]
    assert "said: 550 5.7.1 " in postfix_peer.log() and postfix_peer.waiting() == []

    into(postfix_peer, login, [f"last.{to}", f"over.{to}"])  # in this order: one session, one message at a time
    assert wait_for(lambda: len(postfix_peer.waiting()) == 1, seconds=10), postfix_peer.log()[-2000:]
    [reason] = postfix_peer.waiting()
    assert "said: 451 4.7.1 " in reason and f"limit of {LIMIT} " in reason, reason
    assert postfix_peer.queued() == 1


def test_a_wrong_password_makes_postfix_wait(
    running: Running, smtp_user: Callable[..., Login], postfix_peer: PostfixPeer, to: str
) -> None:
    """535 defers the mail: once the password is right again, nothing was lost."""
    login = smtp_user()
    relayed(postfix_peer, login, password=login.secret[:-1] + ("x" if login.secret[-1] != "x" else "y"))
    into(postfix_peer, login, [to])
    said = "SASL authentication failed; server 127.0.0.1[127.0.0.1] said: 535 5.7.8 "
    assert wait_for(lambda: any(said in reason for reason in postfix_peer.waiting()), seconds=10), postfix_peer.log()
    relayed(postfix_peer, login)

    def is_gone() -> bool:
        postfix_peer.flush()  # the queue manager may just be replaced
        return postfix_peer.queued() == 0

    assert wait_for(is_gone, seconds=10), postfix_peer.log()[-2000:]
    assert message_to(running, to)["state"] == "delivered"


@pytest.fixture(autouse=True)
def _nothing_left(postfix_peer: PostfixPeer) -> None:
    postfix_peer.forget()
