"""Which processes are ours: by pid and start time, by process group, by mark, by title.

Shapes  Identity (pid, started) names one process for ever; a bare pid may be somebody else's tomorrow.
Units   started: opaque text; on Linux the boot's id and the clock ticks since boot, elsewhere what `ps` prints.
Errors  None: a process that is gone, or a zombie, is simply not there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "GATEPOST_MARK"
PROC = Path("/proc")
LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class Identity:
    pid: int
    started: str


def identity_of(pid: int) -> Identity | None:
    """None for a process that is gone. A zombie is gone too, although kill(pid, 0) says that it lives."""
    started = _started_linux(pid) if LINUX else _started_ps(pid)
    return Identity(pid=pid, started=started) if started else None


def alive(identity: Identity) -> bool:
    return identity_of(identity.pid) == identity


def exists(pid: int) -> bool:
    """Whether the kernel still answers for this pid, zombies included: what PostgreSQL asks of a postmaster.pid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def zombies_of(parent: int) -> list[int]:
    """Dead children of `parent` that it has not waited for."""
    return [pid for pid, fields in _stats() if fields[0] == "Z" and fields[1] == str(parent)] if LINUX else []


def ancestry(pid: int) -> set[int]:
    """The process and those above it."""
    above = {known: int(fields[1]) for known, fields in _stats()} if LINUX else {pid: os.getppid()}
    line = set()
    while pid and pid not in line:
        line.add(pid)
        pid = above.get(pid, 0)
    return line


def record(path: Path, identity: Identity) -> None:
    """Written beside and renamed, so that a kill in between leaves the old file or the new."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(identity)))
    beside.replace(path)


def recorded(path: Path) -> Identity | None:
    try:
        return Identity(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def members(group: int) -> list[int]:
    """The living processes of a process group, whether or not its leader lives."""
    if LINUX:
        return [pid for pid, fields in _stats() if fields[2] == str(group) and fields[0] not in "ZX"]
    rows = (row.split() for row in _ps("pid=,pgid=,stat="))
    return [int(row[0]) for row in rows if len(row) == 3 and row[1] == str(group) and row[2][0] != "Z"]


def marked(mark: str) -> list[int]:
    """The living processes whose environment says that they were started for this state directory."""
    wanted = f"{MARK}={mark}"
    if LINUX:
        return [pid for pid in _pids() if wanted.encode() in _read(pid, "environ").split(b"\0") and identity_of(pid)]
    return [int(row.split(None, 1)[0]) for row in _ps("pid=,command=", environment=True) if wanted in row.split()]


def titled(title: str, *, program: str) -> list[int]:
    """The living processes of this program that carry `title` on their command line.

    For what runs under another account: root in a container may be refused its environment and working directory
    (both want CAP_SYS_PTRACE), but everybody may read a command line.
    """
    if LINUX:
        return [pid for pid in _pids() if _carries(pid, title, program) and identity_of(pid)]
    return [int(row.split(None, 1)[0]) for row in _ps("pid=,command=") if title in row and program in row]


def _started_linux(pid: int) -> str | None:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return f"{_boot_id()}:{fields[19].decode()}"


def _started_ps(pid: int) -> str | None:
    row = next(iter(_ps("stat=,lstart=", "-p", str(pid))), "").strip()
    return None if not row or row.startswith("Z") else " ".join(row.split()[1:])


def _boot_id() -> str:
    # Clock ticks count from boot: without this, a pid file from before a reboot could name a stranger.
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Per process the fields of /proc/<pid>/stat after the name: state, parent, group, session, ..."""
    for pid in _pids():
        fields = _read(pid, "stat").rpartition(b")")[2].decode().split()
        if len(fields) > 3:
            yield pid, fields


def _pids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _carries(pid: int, title: str, program: str) -> bool:
    return _read(pid, "comm").strip() == program.encode() and title.encode() in _read(pid, "cmdline")


def _ps(columns: str, *arguments: str, environment: bool = False) -> list[str]:
    selection = list(arguments) or ["-ax"]
    show = ["-Eww"] if environment else ["-ww"]
    done = subprocess.run(["ps", *selection, *show, "-o", columns], check=False, capture_output=True, text=True)
    return done.stdout.splitlines()
