"""Which core serves and which one loads, and what processor time the servers used.

Shapes  Cores(server, client). Children inherit the core of the process that starts them.
Units   seconds of processor time, user and system together.
Errors  CoresMissing: with one core the generator would be measured along with the server.
Source  proc(5), /proc/<pid>/stat; Linux only.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


class CoresMissing(Exception):
    """This machine, or what it lets us use of it, has a single core."""


@dataclass(frozen=True)
class Cores:
    server: int
    client: int


def choose() -> Cores:
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise CoresMissing("two cores are needed: one for the servers and one for the load generator")
    return Cores(usable[0], usable[1])


def stay_on(core: int) -> None:
    """This process and all it starts from now on."""
    os.sched_setaffinity(0, {core})


def processor_seconds(roots: Iterable[int]) -> float:
    """Of these processes, those below them, and the children that they have already buried."""
    stats = dict(_stats())
    ticks = sum(int(field) for pid in _below(stats, roots) for field in stats[pid][11:15])  # utime to cstime
    return ticks / TICKS


def below(root: int) -> list[int]:
    """This process and those below it."""
    return _below(dict(_stats()), [root])


def _below(stats: dict[int, list[str]], roots: Iterable[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        children.setdefault(int(fields[1]), []).append(pid)
    found, left = [], [pid for pid in roots if pid in stats]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def private_octets(pid: int) -> int:
    """The process's own memory without what it shares with others (proc(5), smaps_rollup)."""
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    private = [line.split() for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:"))]
    return sum(int(fields[1]) for fields in private) * 1024


def _stats() -> Iterable[tuple[int, list[str]]]:
    for place in PROC.iterdir():
        if place.name.isdigit():
            try:
                text = (place / "stat").read_text()
            except OSError:
                continue
            yield int(place.name), text.rpartition(")")[2].split()
