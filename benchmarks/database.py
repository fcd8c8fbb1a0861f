"""An embedded PostgreSQL with Gatepost's tables, and a Valkey, for benchmarks of what lies in it.

Shapes  `with Database(state) as database`: database.superuser() connects; database.run(module, ...) starts a Python
        module with Django set up for it; database.child("worker") is a process of Gatepost as `manage.py run` starts
        it. settings are environment variables. The state directory is made anew and removed afterwards.
Errors  EmbeddedError where it does not start, CalledProcessError of a management command.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from benchmarks.cores import processor_seconds
from benchmarks.gatepost import free_port
from embedded import addresses, placement, stack
from embedded.doors import Doors
from embedded.postgres import Postgres
from embedded.program import Child, Program, nothing
from embedded.valkey import Valkey

OURS = "GATEPOST_"


class Database:
    def __init__(self, state: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.state = state.resolve()
        self.doors = Doors("127.0.0.1", free_port(), free_port(), free_port())
        self.environ = self._environ(settings or {})
        self.postgres, self.valkey = Postgres(self.state), Valkey(self.state)
        self._servers = (self.postgres, self.valkey)
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        self._remove()
        self.state.mkdir(mode=0o711, parents=True)
        try:
            for server in self._servers:
                server.start()
            self.manage("migrate", "--no-input", "--verbosity", "0")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for child in self._children.values():
            child.stop()
        for server in reversed(self._servers):
            server.stop()
        self._remove()

    def start(self, name: str) -> Child:
        """A process of Gatepost, when it is ready. It ends with the database."""
        child = self._children[name] = Child(self._program(name), state=self.state)
        child.start()
        child.wait_until_ready()
        return child

    def processor_seconds(self) -> dict[str, float]:
        pids = {"postgres": self.postgres.pid, "valkey": self.valkey.pid}
        pids |= {name: child.pid for name, child in self._children.items()}
        return {name: processor_seconds([pid or 0]) for name, pid in pids.items()}

    def superuser(self) -> psycopg.Connection[tuple[int]]:
        host = str(addresses.postgres_socket_dir(self.state))
        return psycopg.connect(host=host, user="postgres", dbname=addresses.DATABASE, autocommit=True)

    def run(self, module: str, *arguments: str) -> int:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, check=False, cwd=addresses.BASE_DIR, env=self.environ).returncode

    def manage(self, *arguments: str) -> None:
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, check=True, cwd=addresses.BASE_DIR, env=self.environ, stdout=subprocess.DEVNULL)

    def _program(self, name: str) -> Program:
        plan = stack.Plan(
            state=self.state,
            doors=self.doors,
            host_header="localhost",
            own_postgres=False,
            own_valkey=False,
            prepare=nothing,
        )
        *_before, processes = stack.stages(plan)
        assert isinstance(processes, tuple)
        [program] = [each for each in processes if each.name == name]
        own = {key: value for key, value in program.environ.items() if os.environ.get(key) != value}
        return replace(program, environ=self.environ | own)

    def _environ(self, settings: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        for name in ("DATABASE_URL", "REDIS_URL"):
            kept.pop(name, None)
        return kept | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "GATEPOST_STATE_DIR": str(self.state),
            "GATEPOST_DEMO": "0",
            "GATEPOST_DEFAULT_ROUTE": "sandbox",
            "GATEPOST_HOSTNAME": "localhost",
            "GATEPOST_ALLOWED_HOSTS": "testserver",
            "GATEPOST_SMTP_PORT": str(self.doors.smtp_port),
            "GATEPOST_SMTPS_PORT": str(self.doors.smtps_port),
            **settings,
        }

    def _remove(self) -> None:
        for place in (placement.data_home(self.state), self.state, addresses.socket_dir(self.state)):
            shutil.rmtree(place, ignore_errors=True)
