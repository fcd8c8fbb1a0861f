"""Directories that only their owner may have made.

Errors  EmbeddedError where a directory is another user's, a link, or not a directory: /tmp is open to everybody.
"""

import os
import stat
from pathlib import Path

from embedded import addresses
from embedded.account import Account
from embedded.errors import EmbeddedError


def private_directory(path: Path, *, mode: int = 0o700, owner: int | None = None) -> Path:
    """Make `path`, or refuse it if somebody else did."""
    wanted = os.getuid() if owner is None else owner
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise EmbeddedError(f"{path} cannot be made: {error.strerror}") from error
    else:
        if wanted != os.getuid():
            # The group stays ours, so that we may enter what belongs to the server's account.
            os.chown(path, wanted, os.getgid())
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise EmbeddedError(f"{path} is not a directory: remove it")
    if found.st_uid != wanted:
        raise EmbeddedError(
            f"{path} belongs to another user (uid {found.st_uid}): remove it, or set GATEPOST_STATE_DIR"
        )
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)
    return path


def state_directories(state: Path) -> None:
    """The state directory with its `log` and `run`; whoever owns it is the only one who may write."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        for name in ("log", "run"):
            (state / name).mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise EmbeddedError(f"{state} cannot be written ({error.strerror}): set GATEPOST_STATE_DIR") from error
    if not os.access(state / "run", os.W_OK):
        raise EmbeddedError(f"{state} belongs to another user: set GATEPOST_STATE_DIR to a directory of your own")


def shared_socket_directory(state: Path) -> Path:
    """The directory of the sockets. As root the server's account may pass (0711): the names in it are no secret."""
    return private_directory(addresses.socket_dir(state), mode=0o711 if os.geteuid() == 0 else 0o700)


def postgres_socket_directory(state: Path, *, account: Account | None) -> Path:
    """PostgreSQL makes its own socket, so this one belongs to the account it runs under; our group may enter."""
    shared_socket_directory(state)
    path = addresses.postgres_socket_dir(state)
    return private_directory(path, mode=0o750 if account else 0o700, owner=account.uid if account else None)
