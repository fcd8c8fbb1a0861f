"""What is bounded: connections, memory for content, the disk; each with its own reply."""

import shutil
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from psycopg.errors import DiskFull

from relay import certificate, disk
from relay.models import Message
from relay.smtp.budget import Budget
from relay.smtp.listener import Caps
from tests.smtp.conftest import RunningDoor, Sender, content, free_port


def test_too_many_connections_from_one_address(door: RunningDoor, eventually: Callable[..., None]) -> None:
    """421 at the greeting; another address still comes in, and so does the same once one has left."""
    door.server.caps = Caps(100, 2)
    first, _second = door.client(), door.client()
    third = door.client(ehlo=False)
    assert third.greeting == "421 4.7.0 Too many connections, try again later"
    assert third.closed()
    third.socket.close()
    assert door.client(source="127.0.0.2").say("NOOP") == "250 2.0.0 OK"
    first.say("QUIT")
    first.socket.close()
    eventually(lambda: door.server.caps.total == 2)
    assert door.client().say("NOOP") == "250 2.0.0 OK"


def test_too_many_connections_in_all(door: RunningDoor) -> None:
    """The machine's cap holds over all addresses."""
    door.server.caps = Caps(1, 100)
    door.client()
    assert door.client(ehlo=False, source="127.0.0.2").greeting.startswith("421 4.7.0 ")


def test_the_memory_budget_at_mail(door: RunningDoor, sender: Sender) -> None:
    """A declared size that does not fit, or no room at all, is 452 4.3.1 at MAIL."""
    door.server.budget = Budget(4 * 100_000)
    client = door.signed_in(sender)
    full = "452 4.3.1 Too much mail is in flight here, try again in a moment"
    assert client.say(f"MAIL FROM:<{sender.address}> SIZE=100001") == full
    assert client.say(f"MAIL FROM:<{sender.address}> SIZE=50000") == "250 2.1.0 Sender OK"
    door.server.budget.used = 4 * 99_999
    assert door.signed_in(sender).say(f"MAIL FROM:<{sender.address}>") == full


def test_the_memory_budget_within_the_data(door: RunningDoor, sender: Sender) -> None:
    """Content beyond the budget is drained, 452, and gives back what it held; the next message is taken."""
    door.server.budget = Budget(4 * 100_000)
    client = door.signed_in(sender)
    big = content(body=(b"x" * 98 + b"\r\n") * 2_000)
    assert client.message(sender.address, "a@dest.example", content=big).startswith("452 4.3.1 Too much mail")
    assert door.server.budget.used == 0
    assert client.message(sender.address, "a@dest.example", content=content()).startswith("250")
    assert Message.objects.count() == 1


def test_a_lost_connection_gives_back_its_memory(
    door: RunningDoor, sender: Sender, eventually: Callable[..., None]
) -> None:
    """What a client held when it vanished is free again."""
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    client.say("DATA")
    client.send(b"x" * 50_000)
    eventually(lambda: door.server.budget.used > 0)
    client.socket.close()
    eventually(lambda: door.server.budget.used == 0)


def test_the_disk_reserve(door: RunningDoor, sender: Sender, settings: Any, eventually: Callable[..., None]) -> None:
    """Below the reserve MAIL is 452 4.3.1 before PostgreSQL is hurt; with room again it is taken, without a restart."""
    settings.GATEPOST_DISK_RESERVE = 2**62
    eventually(lambda: door.server.disk_is_low)
    client = door.signed_in(sender)
    low = "452 4.3.1 The disk is nearly full here, try again later"
    assert client.say(f"MAIL FROM:<{sender.address}>") == low
    settings.GATEPOST_DISK_RESERVE = 1
    eventually(lambda: not door.server.disk_is_low)
    assert client.say(f"MAIL FROM:<{sender.address}>") == "250 2.1.0 Sender OK"


def test_the_reserve_has_a_floor(settings: Any) -> None:
    """The larger of 512 MiB and 5 % of the disk, unless set."""
    found = disk.look()
    assert found is not None
    assert found.reserve == max(512 * 1024 * 1024, int(shutil.disk_usage(settings.GATEPOST_STATE_DIR).total * 0.05))


def test_a_new_certificate_is_shown_after_reload(
    door: RunningDoor, settings: Any, eventually: Callable[..., None]
) -> None:
    """SIGHUP: handshakes from then on show the new certificate; open sessions live on."""
    settings.GATEPOST_HOSTNAME = "renewed.gatepost.example"
    before = door.client()
    old = before.socket.getpeercert(binary_form=True)
    door.server.hostname = "renewed.gatepost.example"
    door.server.loop.call_soon_threadsafe(door.server.reload)
    eventually(lambda: door.client().socket.getpeercert(binary_form=True) != old)
    assert before.say("NOOP") == "250 2.0.0 OK"
    files = certificate.ensure_certificate(settings.GATEPOST_STATE_DIR, "mail.gatepost.example")
    assert files.certificate.exists()


@pytest.fixture
def metrics_port(settings: Any) -> int:
    port = free_port()
    settings.GATEPOST_METRICS_PORT = port
    return port


def test_each_process_tells_its_figures(metrics_port: int, door: RunningDoor, sender: Sender) -> None:
    """GET /metrics of the process: accepts, refusals, AUTH, batches."""
    client = door.signed_in(sender)
    client.message(sender.address, "a@dest.example", content=content())
    client.say("MAIL FROM:<x@other.example>")
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert "gatepost_smtp_accepted_total 1.0" in text
    assert 'gatepost_smtp_refused_total{code="550",enhanced="5.7.1"} 1.0' in text
    assert 'gatepost_smtp_auth_total{mechanism="PLAIN",reason="ok",result="accepted"} 1.0' in text
    assert "gatepost_smtp_batch_messages_count 1.0" in text
    assert "gatepost_smtp_connections 1.0" in text


def test_a_remote_disk_that_is_full(door: RunningDoor, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PostgreSQL answers with 53100 is 452 4.3.1, and so is the next MAIL, before any content travels."""

    async def full(*_arguments: object) -> None:
        raise DiskFull("could not extend file")

    monkeypatch.setattr(door.server.writer.small._acceptor, "accept", full)
    client = door.signed_in(sender)
    low = "452 4.3.1 The disk is nearly full here, try again later"
    assert client.message(sender.address, "a@dest.example", content=content()) == low
    assert client.say(f"MAIL FROM:<{sender.address}>") == low
