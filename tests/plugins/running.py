"""The whole of Gatepost, started once for a test run as people start it, with its demo.

Shapes  running: the fixture, a Running for the session. Its state directory, ports and secrets are its own; nothing of
        the test run's environment reaches it.
        Tests that use it come last, browser tests at the very end: Playwright's loop stays in the main thread, where
        neither an asynchronous test nor Django's database may follow it.
Units   Seconds. Waits poll and end as soon as what they wait for is there.
Errors  AssertionError with the console of the run, where it does not become ready.
"""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedded import addresses, doors, processes
from embedded.doors import Doors
from embedded.program import end_all, wait_for

PREFIX = "gatepost-flow-"


class Running:
    """`manage.py run` on free ports and a state directory of its own."""

    def __init__(self) -> None:
        # Under /tmp and open to be entered: as root, PostgreSQL runs under another account.
        self.state = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self.state.chmod(0o755)
        # The picture of the README shows the ports that its reader will see.
        written = os.environ.get("GATEPOST_WRITE_SCREENSHOT") == "1"
        self.doors = Doors("127.0.0.1", *((8000, 2587, 2465) if written else _free_ports(3)))
        self.environ = _clean_environ() | {
            **{name: str(port) for name, port in self.doors.variables().items()},
            "GATEPOST_STATE_DIR": str(self.state),
            "GATEPOST_SMTP_PROCESSES": "2",
            "GATEPOST_RESOLVERS": "127.0.0.1:9",  # nobody: tests ask no DNS outside
        }
        self.process: subprocess.Popen[bytes] | None = None

    # --- Its life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        console = self.state.with_suffix(".console")
        with console.open("wb") as output:
            self.process = process = subprocess.Popen(
                [sys.executable, "manage.py", "run"],
                cwd=addresses.BASE_DIR,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_for(lambda: "Gatepost is ready" in console.read_text() or process.poll() is not None, seconds=180)
        assert "Gatepost is ready" in console.read_text(), console.read_text()

    def stop(self) -> None:
        """SIGTERM, as Ctrl-C and system managers do it; nothing of it may be left."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=90) == 0
        assert self.at_work() == []

    def remove(self) -> None:
        """Whatever a failure left."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        end_all(self.at_work(), seconds=2.0, first=signal.SIGKILL)
        shutil.rmtree(addresses.socket_dir(self.state), ignore_errors=True)
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.with_suffix(".console").unlink(missing_ok=True)

    def at_work(self) -> list[int]:
        """Every process of this state directory: by its mark, and the servers, which overwrite theirs, by title."""
        tag = addresses.tag(self.state)
        found = {*processes.marked(tag), *processes.titled(f"gatepost-{tag}", program="postgres")}
        return sorted({*found, *processes.titled(str(addresses.valkey_socket(self.state)), program="valkey-server")})

    def identity(self, name: str) -> processes.Identity:
        found = processes.recorded(self.state / "run" / f"{name}.json")
        assert found is not None, f"{name} does not run"
        return found

    def replaced(self, name: str, before: processes.Identity) -> bool:
        present = processes.recorded(self.state / "run" / f"{name}.json")
        return present is not None and present != before and processes.alive(present)

    def answers(self) -> bool:
        """Web, database and both SMTP ports."""
        host = f"127.0.0.1:{self.doors.web_port}"
        ready = doors.web_answers(self.doors, path="/healthz/ready", host_header=host)
        return ready and doors.smtp_answers(self.doors)

    # --- Ways in -------------------------------------------------------------------------------------------------

    @cached_property
    def credentials(self) -> dict[str, Any]:
        """What `make demo-credentials` prints."""
        return dict(json.loads(self.manage("demo_credentials")))

    @property
    def web_url(self) -> str:
        return str(self.credentials["web_url"])

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """A client that verifies the door's certificate, by the one file that the demo's credentials name."""
        return ssl.create_default_context(cafile=self.credentials["ca_file"])

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, check=False, cwd=addresses.BASE_DIR, env=self.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, script: str) -> Any:
        """Runs a script with the installation's own models; what it last prints is read as JSON."""
        return json.loads(self.manage("shell", "--no-imports", "-c", script).splitlines()[-1])

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(addresses.database_url(self.state), autocommit=True) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def open(self, path: str, *, method: str = "GET", body: Any = None) -> bytes:
        """The API's answer, with the demo's key."""
        request = urllib.request.Request(  # always our own http address
            f"{self.web_url}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.credentials['api_token']}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def get(self, path: str) -> Any:
        return json.loads(self.open(path))

    def post(self, path: str, **body: Any) -> Any:
        return json.loads(self.open(path, method="POST", body=body))


def _clean_environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEPOST_", "DJANGO_"))}
    for name in ("DATABASE_URL", "REDIS_URL"):
        kept.pop(name, None)
    return kept


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    made = Running()
    try:
        made.start()
        yield made
        made.stop()
    finally:
        made.remove()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """After pytest-randomly's shuffle, and stable: the random order holds within each of the three groups."""
    session.items.sort(key=lambda item: (item.get_closest_marker("browser") is not None, _is_running(item)))


def _is_running(item: pytest.Item) -> bool:
    return "running" in getattr(item, "fixturenames", ())
