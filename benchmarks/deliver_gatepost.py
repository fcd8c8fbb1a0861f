"""Gatepost with a queue to deliver: embedded PostgreSQL and Valkey, and the worker as `manage.py run` starts it.

Shapes  fill() inserts rows in a transaction that release() commits: the worker sees all of them at once, as fresh as
        after an accept.
Errors  EmbeddedError where something does not start.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from benchmarks import backlog
from benchmarks.backlog import Backlog
from benchmarks.database import Database

KEYS = """
from relay.dkim_keys import ensure_keys
from relay.models import SendingDomain
ensure_keys(SendingDomain.objects.get(name="load-000.example"))
"""


class DeliveringGatepost:
    name = "gatepost"

    def __init__(
        self, state: Path, *, sink_port: int, signed: bool = False, more: Mapping[str, str] | None = None
    ) -> None:
        self.signed = signed
        self.sink_port = sink_port
        settings = {
            "GATEPOST_DEFAULT_ROUTE": "smarthost",
            "GATEPOST_SMARTHOST": "127.0.0.1",
            "GATEPOST_SMARTHOST_PORT": str(sink_port),
            "GATEPOST_SMARTHOST_TLS": "none",
            **(more or {}),
        }
        self.database = Database(state, settings=settings)
        self._stack = ExitStack()
        self._filling: psycopg.Connection[tuple[int]] | None = None

    def __enter__(self) -> Self:
        self._stack.enter_context(self.database)
        try:
            self.seed()
            self.database.start("worker")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def seed(self) -> None:
        """An SMTP user, whose mail it is."""
        route = f"smarthost:127.0.0.1:{self.sink_port}"
        out = str(self.database.state / "logins.csv")
        self.database.manage("seed_load", "--smtp-users", "1", "--route", route, "--out", out)
        if self.signed:
            self.database.manage("shell", "--no-imports", "-c", KEYS)
            with self.database.superuser() as connection:
                connection.execute("UPDATE relay_dkimkey SET active_at = now()")  # as if the DNS showed them

    def fill(self, messages: int, *, size: int) -> None:
        with self.database.superuser() as connection:
            backlog.empty(connection)
        self._filling = self.database.superuser()
        self._filling.autocommit = False
        backlog.fill(self._filling, Backlog(messages, size))

    def release(self) -> None:
        assert self._filling is not None
        self._filling.commit()
        self._filling.close()

    def left(self) -> int:
        with self.database.superuser() as connection:
            return backlog.count(connection, "state <> 'delivered'")

    def processor_seconds(self) -> dict[str, float]:
        return self.database.processor_seconds()
