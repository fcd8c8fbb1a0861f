"""Debian's packages in a directory of their own, to be run from there: nothing is installed, nothing starts by itself.

Shapes  tree(packages) -> the root of a small system below .cache/: the packages unpacked, with the shared libraries
        that their programs need. argv_in(root, ...) runs a program there (chroot), with all paths as Debian has them.
Errors  Unavailable says why it cannot be had: not Debian, not root, no package index, a library that is missing.
Source  apt-get(8) download, dpkg-deb(1) -x, chroot(1).
"""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "debian"
DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}
LIBRARY = re.compile(rb"(?:=> )?(/\S+) \(0x")


class Unavailable(Exception):
    """The other server cannot be had here; it is skipped by name."""


def tree(name: str, packages: Sequence[str]) -> Path:
    """Unpacked once; removed by hand, or with .cache, to fetch them again."""
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists() or not shutil.which("apt-get"):
        raise Unavailable("Debian's packages are unpacked and run as root on a Debian system only")
    root = CACHE / name
    if not root.exists():
        fresh = root.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / "tmp").mkdir(parents=True)
        for package in _downloaded(packages):
            _run("dpkg-deb", "-x", str(package), str(fresh))
        _add_libraries(fresh)
        _add_devices(fresh)
        fresh.rename(root)
    return root


def argv_in(root: Path, *command: str) -> list[str]:
    return ["chroot", str(root), *command]


def users(root: Path, names: Sequence[str]) -> dict[str, int]:
    """Accounts of that small system alone, one group each."""
    ids = {name: 900 + at for at, name in enumerate(names)}
    lines = ["root:x:0:0::/:/bin/false", *(f"{name}:x:{id}:{id}::/:/bin/false" for name, id in ids.items())]
    groups = ["root:x:0:", *(f"{name}:x:{id}:" for name, id in ids.items())]
    (root / "etc/passwd").write_text("\n".join([*lines, "nobody:x:65534:65534::/:/bin/false", ""]))
    (root / "etc/group").write_text("\n".join([*groups, "nogroup:x:65534:", ""]))
    return ids


def _downloaded(packages: Sequence[str]) -> list[Path]:
    archives = CACHE / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir(parents=True)
    try:
        _run("apt-get", "download", *packages, at=archives)
    except Unavailable:  # an old index names versions that are gone
        _run("apt-get", "update")
        _run("apt-get", "download", *packages, at=archives)
    return sorted(archives.glob("*.deb"))


def _add_libraries(root: Path) -> None:
    """What this system has and the packages do not bring: the C library, OpenSSL and the like."""
    own = [*(root / "usr/lib").rglob("*.so*"), *_programs(root)]
    places = sorted({str(path.parent) for path in own if ".so" in path.name})
    environ = {**os.environ, "LD_LIBRARY_PATH": ":".join(places)}
    needed = _run("ldd", *(str(path) for path in own if path.is_file()), environ=environ, may_fail=True)
    if missing := sorted({line.split()[0].decode() for line in needed.splitlines() if b"not found" in line}):
        raise Unavailable(f"these libraries are missing: {', '.join(missing)}")
    for found in sorted(set(LIBRARY.findall(needed))):
        library = Path(os.fsdecode(found))
        place = root / library.relative_to("/")
        if not library.is_relative_to(root) and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)


def _programs(root: Path) -> list[Path]:
    places = ("usr/sbin", "usr/bin", "usr/lib")
    found = (path for place in places for path in (root / place).rglob("*"))
    return [path for path in found if path.is_file() and path.stat().st_mode & 0o100 and _is_elf(path)]


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _add_devices(root: Path) -> None:
    (root / "dev").mkdir(exist_ok=True)
    for name, (major, minor) in DEVICES.items():
        place = root / "dev" / name
        try:
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        except OSError as error:
            raise Unavailable(f"a device cannot be made: {error.strerror}") from error
        place.chmod(0o666)


def _run(*command: str, at: Path | None = None, environ: dict[str, str] | None = None, may_fail: bool = False) -> bytes:
    done = subprocess.run(command, check=False, cwd=at, env=environ, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0 and not may_fail:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(f"{command[0]} failed: {' '.join(last)}")
    return done.stdout
