"""A piece of work that must finish before the next stage, done in a forked child.

Shapes  Forked and not run in place: connections, threads and memory that it takes are gone with it, and kill -9 of it
        is an error like any other.
Errors  The status is not 0 where the work raised; its traceback is in the log.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedded import addresses, logs, processes
from embedded.program import GROUP_SECONDS, die_with_parent, end_all

PIDS: set[int] = set()  # forked children that are waited for here, and by nobody else


@dataclass(frozen=True)
class Step:
    title: str
    name: str
    work: Callable[[], None]


class Running:
    def __init__(self, pid: int, *, log: Path, name: str) -> None:
        self._pid = pid
        self._log = log
        self._name = name
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
                PIDS.discard(self._pid)
        return self._status

    def end(self) -> None:
        """End the work, if it is not done, and whatever it has started and left behind."""
        if self.poll() is None:
            end_all([self._pid], seconds=GROUP_SECONDS)
            self.poll()
        end_all(processes.members(self._pid), seconds=GROUP_SECONDS)

    def failure(self) -> str:
        return "\n".join([f"{self._name} failed; the end of {self._log}:", *logs.last_lines(self._log)])


def fork(step: Step, *, state: Path) -> Running:
    log = logs.log_path(state, step.name)
    descriptor = logs.open_log(log)
    ask = die_with_parent(signal.SIGTERM)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        if ask:
            ask()
        os.environ[processes.MARK] = addresses.tag(state)  # for what it starts: a later run ends what is left
        _work(step, descriptor)
    os.close(descriptor)
    PIDS.add(pid)
    return Running(pid, log=log, name=step.name)


def _work(step: Step, log: int) -> None:
    """Never returns: whatever happens, the child must not run on as a second supervisor."""
    status = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        step.work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
