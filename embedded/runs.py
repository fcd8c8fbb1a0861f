"""One run per state directory: the first starts everything, any further one says where it answers.

Errors  EmbeddedError where the run that holds the state directory does not become ready.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from embedded.errors import EmbeddedError
from embedded.lock import Lock, LockHeldError
from embedded.supervisor import Stage, Supervisor

WAIT_SECONDS = 300.0


def run(
    stages: Sequence[Stage], *, state: Path, line: str, check: Callable[[], None], say: Callable[[str], None]
) -> None:
    """Run until a signal, or, where a run is there already, print its line."""
    sign = state / "run" / "ready.json"
    deadline = time.monotonic() + WAIT_SECONDS
    told = False
    while True:
        try:
            with Lock(state) as lock:
                sign.unlink(missing_ok=True)
                _supervise(stages, state=state, lock=lock, line=line, check=check, say=say)
                return
        except LockHeldError as held:
            if there := _line_of(sign, held.pid):
                say(there)
                return
            if time.monotonic() > deadline:
                raise EmbeddedError(f"process {held.pid} holds {state}, but does not become ready") from held
            if not told:
                say(f"process {held.pid} is starting already; waiting for it")
                told = True
            time.sleep(0.1)


def _supervise(
    stages: Sequence[Stage],
    *,
    state: Path,
    lock: Lock,
    line: str,
    check: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    sign = state / "run" / "ready.json"

    def when_ready() -> None:
        beside = sign.with_suffix(".new")
        beside.write_text(json.dumps({"pid": os.getpid(), "line": line}))
        beside.replace(sign)
        say(line)

    def when_stopping() -> None:
        if lock.lost():
            say(f"{state} was removed")
        else:
            sign.unlink(missing_ok=True)
        say("stopping")

    supervisor = Supervisor(stages, state=state, say=say, lost=lock.lost)
    supervisor.run(check=check, when_ready=when_ready, when_stopping=when_stopping)


def _line_of(sign: Path, pid: int) -> str | None:
    """Only the line that the lock's present holder wrote: an older one speaks of a run that was killed."""
    try:
        said = json.loads(sign.read_text())
        return str(said["line"]) if said["pid"] == pid else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
