"""What the machine refuses smtpd: its port, and file descriptors."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from accounts.models import Organization
from tests.faults.running import environment, events_of
from tests.smtp.conftest import Client, Processes, Sender, content, free_port

pytestmark = pytest.mark.faults

FILES = 64


def second(tls_port: int, starttls_port: int) -> "subprocess.CompletedProcess[str]":
    """Another `manage.py smtpd` on these ports, to its end."""
    return subprocess.run(
        [sys.executable, "manage.py", "smtpd", "--processes", "1"],
        check=False,
        env=environment(GATEPOST_SMTP_PORT=str(starttls_port), GATEPOST_SMTPS_PORT=str(tls_port)),
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_port_of_another_program(transactional_db: None) -> None:
    """One line that names port and variable, status 1, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = second(port, free_port())
    assert ended.returncode == 1
    assert f"127.0.0.1:{port} cannot be used (Address already in use). Set GATEPOST_SMTPS_PORT to another port." in (
        ended.stderr
    )
    assert "Traceback" not in ended.stderr


def test_a_second_smtpd(
    smtpd: Callable[..., Processes], alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """It does not start beside the first, which would lose every other connection to it; the first serves on."""
    sender = sender_of(alice_org)
    processes = smtpd(2)
    ended = second(processes.tls_port, processes.starttls_port)
    assert ended.returncode == 1
    assert "Set GATEPOST_SMTP_PORT to another port." in ended.stderr
    for _number in range(4):
        assert good(processes, sender).startswith("250 2.0.0 OK: queued as ")


def test_a_killed_master_leaves_the_ports_free(
    smtpd: Callable[..., Processes], alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """Its processes go by themselves, and the next smtpd waits for them instead of giving up."""
    sender = sender_of(alice_org)
    processes = smtpd(2)
    assert processes.process is not None
    left = processes.children()
    os.kill(processes.process.pid, signal.SIGKILL)
    processes.process.wait(10)
    processes.start()
    assert good(processes, sender).startswith("250 2.0.0 OK: queued as ")
    assert set(left).isdisjoint(processes.children())


@pytest.fixture
def few_files() -> Iterator[Callable[[int], None]]:
    """few_files(pid): that process may open no more."""

    def limit(pid: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (FILES, FILES))

    yield limit


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can limit another process")
def test_file_descriptors_used_up(
    smtpd: Callable[..., Processes],
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    few_files: Callable[[int], None],
    eventually: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Whoever is in is served, the others wait at the door; once there is room they come in. Nothing crashes."""
    sender = sender_of(alice_org)
    processes = smtpd(1)
    assert processes.process is not None
    inside = Client(processes.tls_port, tls=True)
    few_files(processes.process.pid)
    crowd = [socket.create_connection(("127.0.0.1", processes.starttls_port), timeout=20) for _ in range(2 * FILES)]
    eventually(lambda: "smtpd.cannot_accept" in processes.log.read_text(), 20)
    assert inside.say("EHLO client.example").startswith("250-")
    assert inside.say("NOOP") == "250 2.0.0 OK"
    assert inside.say(f"AUTH PLAIN {sender.plain()}")[:3] in {"235", "454"}  # a connection to PostgreSQL is a file too
    for each in crowd:
        each.close()
    eventually(lambda: taken(processes, sender), 20)
    assert processes.process.poll() is None
    assert [line for line in events_of(processes.log) if "smtpd.cannot_accept" not in line] == []


def taken(processes: Processes, sender: Sender) -> bool:
    with contextlib.suppress(OSError, AssertionError):
        return good(processes, sender).startswith("250 2.0.0 OK: queued as ")
    return False


def good(processes: Processes, sender: Sender) -> str:
    """A good message's last reply."""
    client = Client(processes.tls_port, tls=True)
    try:
        client.say("EHLO client.example")
        client.say(f"AUTH PLAIN {sender.plain()}")
        return client.message(sender.address, "a@dest.example", content=content())
    finally:
        client.socket.close()
