"""The embedded PostgreSQL: the wheel's own programs, run by us.

Shapes  One cluster per state directory, one role and one database, both `gatepost`; Unix socket only, in a directory
        that nobody else may enter, so it trusts whoever gets there.
Errors  EmbeddedError with the end of the log where it does not start.
Source  https://www.postgresql.org/docs/18/server-start.html, server-shutdown.html; the lock file's lines:
        src/include/utils/pidfile.h
"""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from embedded import addresses, directories, logs, placement, processes
from embedded.account import Account, server_account
from embedded.errors import EmbeddedError
from embedded.program import Child, Program, end_all, wait_for

ORPHAN_SECONDS = 5.0
_SUPERUSER = "postgres"

BUFFERS_MIB = (128, 512)  # at least, at most


def shared_buffers_mib(memory: int) -> int:
    """An eighth of the memory, within bounds.

    With less than the indexes of a full database need, each accept evicts dirty pages and pays for their flush: with
    128 MiB a full database cost PostgreSQL 600 µs a message, with 512 MiB as much as an empty one (174 µs).
    """
    least, most = BUFFERS_MIB
    return min(max(memory // 8 // 2**20, least), most)


def memory_octets(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """What this machine has, or this container may use."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no cgroup, or "max"
        return min(whole, int(limit.read_text()))
    return whole


SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": f"{shared_buffers_mib(memory_octets())}MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "logging_collector": "off",
    # What a statement carried may be mail or a digest: log that it failed, never its text or its row.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
}


class Postgres:
    def __init__(self, state: Path) -> None:
        self.state = state
        self._child = Child(self.program(), state=state)

    def program(self) -> Program:
        return Program(
            name="postgres",
            argv=self._argv,
            prepare=self._prepare,
            ready=self._answers,
            account=self._account,
            environ=_ENVIRON,
            ready_seconds=180.0,  # recovery after a crash reads the whole log
            stop_signal=signal.SIGINT,  # fast: sessions are ended, the data is flushed
            stop_seconds=20.0,
            harder_signal=signal.SIGQUIT,  # immediate: the next start recovers
            marked=False,  # found by its title; a plain SIGTERM would wait for every client to leave
        )

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def data(self) -> Path:
        return placement.data_home(self.state) / "data"

    def start(self) -> None:
        self._child.start()
        try:
            self._child.wait_until_ready()
        except EmbeddedError:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self._end_orphans()

    def running(self) -> bool:
        return self.pid is not None and self._answers()

    def _account(self) -> Account | None:
        return server_account(self.data)

    def _argv(self) -> list[str]:
        own = {
            "unix_socket_directories": str(addresses.postgres_socket_dir(self.state)),
            "cluster_name": self._title(),
        }
        options = [f"--{name}={value}" for name, value in {**SETTINGS, **own}.items()]
        return [str(placement.programs(account=self._account()) / "postgres"), "-D", str(self.data), *options]

    def _title(self) -> str:
        return f"gatepost-{addresses.tag(self.state)}"

    def _prepare(self) -> None:
        directories.state_directories(self.state)
        account = self._account()
        home = placement.make_data_home(self.state, account=account)
        directories.postgres_socket_directory(self.state, account=account)
        self._end_orphans()
        self._drop_stale_locks()
        if not self.data.exists():
            _initialise(home, account=account, log=logs.log_path(self.state, "postgres"))

    def _end_orphans(self) -> None:
        """End servers that an earlier run left at work on this data; they hold its shared memory.

        Backends see their postmaster die and go by themselves, unless they are busy. Killing them is safe then:
        without a postmaster nobody else uses that memory, and the next start recovers from the log.
        """
        left = self._at_work()
        if (head := _postmaster(self.data)) in left:
            end_all([head], seconds=ORPHAN_SECONDS, first=signal.SIGINT)
        if not wait_for(lambda: not self._at_work(), seconds=1.0 if left else 0.0):
            end_all(self._at_work(), seconds=ORPHAN_SECONDS, first=signal.SIGQUIT)

    def _at_work(self) -> list[int]:
        return processes.titled(self._title(), program="postgres")

    def _drop_stale_locks(self) -> None:
        """Nobody is at work on the data: whatever pid the lock files name is dead, a zombie, or a stranger.

        PostgreSQL itself clears only the first kind (and the shared memory with it); it takes a zombie, or a stranger
        of the same user, for a rival, and an empty file for a rival that is just starting.
        """
        socket_lock = addresses.postgres_socket_dir(self.state) / ".s.PGSQL.5432.lock"
        for lock in (self.data / "postmaster.pid", socket_lock):
            pid = _first_number(lock)
            if pid is None or processes.exists(pid):
                lock.unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            _ensure_database(addresses.postgres_socket_dir(self.state))
        except psycopg.Error:
            return False
        return True


_ENVIRON = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _initialise(home: Path, *, account: Account | None, log: Path) -> None:
    """initdb into `data.new`, renamed when whole: a kill in between costs a second try, not a broken cluster."""
    fresh = home / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    command = [str(placement.programs(account=account) / "initdb"), "-D", str(fresh), "-U", _SUPERUSER]
    # The C library's locale plays no part, so that an upgrade of it cannot break an index.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"]
    done = subprocess.run(
        [*command, "--auth=trust", "--no-instructions", *locale],
        check=False,
        cwd="/",
        env=_ENVIRON,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C is the supervisor's to answer
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    log.touch(mode=0o600, exist_ok=True)
    with log.open("a") as file:
        file.write(done.stdout)
    if done.returncode != 0:
        raise EmbeddedError(f"initdb failed; the end of {log}:\n" + "\n".join(done.stdout.splitlines()[-8:]))
    fresh.rename(home / "data")


def _ensure_database(host: Path) -> None:
    """The role and the database, made once; asked at every start, as a kill may have come before they were."""
    with _superuser(host, _SUPERUSER) as connection:
        role, database = sql.Identifier(addresses.ROLE), sql.Identifier(addresses.DATABASE)
        found = connection.execute(
            "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s),"
            " EXISTS (SELECT FROM pg_database WHERE datname = %s)",
            (addresses.ROLE, addresses.DATABASE),
        ).fetchone()
        assert found is not None
        if not found[0]:
            # CREATEDB: the tests make a database of their own.
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(role))
        if not found[1]:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))


def _superuser(host: Path, database: str) -> psycopg.Connection[tuple[bool, bool]]:
    return psycopg.connect(host=str(host), user=_SUPERUSER, dbname=database, connect_timeout=2, autocommit=True)


def _postmaster(data: Path) -> int:
    return _first_number(data / "postmaster.pid") or 0


def _first_number(path: Path) -> int | None:
    """The pid on a lock file's first line; a single backend writes it negative."""
    with suppress(OSError, ValueError, IndexError):
        return abs(int(path.read_text().splitlines()[0]))
    return None
