"""The PROXY protocol: from configured peers only, on both ports, kept across STARTTLS."""

import socket
import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from audit.models import AuthEvent
from relay.smtp.proxy import SIGNATURE
from tests.smtp.conftest import Client, RunningDoor, Sender

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 587\r\n"
V1_IPV6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 587\r\n"
V2 = (
    SIGNATURE
    + b"\x21\x11\x00\x0c"
    + socket.inet_aton("192.0.2.7")
    + socket.inet_aton("198.51.100.1")
    + b"\xdc\x04\x02\x4b"
)
V2_WITH_EXTRAS = SIGNATURE + b"\x21\x11\x00\x13" + V2[16:] + b"\x04\x00\x04abcd"
V2_LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


@pytest.fixture(autouse=True)
def _peers(settings: Any) -> Iterator[None]:
    settings.GATEPOST_PROXY_PEERS = (ip_network("127.0.0.9/32"),)
    yield


class ProxiedClient(Client):
    """A client behind a balancer: the header goes before TLS."""

    def __init__(self, port: int, header: bytes, *, tls: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=("127.0.0.9", 0))
        self.lines = b""
        self.references: list[str] = []
        self.socket.sendall(header)
        if tls:
            self.wrap()
        self.greeting = self.reply()


@pytest.mark.parametrize(
    ("header", "ip"),
    [
        (V1, "192.0.2.7"),
        (V1_IPV6, "2001:db8::7"),
        (V2, "192.0.2.7"),
        (V2_WITH_EXTRAS, "192.0.2.7"),
        (V2_LOCAL, "127.0.0.9"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.9"),
    ],
)
@pytest.mark.parametrize("tls", [True, False], ids=["implicit", "starttls"])
def test_the_client_is_whom_the_balancer_names(
    door: RunningDoor, sender: Sender, eventually: Callable[..., None], header: bytes, ip: str, tls: bool
) -> None:
    """On both ports the audit row has the client's address, after STARTTLS too."""
    client = ProxiedClient(door.tls_port if tls else door.starttls_port, header, tls=tls)
    client.say("EHLO client.example")
    if not tls:
        client.say("STARTTLS")
        client.wrap()
        client.say("EHLO client.example")
    assert client.say(f"AUTH PLAIN {sender.plain()}") == "235 2.7.0 Authentication succeeded"
    eventually(lambda: AuthEvent.objects.filter(ip=ip).exists())
    client.socket.close()


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.example\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        SIGNATURE + b"\x31\x11\x00\x0c" + b"\0" * 12,
        SIGNATURE + b"\x21\x11\x00\x04" + b"\0" * 4,
    ],
)
def test_a_configured_peer_without_a_header_is_closed(door: RunningDoor, header: bytes) -> None:
    """Nonsense, or SMTP at once: closed without a word."""
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ProxiedClient(door.starttls_port, header, tls=False)


def test_a_header_from_anybody_else_is_a_bad_command(door: RunningDoor) -> None:
    """Nobody else may say who he is: on the STARTTLS port it is an unknown command, on the TLS port no handshake."""
    client = door.client(tls=False, ehlo=False)
    assert client.say(V1.rstrip()) == "500 5.5.2 Command not recognized"
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        raw = socket.create_connection(("127.0.0.1", door.tls_port), timeout=20)
        raw.sendall(V1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.wrap_socket(raw)
