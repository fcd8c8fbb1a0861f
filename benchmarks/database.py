"""An embedded PostgreSQL with Gatepost's tables, and a Valkey, for benchmarks of what lies in it.

Shapes  `with Database(state) as database`: database.superuser() connects; database.run(module, ...) starts a Python
        module with Django set up for it. The state directory is made anew and removed afterwards.
Errors  EmbeddedError where it does not start, RuntimeError where its tables cannot be made.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from embedded import addresses, placement
from embedded.postgres import Postgres
from embedded.valkey import Valkey

OURS = "GATEPOST_"


class Database:
    def __init__(self, state: Path) -> None:
        self.state = state.resolve()
        self._servers = (Postgres(self.state), Valkey(self.state))

    def __enter__(self) -> Self:
        self._remove()
        self.state.mkdir(mode=0o711, parents=True)
        try:
            for server in self._servers:
                server.start()
            if self._python("manage.py", "migrate", "--no-input", "--verbosity", "0"):
                raise RuntimeError("the tables could not be made")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for server in reversed(self._servers):
            server.stop()
        self._remove()

    def superuser(self) -> psycopg.Connection[tuple[int]]:
        host = str(addresses.postgres_socket_dir(self.state))
        return psycopg.connect(host=host, user="postgres", dbname=addresses.DATABASE, autocommit=True)

    def run(self, module: str, *arguments: str) -> int:
        return self._python("-m", module, *arguments)

    def _python(self, *arguments: str) -> int:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        for name in ("DATABASE_URL", "REDIS_URL"):
            kept.pop(name, None)
        environ = kept | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "GATEPOST_STATE_DIR": str(self.state),
            "GATEPOST_DEMO": "0",
            "GATEPOST_DEFAULT_ROUTE": "sandbox",
            "GATEPOST_HOSTNAME": "localhost",
            "GATEPOST_ALLOWED_HOSTS": "testserver",
        }
        done = subprocess.run([sys.executable, *arguments], check=False, cwd=addresses.BASE_DIR, env=environ)
        return done.returncode

    def _remove(self) -> None:
        for place in (placement.data_home(self.state), self.state, addresses.socket_dir(self.state)):
            shutil.rmtree(place, ignore_errors=True)
