"""Addresses of the embedded servers."""

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
from kombu import Connection

from embedded import addresses
from embedded.valkey import Valkey


def test_state_dir_is_in_the_clone_by_default(tmp_path: Path) -> None:
    """Without GATEPOST_STATE_DIR the state lies in the clone."""
    assert addresses.state_dir({}, tmp_path) == tmp_path / ".state"


def test_state_dir_can_be_named(tmp_path: Path) -> None:
    """GATEPOST_STATE_DIR is taken, links resolved, so that one directory has one tag."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    named = addresses.state_dir({"GATEPOST_STATE_DIR": str(tmp_path / "link")}, tmp_path)
    assert named == tmp_path / "real"
    assert addresses.tag(tmp_path / "link") == addresses.tag(tmp_path / "real")


@pytest.mark.parametrize("depth", [1, 60])
def test_socket_paths_are_short_however_deep_the_clone(tmp_path: Path, depth: int) -> None:
    """Socket paths stay under 80 characters."""
    state = tmp_path.joinpath(*["directory"] * depth)
    assert len(str(addresses.postgres_socket_dir(state) / ".s.PGSQL.5432.lock")) < 80
    assert len(str(addresses.valkey_socket(state))) < 80


def test_two_states_never_share_a_socket(tmp_path: Path) -> None:
    """Two state directories have two socket directories."""
    assert addresses.socket_dir(tmp_path / "a") != addresses.socket_dir(tmp_path / "b")


def test_database_url_names_role_database_and_socket(tmp_path: Path) -> None:
    """The URL parses with urllib: database from the path, host and user from the query."""
    parts = urlsplit(addresses.database_url(tmp_path))
    query = parse_qs(parts.query)
    assert (parts.scheme, parts.path, query["user"]) == ("postgresql", "/gatepost", ["gatepost"])
    assert query["host"] == [f"/tmp/gatepost-{os.getuid()}-{addresses.tag(tmp_path)}/pg"]


def test_redis_url_suits_redis_py_and_kombu(valkey_server: Valkey) -> None:
    """Both clients reach the same running server by their own spelling of its address."""
    state = valkey_server.state
    with redis.Redis.from_url(addresses.redis_url(state)) as client:
        client.delete("spelt")
        with Connection(addresses.broker_url(addresses.redis_url(state))) as kombu:
            kombu.SimpleQueue("spelt").put("hello")
        assert client.llen("spelt") == 1
        client.delete("spelt")


def test_broker_url_leaves_a_network_address_alone() -> None:
    """Only the address of a Unix socket is spelt differently for kombu."""
    assert addresses.broker_url("rediss://user:pw@host:6380/3") == "rediss://user:pw@host:6380/3"
    assert addresses.broker_url("unix:///run/v.sock?db=3") == "redis+socket:///run/v.sock?virtual_host=3"
