"""relay.outside: where requests to customers' addresses go, and where they do not."""

import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from relay import outside
from relay.outside import Line, OutsideFailed, OutsideRefused, check_address, fetch, is_open
from tests.relay.outside_server import OutsideServer

HOST = "keys.alice.example"


@pytest.fixture
def server(tmp_path: Path, settings: Any) -> Iterator[OutsideServer]:
    """At 127.0.0.2, which is allowed; 127.0.0.1 and the rest are not."""
    found = OutsideServer(tmp_path, HOST)
    settings.GATEPOST_OUTSIDE_ALLOWED = (ip_network("127.0.0.2/32"),)
    settings.GATEPOST_OUTSIDE_CA_FILE = str(found.ca_file)
    yield found
    found.stop()


Resolver = Callable[..., list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """names(host=["192.0.2.1"], …) -> the names that were asked for, as the list grows; each answer is used up."""
    asked: list[str] = []
    answers: dict[str, list[list[str]]] = {}

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        try:
            ip_address(host)
            found = [host]
        except ValueError:
            asked.append(host)
            left = answers.get(host) or []
            if not left:
                raise socket.gaierror(socket.EAI_NONAME, "unknown") from None
            found = left.pop(0) if len(left) > 1 else left[0]
        family = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in found]
        return [(kind, socket.SOCK_STREAM, 6, "", (each, port)) for kind, each in zip(family, found, strict=True)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def set_answers(given: dict[str, list[list[str]]]) -> list[str]:
        answers.update(given)
        return asked

    return set_answers


def test_an_answer_comes_whole(server: OutsideServer, names: Resolver) -> None:
    """Status, headers, body; the name in SNI and certificate is the one that was asked for."""
    names({HOST: [["127.0.0.2"]]})
    server.answers["/keys?x=1"] = (200, {"X-Test": "yes"}, b'{"keys": []}')
    found = fetch(server.url("/keys?x=1", host=HOST))
    assert (found.status, found.body, found.headers["x-test"]) == (200, b'{"keys": []}', "yes")
    assert server.server_names == [HOST]


def test_a_body_is_sent_and_no_redirect_followed(server: OutsideServer, names: Resolver) -> None:
    """A POST goes where it was addressed to, or nowhere."""
    names({HOST: [["127.0.0.2"]]})
    server.answers["/hook"] = (307, {"Location": "/elsewhere"}, b"")
    assert fetch(server.url("/hook", host=HOST), method="POST", body=b"event").status == 307
    assert (server.asked, server.bodies) == (["/hook"], [b"event"])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.10", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
        "2001::1", "fe80::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_an_address_inside_is_not_open(address: str, names: Resolver) -> None:
    """Loopback, private, link-local, shared, multicast, reserved, and IPv4 in IPv6's clothes; by name or as it is."""
    assert not is_open(ip_address(address))
    names({HOST: [[address]]})
    literal = f"[{address}]" if ":" in address else address
    for host in (HOST, literal):
        with pytest.raises(OutsideRefused):
            fetch(f"https://{host}/")


@pytest.mark.parametrize("address", ["8.8.8.8", "193.0.6.139", "2001:4860:4860::8888", "2a00:1450::1"])
def test_a_public_address_is_open_unless_it_is_ours(address: str, settings: Any) -> None:
    """The operator's own ranges are refused too."""
    assert is_open(ip_address(address))
    settings.GATEPOST_OUTSIDE_REFUSED = (
        ip_network("8.8.0.0/16"),
        ip_network("193.0.0.0/8", strict=False),
        ip_network("2000::/3"),
    )
    assert not is_open(ip_address(address))


def test_one_bad_address_spoils_the_name(server: OutsideServer, names: Resolver) -> None:
    """A name that leads outside and inside leads inside."""
    names({HOST: [["127.0.0.2", "10.0.0.1"]]})
    with pytest.raises(OutsideRefused):
        fetch(server.url(host=HOST))
    assert server.asked == []


def test_a_name_that_changes_its_mind_is_asked_once(tmp_path: Path, server: OutsideServer, names: Resolver) -> None:
    """DNS rebinding: the connection goes to the address that was judged, whatever the second answer would have been."""
    inside = OutsideServer(_below(tmp_path), HOST, address="127.0.0.1")
    asked = names({HOST: [["127.0.0.2"], ["127.0.0.1"]]})
    server.answers["/"] = (200, {}, b"outside")
    assert fetch(server.url(host=HOST)).body == b"outside"
    assert asked == [HOST]
    with pytest.raises(OutsideRefused):  # judged anew, now that the name leads inside
        fetch(inside.url(host=HOST))
    assert inside.asked == []
    inside.stop()


def test_a_redirect_is_judged_as_the_first_address_was(tmp_path: Path, server: OutsideServer, names: Resolver) -> None:
    """To loopback by number or by name, to plain HTTP, to a file: refused, and nothing is asked there."""
    inside = OutsideServer(_below(tmp_path), "127.0.0.1", "inside.example", address="127.0.0.1")
    names({HOST: [["127.0.0.2"]], "inside.example": [["127.0.0.1"]]})
    for location in (
        inside.url(host="127.0.0.1"),
        inside.url(host="inside.example"),
        f"//127.0.0.1:{inside.port}/",
        f"http://{HOST}:{server.port}/",
        "file:///etc/passwd",
        "https://user:secret@keys.alice.example/",
    ):
        server.answers["/"] = (302, {"Location": location}, b"")
        with pytest.raises(OutsideRefused):
            fetch(server.url(host=HOST))
    assert inside.asked == []
    inside.stop()


def test_redirects_are_followed_a_few_times(server: OutsideServer, names: Resolver) -> None:
    """Three, relative or whole; the fourth is one too many."""
    names({HOST: [["127.0.0.2"]]})
    for number in range(4):
        server.answers[f"/{number}"] = (302, {"Location": f"/{number + 1}"}, b"")
    server.answers["/4"] = (200, {}, b"there")
    assert fetch(server.url("/1", host=HOST)).body == b"there"
    with pytest.raises(OutsideFailed, match="redirects too often"):
        fetch(server.url("/0", host=HOST))


def test_the_certificate_must_be_the_names(server: OutsideServer, names: Resolver, settings: Any) -> None:
    """Another name at the same address is refused, and so is a CA that nobody has named."""
    names({HOST: [["127.0.0.2"]], "other.example": [["127.0.0.2"]]})
    with pytest.raises(OutsideFailed, match="certificate"):
        fetch(server.url(host="other.example"))
    settings.GATEPOST_OUTSIDE_CA_FILE = ""
    with pytest.raises(OutsideFailed, match="certificate"):
        fetch(server.url(host=HOST))
    assert server.asked == []


def test_a_long_answer_is_cut_short(server: OutsideServer, names: Resolver) -> None:
    """With the length said beforehand, and without."""
    names({HOST: [["127.0.0.2"]]})
    server.answers["/long"] = (200, {}, b"x" * 101)
    with pytest.raises(OutsideFailed, match="too long"):
        fetch(server.url("/long", host=HOST), octets=100)

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        for _piece in range(1000):
            handler.wfile.write(b"x" * 1000)

    server.answers["/endless"] = endless
    with pytest.raises(OutsideFailed, match="too long"):
        fetch(server.url("/endless", host=HOST), octets=5000)
    server.answers["/exact"] = (200, {}, b"x" * 100)
    assert len(fetch(server.url("/exact", host=HOST), octets=100).body) == 100


def test_a_line_is_one_connection_for_many_requests(tmp_path: Path, settings: Any, names: Resolver) -> None:
    """Each asked once; after a body that was cut short, and after the server has closed it, the line connects anew, to
    the address that was judged."""
    server = OutsideServer(tmp_path, HOST, keeps=True)
    settings.GATEPOST_OUTSIDE_ALLOWED = (ip_network("127.0.0.2/32"),)
    settings.GATEPOST_OUTSIDE_CA_FILE = str(server.ca_file)
    asked = names({HOST: [["127.0.0.2"], ["127.0.0.1"]]})
    server.answers["/"] = (200, {}, b"short")
    server.answers["/empty"] = (204, {}, b"")
    line, empty = Line(server.url(host=HOST)), Line(server.url("/empty", host="127.0.0.2"))
    for number in range(3):
        answer = line.ask("POST", body=b"%d" % number, octets=1024, excerpt=True)
        assert (answer.status, answer.body) == (200, b"short")
    assert (server.bodies, len(server.server_names)) == ([b"0", b"1", b"2"], 1)
    server.answers["/"] = (200, {"Connection": "close"}, b"x" * 5000)
    for _number in range(2):
        assert line.ask("POST", body=b"", octets=1024, excerpt=True).body == b"x" * 1024
    assert len(server.bodies) == 5
    assert asked == [HOST]
    with pytest.raises(OutsideFailed, match="certificate"):
        empty.ask("POST", body=b"")
    server.stop()


def test_drops_do_not_hold_us_up(server: OutsideServer, names: Resolver) -> None:
    """A server that sends an octet now and then, in headers or body, has as long as one that sends none."""
    names({HOST: [["127.0.0.2"]]})

    def drip(start: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
        def write(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(start)
            for _drop in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.1)

        return write

    server.answers["/headers"] = drip(b"HTTP/1.0 200 OK\r\nX-Slow: ")
    server.answers["/body"] = drip(b"HTTP/1.0 200 OK\r\n\r\n")
    server.answers["/silent"] = drip(b"")
    for path in ("/headers", "/body", "/silent"):
        began = time.monotonic()
        with pytest.raises(OutsideFailed, match="too long"):
            fetch(server.url(path, host=HOST), seconds=0.5)
        assert 0.4 < time.monotonic() - began < 3


def test_a_resolver_that_hangs_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time includes the DNS."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    began = time.monotonic()
    with pytest.raises(OutsideFailed):
        fetch("https://slow.example/", seconds=0.2)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example/", "ftp://keys.example/", "file:///etc/passwd", "gopher://x/", "keys.example", "", "//x/",
        "https://", "https:///keys", "https://user@keys.example/", "https://user:pw@keys.example/",
        "https://keys.example:22/", "https://keys.example:25/", "https://keys.example:0/", "https://keys.example:99999/",
        "https://keys.example:x/", "https://keys.example/a b", "https://keys.example/\r\nHost: x", "https://keys\0/",
        "https://[::1/", "https://[fe80::1%eth0]/", "https://keys.example\\@inside/",
        "https://" + "a" * 64 + ".example/",
        "https://k.example/" + "a" * 1000, "https://\udcff/",
    ],
)  # fmt: skip
def test_what_is_no_such_address_is_refused_beforehand(url: str) -> None:
    """Without any network."""
    with pytest.raises(OutsideRefused):
        check_address(url)


def test_ports_and_names_of_the_world_are_taken() -> None:
    """443 and high ports, IPv6, other scripts, other characters in the path."""
    for url in (
        "https://keys.example", "https://keys.example:8443/a?b=c#d", "https://[2001:4860:4860::8888]/",
        "https://bücher.example/schlüssel?größe=ä",
    ):  # fmt: skip
        check_address(url)
    target = outside._target("https://bücher.example./schlüssel?a=%20b")
    assert (target.host, target.path) == ("xn--bcher-kva.example", "/schl%C3%BCssel?a=%20b")


def test_a_public_address_of_this_machine_is_refused(server: OutsideServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection shows it: it comes from where it goes to."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.2", server.port))])
    monkeypatch.setattr(outside, "is_open", lambda address: True)
    monkeypatch.setattr(outside, "_within", lambda address, networks: False)
    real = socket.create_connection
    monkeypatch.setattr(
        socket, "create_connection", lambda to, timeout: real(to, timeout, source_address=("127.0.0.2", 0))
    )
    with pytest.raises(OutsideRefused):
        fetch(server.url(host=HOST))


def test_a_port_where_nobody_listens_fails(names: Resolver, server: OutsideServer) -> None:
    """And a server that speaks no TLS; neither tells what is there."""
    names({HOST: [["127.0.0.2"]]})
    with socket.create_server(("127.0.0.2", 0)) as plain:
        port = plain.getsockname()[1]
        with pytest.raises(OutsideFailed):
            fetch(f"https://{HOST}:{port}/", seconds=0.5)
    with pytest.raises(OutsideFailed, match="could not be reached"):
        fetch(f"https://{HOST}:{port}/")


def _below(path: Path) -> Path:
    below = path / "inside"
    below.mkdir()
    return below
