"""A real SMTP door in a thread of the test process, on ports of its own, over the test database.

Shapes  door.session() -> a raw client that reads whole replies; door.login(client, user) signs in.
"""

import asyncio
import base64
import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.credentials import create_app_password, create_smtp_user
from relay.domains import add_domain, add_sender, mark_verified
from relay.models import AppPassword, SmtpUser
from relay.smtp.master import run
from relay.smtp.server import Door, Server

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = re.compile(r" \[ref ([0-9A-HJKMNP-TV-Z]{10})\]$")


class Client:
    """A client that says exactly what it is told to say."""

    def __init__(self, port: int, *, tls: bool, source: str = "127.0.0.1") -> None:
        self.socket: Any = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
        self.lines = b""
        self.references: list[str] = []
        if tls:
            self.wrap()
        self.greeting = self.reply()

    def wrap(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)

    def reply(self) -> str:
        """One whole reply, its lines joined by newlines, without the reference (kept in `references`)."""
        found = []
        while True:
            line = self._line()
            found.append(line)
            if line[3:4] != "-":
                break
        if match := REFERENCE.search(found[-1]):
            self.references.append(match[1])
            found[-1] = found[-1][: match.start()]
        return "\n".join(found)

    def _line(self) -> str:
        while b"\r\n" not in self.lines:
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionResetError(f"closed after {self.lines!r}")
            self.lines += part
        line, self.lines = self.lines.split(b"\r\n", 1)
        return line.decode("ascii")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def say(self, line: str | bytes) -> str:
        """One command, its reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def closed(self) -> bool:
        """True once the server has closed the connection, with nothing more to say."""
        try:
            return self.lines == b"" and self.socket.recv(1) == b""
        except (ConnectionResetError, ssl.SSLError):
            return True

    def message(self, sender: str, *recipients: str, content: bytes) -> str:
        """MAIL, RCPT and DATA that are expected to be taken; the final reply."""
        assert self.say(f"MAIL FROM:<{sender}>").startswith("250")
        for recipient in recipients:
            assert self.say(f"RCPT TO:<{recipient}>").startswith("250")
        assert self.say("DATA").startswith("354")
        self.send(content)
        return self.reply()


@dataclass
class Sender:
    """An SMTP user with a live app password and one sender."""

    smtp_user: SmtpUser
    app_password: AppPassword
    secret: str
    address: str

    @property
    def username(self) -> str:
        return self.smtp_user.username

    def plain(self) -> str:
        return plain(self.username, self.secret)


def plain(username: str, secret: str, authzid: str = "") -> str:
    return base64.b64encode(f"{authzid}\0{username}\0{secret}".encode()).decode()


class RunningDoor:
    """The door and its two ports."""

    def __init__(self, server: Server, starttls_port: int, tls_port: int) -> None:
        self.server = server
        self.starttls_port, self.tls_port = starttls_port, tls_port
        self._clients: list[Client] = []

    def client(self, *, tls: bool = True, ehlo: bool = True, source: str = "127.0.0.1") -> Client:
        """Connected; under TLS and greeted unless told otherwise."""
        client = Client(self.tls_port if tls else self.starttls_port, tls=tls, source=source)
        self._clients.append(client)
        if ehlo:
            assert client.say("EHLO client.example").startswith("250-")
        return client

    def signed_in(self, sender: Sender, **words: Any) -> Client:
        client = self.client(**words)
        assert client.say(f"AUTH PLAIN {sender.plain()}") == "235 2.7.0 Authentication succeeded"
        return client

    def close_clients(self) -> None:
        for client in self._clients:
            client.socket.close()


def listener() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.setblocking(False)
    return made


@pytest.fixture
def door(transactional_db: None, settings: Any) -> Iterator[RunningDoor]:
    settings.GATEPOST_AUTH_DELAY_MS = 20
    started: list[Any] = []
    ready = threading.Event()
    sockets = listener(), listener()

    async def serve() -> None:
        server = Server([Door(sockets[0], implicit_tls=False), Door(sockets[1], implicit_tls=True)])
        started.append((server, asyncio.get_running_loop()))
        ready.set()
        await server.run()

    thread = threading.Thread(target=lambda: run(serve()), name="door", daemon=True)
    thread.start()
    ready.wait(10)
    server, loop = started[0]
    running = RunningDoor(server, sockets[0].getsockname()[1], sockets[1].getsockname()[1])
    yield running
    running.close_clients()
    with contextlib.suppress(RuntimeError):  # a test may have stopped it, and its loop is closed
        loop.call_soon_threadsafe(server.stop)
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def sender_of() -> Callable[..., Sender]:
    """sender_of(organization, name="app", excess="refuse", domain="alice.example", verified=True)"""

    def make(
        organization: Organization,
        *,
        name: str = "app",
        excess: str = "refuse",
        domain: str = "alice.example",
        verified: bool = True,
        **fields: Any,
    ) -> Sender:
        smtp_user = create_smtp_user(organization, name=name, excess=excess, actor=SYSTEM, **fields)
        if not organization.domains.filter(name=domain).exists():
            row = add_domain(organization, name=domain, actor=SYSTEM)
            if verified:
                mark_verified(row, actor=SYSTEM, verified_by=None)
        add_sender(smtp_user, pattern=f"@{domain}", actor=SYSTEM)
        made = create_app_password(smtp_user, name="test", actor=SYSTEM)
        return Sender(smtp_user, made.app_password, made.secret, f"news@{domain}")

    return make


@pytest.fixture
def sender(door: RunningDoor, alice_org: Organization, sender_of: Callable[..., Sender]) -> Sender:
    return sender_of(alice_org)


def content(sender: str = "news@alice.example", body: bytes = b"Hello\r\n") -> bytes:
    """A small message with its end."""
    head = f"From: <{sender}>\r\nTo: <x@dest.example>\r\nSubject: Hello\r\n\r\n".encode()
    return head + body + b".\r\n"


class Processes:
    """`manage.py smtpd` for real, with as many processes as wanted, over the test database."""

    def __init__(self, processes: int, log: Path, **environment: str) -> None:
        self.processes, self.log, self.environment = processes, log, environment
        self.starttls_port, self.tls_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = connection.settings_dict
        query = urlencode({"host": words["HOST"], "user": words["USER"]})
        environment = {
            **os.environ,
            "DATABASE_URL": f"postgresql:///{words['NAME']}?{query}",
            "GATEPOST_SMTP_PORT": str(self.starttls_port),
            "GATEPOST_SMTPS_PORT": str(self.tls_port),
            **self.environment,
        }
        command = [sys.executable, "manage.py", "smtpd", "--processes", str(self.processes)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )
        self.wait()

    def wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self.process is not None and self.process.poll() is None, self.log.read_text()[-2000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.tls_port), timeout=1):
                return
            time.sleep(0.05)
        raise TimeoutError(self.log.read_text()[-2000:])

    def children(self) -> list[int]:
        assert self.process is not None
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in found]

    def kill(self) -> None:
        """kill -9 of the whole group: master and processes."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(40)
        self.kill()
        return status


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def smtpd(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Processes]]:
    """smtpd(4, GATEPOST_...="...") -> running processes; ended after the test."""
    started: list[Processes] = []

    def start(processes: int, **environment: str) -> Processes:
        made = Processes(processes, tmp_path / "smtpd.log", **environment)
        started.append(made)
        made.start()
        return made

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def postgres(transactional_db: None, postgres_server: Any) -> Iterator[Any]:
    """The run's PostgreSQL, to be stopped and started; Django's own connection is made anew afterwards."""
    yield postgres_server
    if not postgres_server.running():
        postgres_server.start()
    connection.close()


@pytest.fixture
def eventually() -> Callable[..., None]:
    """eventually(condition): waits for what another thread or process does within seconds; fails if it never is."""

    def wait(condition: Callable[[], Any], seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it never came true"
            time.sleep(0.05)

    return wait
