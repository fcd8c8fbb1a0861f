"""The lock that makes one run the owner of a state directory. The kernel drops it however its holder dies.

Shapes  Two files. One beside the sockets, whose place depends on the state directory's path alone: it outlives `rm -rf`
        of the clone, so that a new clone in the old place waits until the old run is gone. One in the state directory:
        it holds between different users, and its holder sees by it that the directory was removed.
Errors  LockHeldError where somebody else has it.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from embedded.directories import shared_socket_directory, state_directories


class LockHeldError(Exception):
    """Another run owns the state directory; `pid` is its process, 0 where it has not said so yet."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"held by process {pid}")
        self.pid = pid


class Lock:
    def __init__(self, state: Path) -> None:
        self._state = state
        self._files: list[int] = []

    def __enter__(self) -> "Lock":
        try:
            self._files.append(_locked(shared_socket_directory(self._state) / "lock"))
            state_directories(self._state)
            self._files.append(_locked(self._inside))
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def lost(self) -> bool:
        """Whether the state directory was removed, or another put in its place, since we locked it."""
        try:
            return not os.path.samestat(self._inside.stat(), os.fstat(self._files[-1]))
        except FileNotFoundError:
            return True

    @property
    def _inside(self) -> Path:
        return self._state / "run" / "lock"

    def _release(self) -> None:
        for file in reversed(self._files):
            # Emptied first: whoever looks at the file later must not read the pid of a run that is over.
            with suppress(OSError):
                os.ftruncate(file, 0)
            os.close(file)
        self._files = []


def _locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.read(file, 32).decode()
        os.close(file)
        raise LockHeldError(int(said) if said.isdigit() else 0) from None
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    return file
