"""A session that has ended is freed at once: the garbage collector runs rarely in smtpd, and sees no TLS buffers."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from tests.smtp.conftest import Client, RunningDoor, Sender, content


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def refused_login(client: Client, sender: Sender) -> None:
    assert client.say("AUTH PLAIN AHgAeQ==").startswith("535")


def message(client: Client, sender: Sender) -> None:
    assert client.say(f"AUTH PLAIN {sender.plain()}").startswith("235")
    assert client.message(sender.address, "a@dest.example", content=content()).startswith("250")


def secret_in_the_open(client: Client, sender: Sender) -> None:
    assert client.say(f"EHLO {sender.secret.replace('_', '-')}.example").startswith("250")
    assert client.say(f"VRFY {sender.secret}").startswith("530")


def nothing(client: Client, sender: Sender) -> None:
    assert client.say("NOOP").startswith("250")


@pytest.mark.parametrize("what", [nothing, refused_login, secret_in_the_open, message])
@pytest.mark.parametrize("says_goodbye", [True, False])
def test_an_ended_session_is_freed(
    door: RunningDoor,
    sender: Sender,
    without_collector: None,
    eventually: Callable[..., None],
    what: Callable[[Client, Sender], None],
    says_goodbye: bool,
) -> None:
    """Whatever happened in it, and however it ended."""
    client = door.client()
    (session,) = map(weakref.ref, door.server._connections)
    what(client, sender)
    if says_goodbye:
        client.say("QUIT")
    client.socket.close()
    eventually(lambda: session() is None)
