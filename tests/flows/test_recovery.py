"""Mail flows again, whatever was killed, and flows on without Valkey."""

import os
import signal
from collections.abc import Callable

import pytest

from embedded.program import wait_for
from tests.flows.conftest import Login, content_of, message_to
from tests.plugins.running import Running

pytestmark = pytest.mark.faults
TOGETHER = (("valkey", "worker", "beat"), ("web", "smtpd"))  # PostgreSQL is killed below


@pytest.mark.parametrize("names", TOGETHER, ids=" and ".join)
def test_mail_flows_again_after_a_kill(
    running: Running, smtp_user: Callable[..., Login], to: str, names: tuple[str, ...]
) -> None:
    """Each process, killed with -9, is replaced, and a mail is delivered without anybody's help."""
    login = smtp_user()
    before = {name: running.identity(name) for name in names}
    for identity in before.values():
        os.kill(identity.pid, signal.SIGKILL)
    for name, identity in before.items():
        assert wait_for(lambda at=(name, identity): running.replaced(*at), seconds=30)
    login.send_until_taken(to, seconds=60)
    assert wait_for(running.answers, seconds=60)
    message_to(running, to, seconds=30)


def test_after_postgresql_came_back_no_mail_is_refused(
    running: Running, smtp_user: Callable[..., Login], to: str
) -> None:
    """Each smtpd sees by itself that its idle connection is gone: the first mail after an outage is as good as any."""
    login = smtp_user()
    for number in range(8):  # so that both processes have a connection
        login.send(f"{number}-before-{to}")
    before = running.identity("postgres")
    os.kill(before.pid, signal.SIGKILL)
    assert wait_for(lambda: running.replaced("postgres", before), seconds=30)
    assert wait_for(running.answers, seconds=60)
    for number in range(8):
        login.send(f"{number}-after-{to}")
    message_to(running, f"7-after-{to}", seconds=30)


def test_without_valkey_mail_is_accepted_and_delivered(
    running: Running, smtp_user: Callable[..., Login], to: str
) -> None:
    """Valkey is stopped, not killed: it stays away, and every wait for it would show."""
    login = smtp_user()
    valkey = running.identity("valkey")
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        login.send(to)
        message_to(running, to)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
        assert wait_for(running.answers, seconds=60)


def test_a_second_start_has_everything(running: Running, smtp_user: Callable[..., Login], to: str) -> None:
    """Messages and credentials outlive a stop; no process does."""
    login = smtp_user()
    login.send(to)
    message = message_to(running, to)
    content, demo = content_of(running, message), running.credentials
    running.stop()
    running.start()
    assert content_of(running, message_to(running, to)) == content
    del running.credentials
    assert running.credentials == demo
    login.send(f"again-{to}")
    message_to(running, f"again-{to}", seconds=10)
