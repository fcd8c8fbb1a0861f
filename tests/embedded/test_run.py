"""`manage.py run` as people start it: the whole of Gatepost, and what is left of it when it is killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded import addresses, doors, processes
from embedded.doors import Doors
from embedded.program import wait_for
from tests.embedded.conftest import at_work

pytestmark = pytest.mark.faults


class Stack:
    """`manage.py run` on ports and a state directory of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.doors = Doors("127.0.0.1", *_free_ports(4))
        # Nothing of this test run's own servers and secrets: what a fresh clone has is what is tested.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEPOST_", "DJANGO_"))}
        for name in ("DATABASE_URL", "REDIS_URL"):
            kept.pop(name, None)
        ports = {name: str(port) for name, port in self.doors.variables().items()}
        more = {"GATEPOST_SMTP_PROCESSES": "1", "GATEPOST_BOUNCE_DOMAIN": "bounces.example"}
        self.environ = {**kept, **ports, **more, "GATEPOST_STATE_DIR": str(state)}

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "manage.py", "run"],
            cwd=addresses.BASE_DIR,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def start_and_wait(self) -> subprocess.Popen[str]:
        run = self.start()
        assert run.stdout is not None
        said = []
        for line in run.stdout:
            said.append(line)
            if line.startswith("Gatepost is ready"):
                return run
        raise AssertionError("".join(said))

    def identity(self, name: str) -> processes.Identity | None:
        return processes.recorded(self.state / "run" / f"{name}.json")

    def answers(self) -> bool:
        web = doors.web_answers(self.doors, path="/healthz/ready", host_header=f"127.0.0.1:{self.doors.web_port}")
        return web and doors.smtp_answers(self.doors) and doors.bounces_answer(self.doors)


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.fixture
def stack(make_state: Callable[[], Path]) -> Iterator[Stack]:
    made = Stack(make_state())
    yield made
    lock = made.state / "run" / "lock"
    if lock.exists() and (said := lock.read_text()).isdigit() and processes.identity_of(int(said)):
        os.kill(int(said), signal.SIGKILL)


def ended(run: subprocess.Popen[str], number: signal.Signals) -> int:
    run.send_signal(number)
    assert run.stdout is not None
    run.stdout.read()
    run.stdout.close()
    return run.wait(timeout=60)


def test_whatever_is_killed_comes_back(stack: Stack) -> None:
    """A process is replaced; after kill -9 of the supervisor alone, and of everything, the next start recovers.

    The other processes are killed in tests/flows/test_recovery.py, with mail on its way.
    """
    run = stack.start_and_wait()
    before = stack.identity("bounces")
    assert before is not None
    os.kill(before.pid, signal.SIGKILL)
    assert wait_for(lambda: _replaced(stack, "bounces", before), seconds=30)
    assert wait_for(stack.answers, seconds=60)

    ended(run, signal.SIGKILL)
    again = stack.start_and_wait()
    assert stack.answers()
    second = stack.start()
    assert second.communicate(timeout=60)[0].startswith("Gatepost is ready")
    assert second.returncode == 0

    left = at_work(stack.state)
    os.kill(again.pid, signal.SIGKILL)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):  # it ends by itself once the others die
            os.kill(pid, signal.SIGKILL)
    ended(again, signal.SIGKILL)
    last = stack.start_and_wait()
    assert stack.answers()
    assert ended(last, signal.SIGINT) == 0
    assert at_work(stack.state) == []


def _replaced(stack: Stack, name: str, before: processes.Identity) -> bool:
    present = stack.identity(name)
    return present is not None and present != before and processes.alive(present)


def test_a_busy_port_is_one_line(stack: Stack) -> None:
    """A port that another program holds ends the start with one line and status 1, and nothing is left."""
    with socket.create_server(("127.0.0.1", stack.doors.smtps_port)):
        done = subprocess.run(
            [sys.executable, "manage.py", "run"],
            check=False,
            cwd=addresses.BASE_DIR,
            env=stack.environ,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    port = stack.doors.smtps_port
    assert done.stderr == f"port {port} on 127.0.0.1 is in use: set GATEPOST_SMTPS_PORT to a free port\n"
    assert at_work(stack.state) == []
