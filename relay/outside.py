"""Requests to addresses that customers choose: issuers' keys, webhooks. Never from smtpd; in a view only check_where().

Shapes  fetch(url, …) -> Answer. check_address(url) says beforehand what is wrong with an address, without a network;
        check_where(url) asks the DNS as well, for a form that is saved.
        Line: a connection that is kept for several requests to one address, which was judged when it was opened.
Units   seconds of the whole exchange, with every redirect, DNS included; octets of the decoded body.
Errors  OutsideRefused: we do not go there. OutsideFailed: there was no good answer. Both with words for the customer,
        and neither tells what answered at an address where we do not go.
Source  RFC 6890 and IANA's registries of special addresses; RFC 7230; docs/security.md.

A name is resolved once; if any of its addresses is one where we do not go, it is refused, and the connection goes to
the address that was judged, with the name kept for SNI and the certificate. The DNS is not asked a second time.
"""

import http.client
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from relay.networks import Address, Range

SECONDS = 10.0
OCTETS = 256 * 1024
CHECK_SECONDS = 2.0  # of DNS, while somebody waits for a form
BODY_SECONDS = 2.0  # of an excerpt, after the headers
REDIRECTS = 3
URL_LENGTH_MAX = 1000
PORTS_LOW = (443,)  # and all from 1024 on: below are services that speak something else
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
REDIRECTING = (301, 302, 303, 307, 308)
USER_AGENT = "Gatepost"

# What is_global leaves open: nobody's public server is there, or it is another address in disguise.
NOWHERE: tuple[Range, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
        "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip


class OutsideRefused(Exception):
    """An address where we do not go."""


class OutsideFailed(Exception):
    """No answer, or none that can be used."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, whole. url: after the redirects."""

    status: int
    body: bytes = field(repr=False)
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    host: str
    port: int
    path: str


def check_address(url: str) -> None:
    """Raises OutsideRefused for what no request could go to."""
    _target(url)


def check_where(url: str, *, seconds: float = CHECK_SECONDS) -> None:
    """Raises OutsideRefused if the address leads inside today. A name that is not there yet may come to be."""
    target = _target(url)
    with suppress(OutsideFailed):
        _judged(_resolved(target, ends_at=time.monotonic() + seconds))


def fetch(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    octets: int = OCTETS,
    redirects: int = REDIRECTS,
    addresses: Sequence[Address] | None = None,
) -> Answer:
    """The answer, whatever its status. Only a GET follows redirects, each judged as the first address was.

    addresses: where the name leads, from a caller that has asked the DNS itself; without redirects alone.
    """
    assert addresses is None or not redirects
    ends_at = time.monotonic() + seconds
    redirects = redirects if method == "GET" else 0
    for _step in range(redirects + 1):
        target = _target(url)
        answer = _exchange(target, method, body, headers or {}, ends_at=ends_at, octets=octets, addresses=addresses)
        location = answer.headers.get("location", "")
        if answer.status not in REDIRECTING or not location or method != "GET":
            return answer
        url = urljoin(target.url, location)
    raise OutsideFailed(_("The server redirects too often."))


def is_open(address: Address, allowed: Sequence[Range] | None = None) -> bool:
    """Whether we go there: a public unicast address that is not ours, or one that the operator has allowed."""
    if _within(address, settings.GATEPOST_OUTSIDE_ALLOWED if allowed is None else allowed):
        return True
    return address.is_global and not _within(address, (*NOWHERE, *settings.GATEPOST_OUTSIDE_REFUSED))


def _within(address: Address, networks: Sequence[Range]) -> bool:
    return any(address in each for each in networks if each.version == address.version)


def _target(url: str) -> _Target:
    if len(url) > URL_LENGTH_MAX or not url.isprintable() or " " in url or "\\" in url:
        raise OutsideRefused(_("This is no address that can be fetched."))
    try:
        parts = urlsplit(url)
        port, host = 443 if parts.port is None else parts.port, _host(parts)
    except ValueError:
        raise OutsideRefused(_("This is no address that can be fetched.")) from None
    if parts.scheme != "https":
        raise OutsideRefused(_("The address must begin with https://."))
    if parts.username is not None or parts.password is not None:
        raise OutsideRefused(_("The address must not hold a username or a password."))
    if port not in PORTS_LOW and port < 1024:
        raise OutsideRefused(_("The port must be 443, or 1024 and above."))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(url, host, port, quote(path, safe="/?&=%:;,@!$'()*+~-._[]"))


def _host(parts: SplitResult) -> str:
    """In A-labels, without the dot at the end. Raises ValueError."""
    host = (parts.hostname or "").rstrip(".")
    if not host or "%" in host:
        raise ValueError
    if ":" in host:
        return str(IPv6Address(host))
    host = host.encode("idna").decode().lower()
    if not all(LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError
    return host


def _exchange(
    target: _Target,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    ends_at: float,
    octets: int,
    addresses: Sequence[Address] | None,
) -> Answer:
    line = Line(target.url, seconds=ends_at - time.monotonic(), addresses=addresses)
    try:
        return line.ask(method, body=body, headers=headers, seconds=ends_at - time.monotonic(), octets=octets)
    finally:
        line.close()


class Line:
    """Requests one after the other over one connection. The address is not followed anywhere: no redirects.

    When the server has closed it meanwhile, the next request connects to the same address again, which was judged; so
    nobody keeps a line for longer than a name may be trusted to lead where it led.
    """

    def __init__(self, url: str, *, seconds: float = SECONDS, addresses: Sequence[Address] | None = None) -> None:
        """Raises OutsideRefused and OutsideFailed; the connection itself is made by the first request."""
        ends_at = time.monotonic() + seconds
        self._target = _target(url)
        found = _resolved(self._target, ends_at=ends_at) if addresses is None else addresses
        self._connection = _Connection(self._target, _judged(found))
        self.opened_at = time.monotonic()
        self.requests = 0

    def ask(
        self,
        method: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
        octets: int = OCTETS,
        excerpt: bool = False,
    ) -> Answer:
        """excerpt: of a longer or slower body what came within BODY_SECONDS is enough; else it is an OutsideFailed."""
        ends_at = self._connection.ends_at = time.monotonic() + seconds
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
        self.requests += 1
        try:
            self._connection.request(method, self._target.path, body=body, headers=sent)
            response = self._connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            if excerpt:
                content = self._beginning(response, octets, ends_at)
            elif len(content := response.read(octets + 1)) > octets:
                raise OutsideFailed(_("The answer is too long."))
        except BaseException as error:
            self.close()
            raise _in_words(error) from None
        return Answer(response.status, content, self._target.url, found)

    def _beginning(self, response: http.client.HTTPResponse, octets: int, ends_at: float) -> bytes:
        """What is left of it is not waited for: the connection ends with it."""
        self._connection.ends_at = min(ends_at, time.monotonic() + BODY_SECONDS)
        content = b""
        try:
            while len(content) <= octets and (piece := response.read1(octets + 1 - len(content))):
                content += piece
            response.close()  # it is over; else the next request of the line would find it unread
        except (OSError, http.client.HTTPException):
            self.close()
        if len(content) > octets:
            self.close()
        return content[:octets]

    def close(self) -> None:
        self._connection.close()


def _in_words(error: BaseException) -> BaseException:
    """Nothing of what a server says that is none, nor of the network, is told."""
    match error:
        case ssl.SSLCertVerificationError():
            return OutsideFailed(_("The certificate is not valid: %(why)s.") % {"why": error.verify_message})
        case TimeoutError():
            return OutsideFailed(_("The server took too long."))
        case OSError() | http.client.HTTPException() | ValueError():
            return OutsideFailed(_("The server could not be reached, or did not answer as a web server does."))
        case _:
            return error


def _resolved(target: _Target, *, ends_at: float) -> list[Address]:
    """In a thread, since the resolver has no time limit of its own that we could set."""
    answers: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            answers.put(None)

    threading.Thread(target=ask, daemon=True, name="resolver").start()
    try:
        found = answers.get(timeout=max(0.0, ends_at - time.monotonic()))
    except queue.Empty:
        found = None
    if not found:
        raise OutsideFailed(_("There is no server of this name."))
    return [ip_address(str(sockaddr[0]).partition("%")[0]) for *_kind, sockaddr in found]


def _judged(addresses: Sequence[Address]) -> Address:
    """All of them must be open: a name that points inside as well is a trap, or a mistake."""
    if not all(is_open(address) for address in addresses):
        raise OutsideRefused(_("The name leads to an address inside a network, where Gatepost does not go."))
    return next((each for each in addresses if isinstance(each, IPv4Address)), addresses[0])


class _Socket(ssl.SSLSocket):
    """Reads and writes only until ends_at, however small the pieces are in which the other side sends."""

    ends_at: float = 0.0

    def _hurry(self) -> None:
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._hurry()
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        self._hurry()
        return super().send(*args, **kwargs)


@lru_cache(maxsize=2)
def _trust(ca_file: str) -> ssl.SSLContext:
    """Made once: to read a system's authorities takes longer than a request."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


class _Connection(http.client.HTTPSConnection):
    """To the address that was judged, under the name that was asked for."""

    def __init__(self, target: _Target, address: Address) -> None:
        context = _trust(settings.GATEPOST_OUTSIDE_CA_FILE)
        super().__init__(target.host, target.port, context=context)
        self._tls, self._address, self._ends_at = context, address, time.monotonic()

    @property
    def ends_at(self) -> float:
        return self._ends_at

    @ends_at.setter
    def ends_at(self, moment: float) -> None:
        self._ends_at = moment
        if isinstance(self.sock, _Socket):
            self.sock.ends_at = moment

    def connect(self) -> None:
        left = max(0.001, self._ends_at - time.monotonic())
        raw = socket.create_connection((str(self._address), self.port), timeout=left)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._refuse_ourselves(raw)
            self.sock = self._tls.wrap_socket(raw, server_hostname=self.host)
            assert isinstance(self.sock, _Socket)
            self.sock.ends_at = self._ends_at
        except BaseException:
            raw.close()
            raise

    def _refuse_ourselves(self, raw: socket.socket) -> None:
        """A public address of this very machine: the connection begins and ends at the same one."""
        if raw.getsockname()[0] == raw.getpeername()[0] and not _within(
            self._address, settings.GATEPOST_OUTSIDE_ALLOWED
        ):
            raise OutsideRefused(_("The name leads to an address inside a network, where Gatepost does not go."))
