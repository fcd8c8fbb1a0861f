"""Starts the embedded PostgreSQL and Valkey of a test run, before Django reads its settings, and stops them after it.

Shapes  Loaded by `-p tests.plugins.services` (pyproject.toml): pytest-django reads the settings before any conftest.py.
        DATABASE_URL and REDIS_URL, each where set, name servers that are used as they are.
        GATEPOST_TEST_STATE names the state directory; otherwise `.state-test`, or `.state-test-2`, -3 ... while
        another run has the former. The cluster stays for the next run: making one takes longer than starting it.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from embedded import addresses
from embedded.lock import Lock, LockHeldError
from embedded.postgres import Postgres
from embedded.valkey import Valkey

_STACK = ExitStack()
_SERVERS: dict[str, Postgres | Valkey] = {}


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests() -> Generator[None]:
    """A wrapper runs before every plain hook, so before pytest-django reads the settings."""
    try:
        start()
    except BaseException:
        _STACK.close()
        raise
    yield


def pytest_unconfigure() -> None:
    _STACK.close()
    _SERVERS.clear()


def start() -> None:
    state = _claim_state()
    # Certificates, secrets and files of this run belong there too, never into the state of `make run`.
    os.environ["GATEPOST_STATE_DIR"] = str(state)
    if not os.environ.get("DATABASE_URL"):
        _SERVERS["postgres"] = postgres = Postgres(state)
        _STACK.callback(postgres.stop)
        postgres.start()
        os.environ["DATABASE_URL"] = addresses.database_url(state)
    if not os.environ.get("REDIS_URL"):
        _SERVERS["valkey"] = valkey = Valkey(state)
        _STACK.callback(valkey.stop)
        valkey.start()
        os.environ["REDIS_URL"] = addresses.redis_url(state)


def _claim_state() -> Path:
    if named := os.environ.get("GATEPOST_TEST_STATE"):
        try:
            return _locked(Path(named).resolve())
        except LockHeldError as held:
            raise pytest.UsageError(f"{named} is in use by process {held.pid}: set GATEPOST_TEST_STATE") from held
    for number in count(1):
        try:
            return _locked(addresses.BASE_DIR / (".state-test" if number == 1 else f".state-test-{number}"))
        except LockHeldError:
            continue
    raise AssertionError("unreachable")


def _locked(state: Path) -> Path:
    _STACK.enter_context(Lock(state))
    return state


@pytest.fixture
def postgres_server() -> Iterator[Postgres]:
    """The run's own PostgreSQL, to be stopped or killed by a test; it runs again afterwards."""
    server = _SERVERS.get("postgres")
    if not isinstance(server, Postgres):
        pytest.skip("DATABASE_URL names a server that is not ours to stop")
    yield server
    if not server.running():
        server.start()
    _forget_connections()


def _forget_connections() -> None:
    """Django's connections to a server that was stopped are dead: the main thread's, and that of asynchronous tests."""
    from asgiref.sync import SyncToAsync
    from django.db import connections

    connections.close_all()
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture
def valkey_server() -> Iterator[Valkey]:
    """The run's own Valkey, to be stopped or killed by a test; it runs again afterwards."""
    server = _SERVERS.get("valkey")
    if not isinstance(server, Valkey):
        pytest.skip("REDIS_URL names a server that is not ours to stop")
    yield server
    if not server.running():
        server.start()
