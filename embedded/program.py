"""One declared program, and the child process that runs it.

Shapes  Program says what to run and how to tell that it answers; Child is its present process.
        A child leads its own session, so that Ctrl-C on the terminal reaches the supervisor alone.
Units   Seconds throughout; waits use the monotonic clock.
Errors  EmbeddedError where a program cannot be started or does not answer in time.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from embedded import addresses, logs, processes
from embedded.account import Account
from embedded.errors import EmbeddedError

GROUP_SECONDS = 3.0
EARLIER_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def always_ready() -> bool:
    return True


def nothing() -> None:
    return None


@dataclass(frozen=True)
class Program:
    name: str
    argv: Callable[[], Sequence[str]]
    ready: Callable[[], bool] = always_ready
    prepare: Callable[[], None] = nothing
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path = Path("/")
    account: Callable[[], Account | None] = lambda: None
    ready_seconds: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    harder_signal: signal.Signals = signal.SIGTERM
    marked: bool = True


class Child:
    def __init__(self, program: Program, *, state: Path) -> None:
        self.program = program
        self.log = logs.log_path(state, program.name)
        self._pid_file = state / "run" / f"{program.name}.json"
        self._mark = addresses.tag(state)
        self._process: subprocess.Popen[bytes] | None = None
        self._steps: list[tuple[float, signal.Signals, bool]] | None = None
        self._leader_seen_gone = False
        self._identity: processes.Identity | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """End what an earlier run left behind, then start; returns without waiting for readiness."""
        self.end_earlier()
        self.program.prepare()
        account = self.program.account()
        mark = {processes.MARK: self._mark} if self.program.marked else {}
        log = logs.open_log(self.log)
        try:
            self._process = subprocess.Popen(
                list(self.program.argv()),
                cwd=self.program.cwd,
                env={**self.program.environ, **mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(self.program.stop_signal),  # noqa: PLW1509 - one system call, resolved before
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedError(f"{self.program.name} cannot be started: {error}") from error
        finally:
            os.close(log)
        self._steps, self._leader_seen_gone = None, False
        self._identity = processes.identity_of(self._process.pid)
        if self._identity:
            processes.record(self._pid_file, self._identity)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll() if self._process else None

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.program.ready_seconds
        while not self.program.ready():
            if self.poll() is not None:
                raise EmbeddedError(self.failure("ended while starting"))
            if time.monotonic() > deadline:
                raise EmbeddedError(self.failure(f"did not answer within {self.program.ready_seconds:.0f} s"))
            time.sleep(0.05)

    def failure(self, what: str) -> str:
        return "\n".join([f"{self.program.name} {what}; the end of {self.log}:", *logs.last_lines(self.log)])

    def stop(self) -> None:
        while not self.press():
            time.sleep(0.02)

    def press(self, now: float | None = None) -> bool:
        """Ask to stop, harder as time passes; True once the process and its whole group are gone.

        First only the leader is asked: a worker's pool must not lose its children while it finishes.
        """
        now = time.monotonic() if now is None else now
        if self._process is None or self._gone():
            if self._identity and processes.recorded(self._pid_file) == self._identity:
                self._pid_file.unlink(missing_ok=True)
            return True
        if self._steps is None:
            late = now + self.program.stop_seconds
            self._steps = [
                (now, self.program.stop_signal, False),
                (late, self.program.harder_signal, True),
                (late + GROUP_SECONDS, signal.SIGKILL, True),
            ]
        if self._process.poll() is not None and not self._leader_seen_gone:
            self._leader_seen_gone = True
            self._steps = [(now, signal.SIGTERM, True), (now + GROUP_SECONDS, signal.SIGKILL, True)]
        while self._steps and self._steps[0][0] <= now:
            _, number, whole_group = self._steps.pop(0)
            _signal(self._process.pid, number, whole_group=whole_group)
        return False

    def end_earlier(self) -> None:
        """End the process that the pid file names, and what is left of its group, if it is truly ours."""
        identity = processes.recorded(self._pid_file)
        if identity is None:
            return
        if processes.alive(identity):
            _signal(identity.pid, self.program.stop_signal, whole_group=False)
            wait_for(lambda: not processes.alive(identity), seconds=min(EARLIER_SECONDS, self.program.stop_seconds))
        if processes.alive(identity):
            end_all([identity.pid], seconds=GROUP_SECONDS)
        group = processes.members(identity.pid)
        end_all([pid for pid in group if pid in processes.marked(self._mark)], seconds=GROUP_SECONDS)
        self._pid_file.unlink(missing_ok=True)

    def _gone(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None and not processes.members(self._process.pid)


def wait_for(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end_all(pids: Sequence[int], *, seconds: float, first: signal.Signals = signal.SIGTERM) -> None:
    """Signal each, wait for all, kill the rest. Processes are held by identity: a pid may change hands meanwhile."""
    left = [found for pid in pids if (found := processes.identity_of(pid))]
    for number in (first, signal.SIGKILL):
        for identity in left:
            if processes.alive(identity):
                _signal(identity.pid, number, whole_group=False)
        if wait_for(lambda: not any(processes.alive(identity) for identity in left), seconds=seconds):
            return


def _signal(pid: int, number: signal.Signals, *, whole_group: bool) -> None:
    with suppress(ProcessLookupError):
        (os.killpg if whole_group else os.kill)(pid, number)


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Linux tells the child when we die, kill -9 included. It fires when the starting *thread* ends, so: main only."""
    if _LIBC is None or threading.current_thread() is not threading.main_thread():
        return None
    prctl, parent = _LIBC.prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # we died between fork and prctl
            os._exit(1)

    return ask
