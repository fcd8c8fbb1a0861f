"""Gatepost as the benchmarks run it: embedded PostgreSQL and Valkey, one smtpd process, everything on one core.

Shapes  `with Gatepost(state) as server`: server.port speaks TLS; server.logins is the file of 1,000 SMTP users.
        The state directory is made anew and removed afterwards.
Errors  EmbeddedError where something does not start; CalledProcessError of a management command.
Source  embedded/ starts the servers; `manage.py seed_load` makes the users.
"""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from benchmarks.cores import processor_seconds
from benchmarks.fill import fill
from embedded import addresses, placement
from embedded.doors import Doors, smtp_answers
from embedded.postgres import Postgres
from embedded.program import Child, Program
from embedded.valkey import Valkey

OURS = "GATEPOST_"
EMPTY = "TRUNCATE relay_message, relay_messagedata, relay_recipient, audit_authevent CASCADE"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Gatepost:
    """name and clone: another clone of Gatepost may take part, to tell what a change gave."""

    def __init__(
        self, state: Path, *, smtp_users: int = 1000, name: str = "gatepost", clone: Path = addresses.BASE_DIR
    ) -> None:
        self.state, self.smtp_users = state.resolve(), smtp_users
        self.name, self.clone = name, clone.resolve()
        self.logins = self.state / "logins.csv"
        self.doors = Doors("127.0.0.1", free_port(), free_port(), free_port())
        self.environ = self._environ()
        self.postgres, self.valkey = Postgres(self.state), Valkey(self.state)
        self.smtpd = Child(self._program(), state=self.state)
        self._stack = ExitStack()
        self._filled = False
        self._stored_before = 0

    @property
    def port(self) -> int:
        return self.doors.smtps_port

    @property
    def certificate(self) -> Path:
        """Key and chain of the door in one file: ECDSA P-256, as Gatepost made it."""
        return self.state / "tls" / "server.pem"

    def __enter__(self) -> Self:
        self._remove()
        self._stack.callback(self._remove)
        try:
            for server in (self.postgres, self.valkey):
                self._stack.callback(server.stop)
                server.start()
            self._manage("migrate", "--no-input", "--verbosity", "0")
            users = ("--smtp-users", str(self.smtp_users), "--route", "hold", "--out", str(self.logins))
            self._manage("seed_load", *users)
            self.start_smtpd()
            self._stack.callback(self.smtpd.stop)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def start_smtpd(self) -> None:
        self.smtpd.start()
        self.smtpd.wait_until_ready()

    def fill(self, scale: float) -> None:
        """Make the database as large as after years of use; it is not emptied any more."""
        with self._superuser() as connection:
            fill(connection, scale=scale)
        self._filled = True

    def empty(self) -> None:
        """As at the start of each case: no mail, nothing left to be written by a checkpoint."""
        with self._superuser() as connection:
            if not self._filled:
                connection.execute(EMPTY)
            connection.execute("CHECKPOINT")
        self._stored_before = self._count()

    def stored(self) -> int:
        """Messages that have come since empty() and are there whole: with content and recipient."""
        return self._count() - self._stored_before

    def _count(self) -> int:
        with self._superuser() as connection:
            record = connection.execute(
                "SELECT count(*) FROM relay_message message"
                " JOIN relay_messagedata content ON content.message_id = message.id"
                " JOIN relay_recipient recipient ON recipient.message_id = message.id"
                " WHERE message.route = 'hold'"
            ).fetchone()
        assert record is not None
        return int(record[0])

    def processor_seconds(self) -> dict[str, float]:
        pids = {"smtpd": self.smtpd.pid, "postgres": self.postgres.pid, "valkey": self.valkey.pid}
        return {name: processor_seconds([pid or 0]) for name, pid in pids.items()}

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        for name in ("DATABASE_URL", "REDIS_URL"):
            kept.pop(name, None)
        return kept | {
            "GATEPOST_STATE_DIR": str(self.state),
            "GATEPOST_DEMO": "0",
            "GATEPOST_DEFAULT_ROUTE": "sandbox",
            "GATEPOST_HOSTNAME": "localhost",
            "GATEPOST_SMTP_PORT": str(self.doors.smtp_port),
            "GATEPOST_SMTPS_PORT": str(self.doors.smtps_port),
            "PYTHONUNBUFFERED": "1",
        }

    def _program(self) -> Program:
        return Program(
            name="smtpd",
            argv=lambda: [sys.executable, "manage.py", "smtpd", "--processes", "1"],
            environ=self.environ,
            cwd=self.clone,
            ready=lambda: smtp_answers(self.doors),
            ready_seconds=60.0,
            stop_seconds=35.0,
        )

    def _manage(self, *arguments: str) -> None:
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, check=True, cwd=self.clone, env=self.environ, stdout=subprocess.DEVNULL)

    def _superuser(self) -> psycopg.Connection[tuple[int]]:
        host = str(addresses.postgres_socket_dir(self.state))
        return psycopg.connect(host=host, user="postgres", dbname=addresses.DATABASE, autocommit=True)

    def _remove(self) -> None:
        home = placement.data_home(self.state)
        for place in (home, self.state, addresses.socket_dir(self.state)):
            shutil.rmtree(place, ignore_errors=True)
