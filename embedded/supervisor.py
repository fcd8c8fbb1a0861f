"""Our own small supervisor: starts in order, restarts what dies, ends everything it started.

Shapes  Stages run in order: a Step is a function that must finish, a tuple of Programs starts together and must answer.
Units   Seconds on the monotonic clock. A program's restart waits BACKOFF_SECONDS[number of deaths in a row]; a
        program that has run for STEADY_SECONDS has none.
Errors  StartFailedError while starting: everything is stopped again. After that nothing is given up.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from embedded import logs, orphans, step
from embedded.errors import EmbeddedError
from embedded.program import Child, Program
from embedded.step import Step

BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
STEADY_SECONDS = 60.0
START_DEATHS = 3
LOG_CHECK_SECONDS = 60.0
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Stage = Step | tuple[Program, ...]


class StartFailedError(EmbeddedError):
    """A stage did not come up. The message names the log and shows its end."""


class StoppedError(Exception):
    """A signal asked us to stop while we were starting."""


@dataclass
class Watched:
    """A child with its history of deaths."""

    child: Child
    deaths: int = 0
    started: float = 0.0
    due: float | None = None
    ready: bool = False  # this process has answered
    up: bool = False  # some process of it has

    @property
    def name(self) -> str:
        return self.child.program.name


class Supervisor:
    def __init__(
        self, stages: Sequence[Stage], *, state: Path, say: Callable[[str], None], lost: Callable[[], bool]
    ) -> None:
        self._stages = stages
        self._state = state
        self._say = say
        self._lost = lost  # whether the state directory is no longer ours: then its files may be another run's
        self._watched: list[list[Watched]] = []
        self._stopping = False
        self._wake, self._waker = os.pipe()
        self._logs_due = 0.0

    def run(
        self, *, check: Callable[[], None], when_ready: Callable[[], None], when_stopping: Callable[[], None]
    ) -> None:
        """Start all stages, call `when_ready`, keep everything alive until a signal, then stop all of it.

        `check` comes after the orphans of an earlier run are gone: they may hold what it asks for.
        """
        self._listen()
        orphans.adopt()
        orphans.end(self._state)
        check()
        try:
            for stage in self._stages:
                self._start(stage)
            when_ready()
            while not self._stopping:
                self._turn(1.0)
        except StoppedError:
            pass
        finally:
            when_stopping()
            self._stop_all()

    def _listen(self) -> None:
        os.set_blocking(self._waker, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only to wake the loop
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN or number is not signal.SIGHUP:  # nohup stays obeyed
                signal.signal(number, self._asked_to_stop)

    def _asked_to_stop(self, number: int, frame: object) -> None:
        self._stopping = True

    def _start(self, stage: Stage) -> None:
        if isinstance(stage, Step):
            self._say(stage.title)
            self._run_step(stage)
            return
        self._say("starting " + ", ".join(program.name for program in stage))
        group = [Watched(Child(program, state=self._state)) for program in stage]
        self._watched.append(group)
        for watched in group:
            self._launch(watched)
        self._await(group)

    def _run_step(self, planned: Step) -> None:
        """In a forked child: what it loads, opens and threads is gone with it."""
        running = step.fork(planned, state=self._state)
        try:
            while (status := running.poll()) is None:
                self._turn(0.2)
                if self._stopping:
                    raise StoppedError
        finally:
            running.end()
        if status != 0:
            raise StartFailedError(running.failure())

    def _await(self, group: list[Watched]) -> None:
        """Until all of them answer and none has died since it did."""
        began = time.monotonic()
        while missing := [watched for watched in group if not self._ready(watched)]:
            if self._stopping:
                raise StoppedError
            for watched in group:
                if watched.deaths >= START_DEATHS:
                    raise StartFailedError(watched.child.failure("ends again and again"))
            for watched in missing:
                if time.monotonic() - began > watched.child.program.ready_seconds:
                    raise StartFailedError(watched.child.failure("does not answer"))
            self._turn(0.2)
        for watched in group:
            watched.deaths = 0

    def _ready(self, watched: Watched) -> bool:
        """Asked of a process once: it must answer, after that it must only live."""
        if watched.child.poll() is not None or watched.due is not None:
            return False
        watched.ready = watched.ready or watched.child.program.ready()
        watched.up = watched.up or watched.ready
        return watched.ready

    def _turn(self, seconds: float) -> None:
        """One turn: wait for a signal or the time to pass, bury the dead, start again what is due."""
        with suppress(InterruptedError):
            select.select([self._wake], [], [], self._patience(seconds))
        with suppress(BlockingIOError):
            os.read(self._wake, 4096)
        orphans.reap(keep={pid for watched in self._all() if (pid := watched.child.pid)} | step.PIDS)
        self._stopping = self._stopping or self._lost()
        if self._stopping:
            return
        for watched in self._all():
            self._revive(watched)
        self._bound_logs()

    def _patience(self, seconds: float) -> float:
        now = time.monotonic()
        return max(0.0, min([seconds, *(watched.due - now for watched in self._all() if watched.due is not None)]))

    def _revive(self, watched: Watched) -> None:
        now = time.monotonic()
        if watched.due is None and (status := watched.child.poll()) is not None:
            if now - watched.started > STEADY_SECONDS:
                watched.deaths = 0
            self._postpone(watched, f"{watched.name} {_cause(status)}")
        if watched.due is not None and now >= watched.due:
            self._launch(watched)
            if watched.due is None and watched.up:
                self._say(f"{watched.name} runs again")

    def _launch(self, watched: Watched) -> None:
        """A start that fails while we run is tried again like a death: a full disk may have room a minute later."""
        watched.started, watched.due, watched.ready = time.monotonic(), None, False
        try:
            watched.child.start()
        except (EmbeddedError, OSError) as error:
            if not watched.up and watched.deaths + 1 >= START_DEATHS:
                raise StartFailedError(f"{watched.name}: {error}") from error
            self._postpone(watched, f"{watched.name} cannot be started: {error}")

    def _postpone(self, watched: Watched, why: str) -> None:
        wait = BACKOFF_SECONDS[min(watched.deaths, len(BACKOFF_SECONDS) - 1)]
        watched.deaths += 1
        watched.due = time.monotonic() + wait
        self._say(f"{why}; starting it again in {wait:g} s (see {watched.child.log})")

    def _bound_logs(self) -> None:
        now = time.monotonic()
        if now >= self._logs_due:
            self._logs_due = now + LOG_CHECK_SECONDS
            for watched in self._all():
                with suppress(OSError):  # a full disk is no reason to stop
                    logs.bound(watched.child.log)

    def _stop_all(self) -> None:
        """The last stage first, what started together stops together. Further signals change nothing."""
        for group in reversed(self._watched):
            left = [watched.child for watched in group]
            while left := [child for child in left if not child.press()]:
                with suppress(InterruptedError):
                    select.select([self._wake], [], [], 0.05)
                with suppress(BlockingIOError):
                    os.read(self._wake, 4096)
                orphans.reap(keep={pid for child in left if (pid := child.pid)})
        if not self._lost():
            orphans.end(self._state)
        orphans.reap(keep=set())

    def _all(self) -> list[Watched]:
        return [watched for group in self._watched for watched in group]


def _cause(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def console(line: str) -> None:
    """To people; a console that went away must not take the servers with it."""
    with suppress(OSError, ValueError):
        print(line, flush=True)
        sys.stdout.flush()
