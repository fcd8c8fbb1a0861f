"""The lock that makes one run the owner of a state directory. The kernel drops it however its holder dies.

Errors  LockHeldError where somebody else has it.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from embedded.directories import state_directories


class LockHeldError(Exception):
    """Another run owns the state directory; `pid` is its process, 0 where it has not said so yet."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"held by process {pid}")
        self.pid = pid


class Lock:
    def __init__(self, state: Path) -> None:
        state_directories(state)
        self._path = state / "run" / "lock"
        self._file: int | None = None

    def __enter__(self) -> "Lock":
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = os.read(file, 32).decode()
            os.close(file)
            raise LockHeldError(int(said) if said.isdigit() else 0) from None
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # Emptied first: whoever looks at the file later must not read the pid of a run that is over.
            with suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None
