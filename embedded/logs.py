"""Log files of the children, bounded in size.

Units   Octets. A log is at most LIMIT_OCTETS, and its predecessor `<name>.log.1` as much again.
"""

import os
import shutil
from pathlib import Path

LIMIT_OCTETS = 10 * 1024 * 1024


def log_path(state: Path, name: str) -> Path:
    return state / "log" / f"{name}.log"


def open_log(path: Path) -> int:
    """A descriptor for a child's output. O_APPEND, so that the file can be emptied under a running child."""
    path.touch(mode=0o600, exist_ok=True)
    bound(path)
    return os.open(path, os.O_WRONLY | os.O_APPEND)


def bound(path: Path, *, limit_octets: int = LIMIT_OCTETS) -> None:
    """Move what has grown too long to `.1` and empty the file; the child keeps writing to the same descriptor."""
    try:
        if path.stat().st_size <= limit_octets:
            return
    except FileNotFoundError:
        return
    shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)


def last_lines(path: Path, *, count: int = 12) -> list[str]:
    """The end of a log, for the console of somebody whose start has failed."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16384))
            return log.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []
