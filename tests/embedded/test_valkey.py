"""The embedded Valkey, each fault real."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from embedded import addresses
from embedded.program import wait_for
from embedded.valkey import Valkey
from tests.embedded.conftest import settled

pytestmark = pytest.mark.faults


@pytest.fixture
def server(state: Path) -> Iterator[Valkey]:
    valkey = Valkey(state)
    valkey.start()
    yield valkey
    valkey.stop()


def client(valkey: Valkey) -> redis.Redis:
    return redis.Redis.from_url(addresses.redis_url(valkey.state))


def test_it_listens_on_a_private_socket_alone(server: Valkey, state: Path) -> None:
    """No TCP port, nothing written to disk, nothing evicted, and nobody else may enter."""
    with client(server) as valkey:
        asked = valkey.config_get("port", "save", "appendonly", "maxmemory-policy")
    assert asked == {"port": "0", "save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
    assert addresses.valkey_socket(state).stat().st_mode & 0o777 == 0o700
    assert addresses.socket_dir(state).stat().st_mode & 0o066 == 0


def test_a_stop_leaves_nothing(server: Valkey, state: Path) -> None:
    """Process and socket are gone."""
    server.stop()
    assert settled(state)
    assert not addresses.valkey_socket(state).exists()
    assert not server.running()


def test_it_starts_again_after_a_kill(server: Valkey) -> None:
    """The socket that kill -9 leaves behind is in nobody's way."""
    os.kill(server.pid, signal.SIGKILL)
    assert wait_for(lambda: server.pid is None, seconds=5)
    assert not server.running()
    server.start()
    with client(server) as valkey:
        assert valkey.ping()


def test_one_that_an_earlier_run_left_is_replaced(state: Path) -> None:
    """A server that outlived its run is ended: two would take each other's socket."""
    left = Valkey(state)
    thread = threading.Thread(target=left.start)
    thread.start()
    thread.join()
    server = Valkey(state)
    server.start()
    try:
        assert left.pid is None
        with client(server) as valkey:
            assert valkey.info("server")["process_id"] == server.pid
    finally:
        server.stop()


def test_something_else_on_the_socket_is_no_answer(state: Path) -> None:
    """A listener that does not speak the protocol is not taken for a running server."""
    valkey = Valkey(state)
    addresses.socket_dir(state).mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(addresses.valkey_socket(state)))
        assert not valkey.program().ready()


def test_two_state_directories_have_two_servers(make_state: Callable[[], Path]) -> None:
    """What one holds the other does not."""
    one, two = Valkey(make_state()), Valkey(make_state())
    one.start()
    two.start()
    try:
        with client(one) as first, client(two) as second:
            first.set("key", "value")
            assert second.get("key") is None
    finally:
        one.stop()
        two.stop()
