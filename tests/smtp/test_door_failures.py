"""What fails at the door before a name is known: each cause by a real client, found by address, a flood in few rows."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from relay.door_failures import EXPLANATIONS, failure_of, failures_at
from relay.models import DoorFailure
from relay.smtp.door_failures import ANYWHERE, NEW_PER_MINUTE, Cause, DoorFailures
from relay.smtp.listener import Caps
from tests.smtp.conftest import RunningDoor

Eventually = Callable[..., None]
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def connect(port: int, source: str = "127.0.0.5") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def handshake(port: int, context: ssl.SSLContext, *, starttls: bool = False) -> None:
    """Tries, and expects to fail."""
    raw = connect(port)
    if starttls:
        raw.recv(1000)
        raw.sendall(b"EHLO client.example\r\n")
        raw.recv(1000)
        raw.sendall(b"STARTTLS\r\n")
        raw.recv(1000)
    with raw, suppress(ssl.SSLError, ConnectionError, TimeoutError):
        context.wrap_socket(raw, server_hostname="mail.gatepost.example").recv(1)


def old_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():  # that it is deprecated is the point
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def no_common_cipher() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")
    return context


def stored(cause: Cause, eventually: Eventually) -> DoorFailure:
    eventually(lambda: DoorFailure.objects.filter(cause=cause).exists())
    return DoorFailure.objects.get(cause=cause)


@pytest.mark.parametrize("starttls", [False, True])
@pytest.mark.parametrize(
    ("context", "cause"),
    [
        (old_tls, Cause.TLS_VERSION),
        (no_common_cipher, Cause.TLS_CIPHER),
        (ssl.create_default_context, Cause.CERTIFICATE),
    ],
)
def test_a_handshake_that_fails(
    door: RunningDoor,
    eventually: Eventually,
    context: Callable[[], ssl.SSLContext],
    cause: Cause,
    starttls: bool,
) -> None:
    """On either port its cause is told apart, and found by the client's address."""
    port = door.starttls_port if starttls else door.tls_port
    handshake(port, context(), starttls=starttls)
    row = stored(cause, eventually)
    assert (row.place, row.port, row.count) == ("127.0.0.5", port, 1)
    (found,) = failures_at("127.0.0.5")
    assert found.explained == EXPLANATIONS[cause]
    assert failures_at("127.0.0.6") == []


@pytest.mark.parametrize("said", [b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 50])
def test_no_tls_on_the_port_for_tls(door: RunningDoor, eventually: Eventually, said: bytes) -> None:
    """Whatever is spoken in clear where TLS begins at once."""
    with connect(door.tls_port) as client:
        client.sendall(said)
        with suppress(ConnectionError):
            client.recv(100)
        stored(Cause.PLAIN_ON_TLS, eventually)


@pytest.mark.parametrize("padding", [b"", b"\r\n", b"\xff\n"])
def test_tls_on_the_port_for_starttls(door: RunningDoor, eventually: Eventually, padding: bytes) -> None:
    """A ClientHello instead of EHLO, with a line's end somewhere in it or without; counted once for a connection."""
    with connect(door.starttls_port) as client:
        client.recv(1000)
        client.sendall(b"\x16\x03\x01\x02\x00" + b"\x01" * 40 + padding + b"\x02" * 40 + padding)
        client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while client.recv(1000):
                pass
    assert stored(Cause.TLS_ON_PLAIN, eventually).count == 1


def test_a_client_that_hangs_up_within_the_handshake(door: RunningDoor, eventually: Eventually) -> None:
    """A port scan, or a client that does not say why."""
    connect(door.tls_port).close()
    assert stored(Cause.TLS_BROKEN, eventually).port == door.tls_port


def test_too_many_connections_have_a_reference_that_is_found(door: RunningDoor, eventually: Eventually) -> None:
    """The reply's reference is the row's, the same for all of the hour."""
    door.server.caps = Caps(100, 1)
    door.client(source="127.0.0.5")
    refused = [door.client(ehlo=False, source="127.0.0.5") for _ in range(3)]
    assert all(each.greeting.startswith("421 4.7.0 Too many connections") for each in refused)
    references = {each.references[0] for each in refused}
    assert len(references) == 1
    eventually(lambda: DoorFailure.objects.filter(count=3).exists())
    found = failure_of(references.pop())
    assert found is not None
    assert found.explained == EXPLANATIONS[Cause.CONNECTIONS]


@pytest.fixture
def _proxy_peers(settings: Any) -> Iterator[None]:
    settings.GATEPOST_PROXY_PEERS = (ip_network("127.0.0.9/32"),)
    yield


@pytest.mark.usefixtures("_proxy_peers")
def test_a_balancer_without_its_header(door: RunningDoor, eventually: Eventually) -> None:
    """Counted at the balancer's own address: nobody knows whose connection it was."""
    with connect(door.starttls_port, source="127.0.0.9") as client:
        client.sendall(b"EHLO client.example\r\n")
        with suppress(ConnectionError):
            client.recv(100)
    assert stored(Cause.NO_PROXY_HEADER, eventually).place == "127.0.0.9"


@pytest.mark.usefixtures("_proxy_peers")
def test_a_handshake_behind_a_balancer_is_the_clients(door: RunningDoor, eventually: Eventually) -> None:
    """It is found by the address that the header tells, not by the balancer's."""
    with connect(door.tls_port, source="127.0.0.9") as client:
        client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 465\r\nEHLO client.example\r\n")
        with suppress(ConnectionError):
            client.recv(100)
    assert stored(Cause.PLAIN_ON_TLS, eventually).place == "192.0.2.7"


class NoPool:
    """PostgreSQL is away."""

    def connection(self, timeout: float) -> Any:
        raise OSError("away")


def fold(*, share: int = 1) -> DoorFailures:
    async def make() -> DoorFailures:
        return DoorFailures(NoPool(), worker="smtpd@test:1", share=share)  # type: ignore[arg-type]

    return asyncio.run(make())


def test_a_flood_is_a_bounded_number_of_rows() -> None:
    """From a million addresses in a minute: some of their own, some of their networks, one for all the rest."""
    failures = fold()
    for number in range(100_000):
        ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        failures.failed(ip, Cause.TLS_BROKEN, port=465, now=NOON)
    runs = list(failures._runs.values())
    assert len(runs) <= 2 * NEW_PER_MINUTE + 1
    assert sum(run.count for run in runs) == 100_000
    assert {run.place for run in runs} >= {"10.0.0.0", ANYWHERE}
    assert any(run.place.endswith("/24") for run in runs)


def test_who_came_before_the_flood_keeps_a_row_of_its_own() -> None:
    """And a new minute has room again."""
    failures = fold()
    mine = failures.failed("192.0.2.7", Cause.CONNECTIONS, port=587, now=NOON)
    for number in range(1000):
        failures.failed(f"10.0.{number >> 8}.{number & 255}", Cause.TLS_BROKEN, port=465, now=NOON)
    assert failures.failed("192.0.2.7", Cause.CONNECTIONS, port=587, now=NOON + timedelta(minutes=5)) == mine
    later = failures.failed("192.0.2.8", Cause.CONNECTIONS, port=587, now=NOON + timedelta(minutes=1))
    assert later in {run.reference for run in failures._runs.values() if run.place == "192.0.2.8"}


def test_hours_causes_ports_are_kept_apart_and_details_escaped() -> None:
    """The latest words of the library, without anything that could break a line."""
    failures = fold()
    first = failures.failed("192.0.2.7", Cause.TLS_BROKEN, port=465, now=NOON)
    assert failures.failed("192.0.2.7", Cause.TLS_BROKEN, port=465, detail="a\n\x00\ud800<b>", now=NOON) == first
    others = [
        failures.failed("192.0.2.7", Cause.TLS_BROKEN, port=587, now=NOON),
        failures.failed("192.0.2.7", Cause.TLS_VERSION, port=465, now=NOON),
        failures.failed("192.0.2.7", Cause.TLS_BROKEN, port=465, now=NOON + timedelta(hours=1)),
    ]
    assert len({first, *others}) == 4
    (run,) = (run for run in failures._runs.values() if run.reference == first)
    assert run.detail == "a\\n\\x00\\ud800<b>"


def test_while_the_database_is_away_totals_wait() -> None:
    """Nothing is raised, nothing is counted as written."""
    failures = fold()
    failures.failed("192.0.2.7", Cause.TLS_BROKEN, port=465)
    asyncio.run(failures._flush())
    (run,) = failures._runs.values()
    assert (run.count, run.written) == (1, 0)


def test_every_cause_has_words() -> None:
    """Cause and fix for each."""
    assert set(EXPLANATIONS) == set(Cause)
