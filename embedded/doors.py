"""The addresses at which a run answers, and whether they are free and answer.

Errors  EmbeddedError with the variable to change, where a port cannot be had.
"""

import errno
import http.client
import ipaddress
import socket
import ssl
from dataclasses import dataclass

from embedded.errors import EmbeddedError

PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class Doors:
    bind: str
    web_port: int
    smtp_port: int
    smtps_port: int
    bounce_port: int = 0  # 0: none is opened

    @property
    def local(self) -> str:
        """Where a probe reaches a listener that is bound to every address."""
        try:
            unspecified = ipaddress.ip_address(self.bind).is_unspecified
        except ValueError:  # a name
            return self.bind
        return ("::1" if ":" in self.bind else "127.0.0.1") if unspecified else self.bind

    def variables(self) -> dict[str, int]:
        bounces = {"GATEPOST_BOUNCE_PORT": self.bounce_port} if self.bounce_port else {}
        return {
            "GATEPOST_WEB_PORT": self.web_port,
            "GATEPOST_SMTP_PORT": self.smtp_port,
            "GATEPOST_SMTPS_PORT": self.smtps_port,
            **bounces,
        }

    def addresses(self, *, web_url: str) -> dict[str, str | int]:
        """For programs, in the words of `make demo-credentials`."""
        ports: dict[str, str | int] = {"smtp_port": self.smtp_port, "smtps_port": self.smtps_port}
        return {"web_url": web_url, "smtp_host": self.bind, **ports}

    def line(self, *, web_url: str) -> str:
        host = f"[{self.bind}]" if ":" in self.bind else self.bind
        bounces = f" · bounces {host}:{self.bounce_port}" if self.bounce_port else ""
        smtp = f"SMTP {host}:{self.smtp_port} (STARTTLS), {host}:{self.smtps_port} (TLS)"
        return f"Gatepost is ready: {web_url} · {smtp}{bounces}"


def check_free(doors: Doors) -> None:
    """Each port by a bind of our own, so that a busy one is named before anything is started."""
    seen: dict[int, str] = {}
    for variable, port in doors.variables().items():
        if not 0 < port < 65536:
            raise EmbeddedError(f"{variable} must be a port from 1 to 65535, not {port}")
        if port in seen:
            raise EmbeddedError(f"{seen[port]} and {variable} are both {port}: set one of them to another port")
        seen[port] = variable
        _check_port(doors.bind, port, variable)


def _check_port(bind: str, port: int, variable: str) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # Without this, connections that ended a minute ago would still count as a busy port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise EmbeddedError(f"GATEPOST_BIND={bind} is not an address: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EmbeddedError(f"port {port} on {bind} is in use: set {variable} to a free port") from error
        if error.errno == errno.EACCES:
            raise EmbeddedError(f"port {port} may not be opened: set {variable} to a port above 1023") from error
        raise EmbeddedError(f"GATEPOST_BIND={bind} cannot be listened on: {error.strerror}") from error


def web_answers(doors: Doors, *, path: str, host_header: str) -> bool:
    connection = http.client.HTTPConnection(doors.local, doors.web_port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path, headers={"Host": host_header})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def smtp_answers(doors: Doors) -> bool:
    """Both ports greet: the second one through a TLS handshake."""
    return _greets(doors.local, doors.smtp_port, tls=False) and _greets(doors.local, doors.smtps_port, tls=True)


def bounces_answer(doors: Doors) -> bool:
    return _greets(doors.local, doors.bounce_port, tls=False)


def _greets(host: str, port: int, *, tls: bool) -> bool:
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS) as plain:
            connection = _unverified().wrap_socket(plain) if tls else plain
            greeting = connection.recv(512)
            connection.sendall(b"QUIT\r\n")
            return greeting.startswith(b"220")
    except OSError:
        return False


def _unverified() -> ssl.SSLContext:
    """The question is whether it answers at all; a certificate of its own making is no obstacle."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
