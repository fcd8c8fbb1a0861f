"""Processes whose parent died: those of an earlier run are ended, those of this run are adopted and buried.

Errors  None.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from embedded import addresses, processes
from embedded.program import GROUP_SECONDS, end_all

_PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of grandchildren whose parent died; otherwise they go to init, which in a container may
    not bury them, and PostgreSQL takes a zombie for a living rival."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(*, keep: Iterable[int]) -> None:
    """Bury dead children that nobody else waits for. Those in `keep` are left to their Popen objects."""
    kept = set(keep)
    for pid in processes.zombies_of(os.getpid()):
        if pid not in kept:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def end(state: Path) -> None:
    """End every process that was started for this state directory, except ourselves and those above us."""
    spared = processes.ancestry(os.getpid())
    left = [pid for pid in processes.marked(addresses.tag(state)) if pid not in spared]
    end_all(left, seconds=GROUP_SECONDS)
