"""One run per state directory: the first starts everything, any further one says where it answers.

Shapes  run/ready.json in the state directory, while everything answers: pid of the run, its line, its addresses.
Errors  EmbeddedError where the run that holds the state directory does not become ready.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedded import processes
from embedded.errors import EmbeddedError
from embedded.lock import Lock, LockHeldError
from embedded.supervisor import Stage, Supervisor

WAIT_SECONDS = 300.0


def run(
    stages: Sequence[Stage],
    *,
    state: Path,
    line: str,
    addresses: Mapping[str, str | int],
    check: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Run until a signal, or, where a run is there already, print its line."""
    sign = _sign(state)
    deadline = time.monotonic() + WAIT_SECONDS
    told = False
    while True:
        try:
            with Lock(state) as lock:
                sign.unlink(missing_ok=True)
                _supervise(stages, state=state, lock=lock, line=line, addresses=addresses, check=check, say=say)
                return
        except LockHeldError as held:
            if there := _said(sign, held.pid):
                say(str(there["line"]))
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
    addresses: Mapping[str, str | int],
    check: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    sign = _sign(state)

    def when_ready() -> None:
        beside = sign.with_suffix(".new")
        beside.write_text(json.dumps({"pid": os.getpid(), "line": line, "addresses": dict(addresses)}))
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


def addresses_of(state: Path) -> dict[str, str | int]:
    """Where the run of this state directory answers, by its own word; empty if none is ready."""
    holder = state / "run" / "lock"
    try:
        pid = int(holder.read_text())
    except (OSError, ValueError):
        return {}
    said = _said(_sign(state), pid) if processes.identity_of(pid) else None
    return dict(said.get("addresses", {})) if said else {}


def _sign(state: Path) -> Path:
    return state / "run" / "ready.json"


def _said(sign: Path, pid: int) -> dict[str, Any] | None:
    """Only what the lock's present holder wrote: older words are those of a run that was killed."""
    try:
        said: dict[str, Any] = json.loads(sign.read_text())
        return said if said["pid"] == pid and "line" in said else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
