"""State directories for servers of a test's own, and a run of the supervisor as a real process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded import addresses, processes
from embedded.program import end_all, wait_for


def forget(state: Path) -> None:
    """End whatever a failed test left behind, and remove its directories."""
    end_all(at_work(state), seconds=2.0, first=signal.SIGKILL)
    shutil.rmtree(addresses.socket_dir(state), ignore_errors=True)
    shutil.rmtree(state, ignore_errors=True)


def at_work(state: Path) -> list[int]:
    """Every process of this state directory: by its mark, and PostgreSQL and Valkey, which overwrite it, by title."""
    mark = addresses.tag(state)
    postgres = processes.titled(f"gatepost-{mark}", program="postgres")
    valkey = processes.titled(str(addresses.valkey_socket(state)), program="valkey-server")
    return [*processes.marked(mark), *postgres, *(pid for pid in valkey if pid not in processes.marked(mark))]


@pytest.fixture
def make_state() -> Iterator[Callable[[], Path]]:
    """Makes state directories that every account may enter: pytest's own are shut to PostgreSQL's."""
    made: list[Path] = []

    def make() -> Path:
        path = Path(tempfile.mkdtemp(prefix="gatepost-test-", dir="/tmp"))
        path.chmod(0o755)
        made.append(path)
        return path

    yield make
    for state in made:
        forget(state)


@pytest.fixture
def state(make_state: Callable[[], Path]) -> Path:
    return make_state()


class Run:
    """`tests.embedded.fake_run` as a process of its own."""

    def __init__(self, state: Path, stages: list[Any], **options: Any) -> None:
        self.state = state
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.embedded.fake_run", str(state), json.dumps({"stages": stages, **options})],
            cwd=addresses.BASE_DIR,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def until(self, part: str) -> str:
        """Read the console until a line holds `part`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if part in line:
                return line.rstrip()
        raise AssertionError(f"{part!r} never came: {self.lines}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read().splitlines()
        return self.process.wait(timeout=60)

    def pid_of(self, name: str) -> int:
        identity = processes.recorded(self.state / "run" / f"{name}.json")
        assert identity is not None
        return identity.pid

    def runs(self, name: str) -> bool:
        identity = processes.recorded(self.state / "run" / f"{name}.json")
        return identity is not None and processes.alive(identity)


@pytest.fixture
def start(state: Path) -> Iterator[Callable[..., Run]]:
    """Starts runs of fake programs on `state`; whatever is left of them is killed afterwards."""
    runs: list[Run] = []

    def begin(*stages: Any, **options: Any) -> Run:
        runs.append(Run(state, list(stages), **options))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            os.kill(run.process.pid, signal.SIGKILL)
        if run.process.stdout:
            run.process.stdout.close()
        run.process.wait()


def settled(state: Path) -> bool:
    """Whether no process of this state directory is left."""
    return wait_for(lambda: not at_work(state), seconds=10.0)
