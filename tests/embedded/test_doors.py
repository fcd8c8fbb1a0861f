"""Ports are asked for before anything starts, and a busy one is named with its variable."""

import socket
import threading
from collections.abc import Iterator

import pytest

from embedded import doors
from embedded.doors import Doors
from embedded.errors import EmbeddedError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.mark.parametrize(
    "position, variable", [(0, "GATEPOST_WEB_PORT"), (1, "GATEPOST_SMTP_PORT"), (2, "GATEPOST_SMTPS_PORT")]
)
def test_a_busy_port_is_named_with_its_variable(taken: int, position: int, variable: str) -> None:
    """One line says which port is busy and which variable changes it."""
    ports = free_ports(3)
    ports[position] = taken
    with pytest.raises(EmbeddedError) as refused:
        doors.check_free(Doors("127.0.0.1", *ports))
    assert str(refused.value) == f"port {taken} on 127.0.0.1 is in use: set {variable} to a free port"


def test_free_ports_pass() -> None:
    """Nothing is said of ports that are free, also right after a listener left them."""
    doors.check_free(Doors("127.0.0.1", *free_ports(3)))


def test_a_port_that_shares_itself_is_busy_too() -> None:
    """Another installation's smtpd listens with SO_REUSEPORT; its port is still not ours."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        web, smtps = free_ports(2)
        with pytest.raises(EmbeddedError, match="GATEPOST_SMTP_PORT"):
            doors.check_free(Doors("127.0.0.1", web, other.getsockname()[1], smtps))


def test_one_port_for_two_doors_is_refused() -> None:
    """Two variables with the same port are both named."""
    web, smtp = free_ports(2)
    with pytest.raises(EmbeddedError, match="GATEPOST_WEB_PORT and GATEPOST_SMTPS_PORT are both"):
        doors.check_free(Doors("127.0.0.1", web, smtp, web))


def test_a_port_out_of_range_is_refused() -> None:
    """A number that is no port is refused by name, not by a traceback."""
    with pytest.raises(EmbeddedError, match="GATEPOST_SMTP_PORT must be a port from 1 to 65535, not 70000"):
        doors.check_free(Doors("127.0.0.1", 8000, 70000, 2465))


def test_an_address_of_another_machine_is_refused() -> None:
    """GATEPOST_BIND is named where it is the fault."""
    with pytest.raises(EmbeddedError, match=r"GATEPOST_BIND=192\.0\.2\.1 cannot be listened on"):
        doors.check_free(Doors("192.0.2.1", *free_ports(3)))


@pytest.mark.parametrize("said, counts", [(b"220 ready\r\n", True), (b"421 too busy\r\n", False)])
def test_a_greeting_counts_only_if_it_welcomes(said: bytes, counts: bool) -> None:
    """A door that answers 421 is not open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeter = threading.Thread(target=_greet, args=(listener, said))
        greeter.start()
        assert doors._greets("127.0.0.1", listener.getsockname()[1], tls=False) is counts
        greeter.join()


def _greet(listener: socket.socket, said: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(said)
        connection.recv(100)


def test_a_plain_port_is_no_tls_door() -> None:
    """The second door counts only after a handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeter = threading.Thread(target=_greet, args=(listener, b"220 ready\r\n"))
        greeter.start()
        assert doors._greets("127.0.0.1", listener.getsockname()[1], tls=True) is False
        greeter.join()


@pytest.mark.parametrize(
    "bind, local", [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("127.0.0.1", "127.0.0.1"), ("box", "box")]
)
def test_a_probe_goes_to_a_local_address(bind: str, local: str) -> None:
    """What listens everywhere is asked on loopback."""
    assert Doors(bind, 1, 2, 3).local == local


def test_the_ready_line_names_all_addresses() -> None:
    """One line, for people and for programs that wait for it."""
    line = Doors("::1", 8000, 2587, 2465).line(web_url="http://[::1]:8000")
    assert line == "Gatepost is ready: http://[::1]:8000 · SMTP [::1]:2587 (STARTTLS), [::1]:2465 (TLS)"
    assert Doors("::1", 8000, 2587, 2465, 2525).line(web_url="x").endswith("(TLS) · bounces [::1]:2525")
