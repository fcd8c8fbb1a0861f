"""A revocation reaches four smtpd processes: how soon, with Valkey and without it. The figures are printed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import AuthEvent
from embedded.valkey import Valkey
from relay.credentials import create_app_password, revoke_app_password
from relay.models import AppPassword
from tests.smtp.conftest import Client, Processes, Sender, plain

pytestmark = pytest.mark.faults

PROCESSES, SESSIONS = 4, 24
TOLD_SECONDS, ALONE_SECONDS = 1.0, 5.0


@pytest.fixture
def four(smtpd: Callable[..., Processes]) -> Processes:
    return smtpd(PROCESSES, GATEPOST_AUTH_DELAY_MS="20")


def signed_in(processes: Processes, sender: Sender, secret: str, eventually: Callable[..., None]) -> list[Client]:
    """Sessions of one app password in every process, each from an address of its own."""
    clients = []
    for number in range(SESSIONS):
        client = Client(processes.tls_port, tls=True, source=f"127.0.1.{number + 1}")
        client.say("EHLO client.example")
        assert client.say(f"AUTH PLAIN {plain(sender.username, secret)}").startswith("235")
        clients.append(client)
    eventually(lambda: AuthEvent.objects.filter(ip__startswith="127.0.1.").count() >= SESSIONS)
    workers = set(AuthEvent.objects.filter(ip__startswith="127.0.1.").values_list("worker", flat=True))
    assert len(workers) == PROCESSES, workers
    return clients


def refused_everywhere(processes: Processes, sender: Sender, secret: str) -> None:
    """New sign-ins, until each process has had one."""
    for number in range(SESSIONS):
        client = Client(processes.tls_port, tls=True, source=f"127.0.2.{number + 1}")
        client.say("EHLO client.example")
        assert client.say(f"AUTH PLAIN {plain(sender.username, secret)}").startswith("535 5.7.8")
        client.socket.close()


def measured(four: Processes, sender: Sender, eventually: Callable[..., None]) -> list[float]:
    made = create_app_password(sender.smtp_user, name="soon revoked", actor=SYSTEM)
    clients = signed_in(four, sender, made.secret, eventually)
    with ThreadPoolExecutor(SESSIONS) as pool:
        waiting = [pool.submit(_until_421, client) for client in clients]
        began = time.monotonic()
        revoke_app_password(made.app_password, actor=SYSTEM)
        seconds = sorted(each.result(60) - began for each in waiting)
    refused_everywhere(four, sender, made.secret)
    assert AppPassword.objects.get(pk=made.app_password.pk).revoked_at
    return seconds


def _until_421(client: Client) -> float:
    assert client.reply().startswith("421 4.7.0")
    at = time.monotonic()
    assert client.closed()
    return at


def say(capsys: pytest.CaptureFixture[str], what: str, seconds: list[float]) -> None:
    middle, last = seconds[len(seconds) // 2], seconds[-1]
    with capsys.disabled():
        print(
            f"\nrevocation, {PROCESSES} processes, {len(seconds)} sessions, {what}: {middle:.3f} s, last {last:.3f} s"
        )


def test_it_reaches_every_process_within_a_second(
    four: Processes,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    eventually: Callable[..., None],
    valkey_server: Valkey,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every open session of all four hears 421, and nobody signs in with it afterwards."""
    seconds = measured(four, sender_of(alice_org), eventually)
    say(capsys, "told by Valkey", seconds)
    assert seconds[-1] < TOLD_SECONDS


def test_without_valkey_within_five_seconds(
    four: Processes,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    eventually: Callable[..., None],
    valkey_server: Valkey,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The table is asked every two seconds; the revocation itself is not held up by what is away."""
    valkey_server.stop()
    seconds = measured(four, sender_of(alice_org), eventually)
    say(capsys, "Valkey away", seconds)
    assert seconds[-1] < ALONE_SECONDS
