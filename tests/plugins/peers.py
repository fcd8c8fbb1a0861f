"""Postfix and Exim from Debian's packages: real mail servers to send to, and a real one that sends to us.

Shapes  postfix_peer, exim_peer: fixtures for the session. open_port takes mail over STARTTLS, login_port with a login
        as well (USERNAME, PASSWORD); what was taken is in kept(). Postfix also relays what comes at relay_port to the
        next hop that relay_to() names.
Errors  The tests that use one are skipped, by name and with the reason, where its packages cannot be had.
Source  postconf(5), master(5), Postfix's rec_type.h; Exim 4.96, spec.txt, "Format of spool files".

Each instance has its own folder below the unpacked packages: two runs of tests on one machine must not meet.
"""

import os
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.debian import Unavailable, argv_in, tree
from embedded import directories
from embedded.errors import EmbeddedError
from embedded.program import Child, Program
from tests.plugins.peer_settings import DOVECOT, EXIM, EXIM_CONF, MAIN_CF, MASTER_CF, POSTFIX, QUEUES

USERNAME, PASSWORD = "relay", "harbour-Candle-52"
REFUSED, GREYLISTED = "nobody@peer.example", "later@peer.example"
ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}
IDS = {"postfix": 900, "postdrop": 901, "dovecot": 902, "dovenull": 903, "Debian-exim": 904}


@dataclass
class Kept:
    """A message as the peer has it in its queue. lines: header and body, line ends taken off."""

    recipients: list[str]
    lines: list[bytes]

    @property
    def body(self) -> list[bytes]:
        return self.lines[self.lines.index(b"") + 1 :]

    def header(self, name: str) -> str:
        start = name.encode() + b": "
        return next(line.removeprefix(start).decode() for line in self.lines if line.startswith(start))


class Peer:
    """An instance in a folder of its own inside the small system that tree() made."""

    name = ""
    packages: tuple[str, ...] = ()

    def __init__(self, certificate: Path) -> None:
        self.root = tree(self.name, self.packages)
        self.place = f"/instances/{secrets.token_hex(4)}"
        self.folder = self.root / self.place[1:]
        self.certificate = certificate
        self.open_port, self.login_port = _free_port(), _free_port()
        self._children: list[Child] = []

    def start(self) -> None:
        self._add_users()
        for name in ("etc", "data", "spool"):
            (self.folder / name).mkdir(parents=True)
        shutil.copy(self.certificate, self.folder / "server.pem")
        self.configure()

    def stop(self) -> None:
        for child in reversed(self._children):
            child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def configure(self) -> None:
        raise NotImplementedError

    def kept(self) -> list[Kept]:
        raise NotImplementedError

    def forget(self) -> None:
        raise NotImplementedError

    def run(self, name: str, *command: str, ports: tuple[int, ...] = (), file: Path | None = None) -> None:
        def ready() -> bool:
            return all(map(_listens, ports)) and (file is None or file.exists())

        argv = argv_in(self.root, *command)
        child = Child(
            Program(
                name=name,
                argv=lambda: argv,
                environ=ENVIRON,
                ready=ready,
                ready_seconds=20.0,
                stop_signal=signal.SIGKILL,  # its folder goes with it
            ),
            state=self.folder / "state",
        )
        directories.state_directories(self.folder / "state")
        self._children.append(child)
        child.start()
        child.wait_until_ready()

    def _add_users(self) -> None:
        """The same for all instances, and put in place at once: another may be reading."""
        lines = {
            "passwd": [f"{name}:x:{number}:{number}::/:/bin/false" for name, number in IDS.items()],
            "group": [f"{name}:x:{number}:" for name, number in IDS.items()],
        }
        more = {"passwd": ["root:x:0:0::/:/bin/false", "nobody:x:65534:65534::/:/bin/false"]}
        more["group"] = ["root:x:0:", "nogroup:x:65534:"]
        (self.root / "etc").mkdir(exist_ok=True)
        for file, own in lines.items():
            fresh = self.root / "etc" / f".{file}.{os.getpid()}"
            fresh.write_text("\n".join([*more[file], *own, ""]))
            fresh.rename(self.root / "etc" / file)


class PostfixPeer(Peer):
    name = "postfix-peer"
    packages = POSTFIX

    def __init__(self, certificate: Path) -> None:
        super().__init__(certificate)
        self.relay_port = _free_port()
        self._main = ""

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def configure(self) -> None:
        for name in QUEUES:
            place = self.spool / name
            place.mkdir()
            if name != "pid":
                os.chown(place, IDS["postfix"], IDS["postdrop"] if name in {"maildrop", "public"} else -1)
        os.chown(self.folder / "data", IDS["postfix"], -1)
        etc, words = self.folder / "etc", {"place": self.place, "refused": REFUSED, "greylisted": GREYLISTED}
        ports = {"open_port": self.open_port, "login_port": self.login_port, "relay_port": self.relay_port}
        self._main = MAIN_CF.format(**words)
        (etc / "main.cf").write_text(self._main)
        (etc / "master.cf").write_text(MASTER_CF.format(**ports))
        (etc / "dovecot.conf").write_text(DOVECOT.format(**words))
        (etc / "users").write_text(f"{USERNAME}:{PASSWORD}\n")
        (etc / "login").write_text("")
        shutil.copy(self.certificate, self.folder / "authority.pem")
        auth = ("/usr/sbin/dovecot", "-F", "-c", f"{self.place}/etc/dovecot.conf")
        self.run("dovecot", *auth, file=self.spool / "private/auth")
        master = ("/usr/lib/postfix/sbin/master", "-c", f"{self.place}/etc")
        self.run("postfix", *master, ports=(self.open_port, self.login_port, self.relay_port))

    def kept(self) -> list[Kept]:
        return [_postfix_message(path.read_bytes()) for path in sorted((self.spool / "hold").iterdir())]

    def forget(self) -> None:
        """Mail on its way is left to qmgr; what waits for a later try is not in its memory."""
        for name in ("hold", "deferred", "defer"):
            for path in (self.spool / name).rglob("*"):
                if path.is_file():
                    path.unlink()

    def flush(self) -> None:
        """What waits is tried now (qmgr(8): F all destinations, A whatever its time, D the deferred queue)."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as door:
            door.connect(str(self.spool / "public/qmgr"))
            door.sendall(b"FAD")

    def relay_to(self, port: int, *, authority: Path, login: str) -> None:
        """Mail that comes at relay_port goes on to 127.0.0.1 at this port, with this `username:password`."""
        shutil.copy(authority, self.folder / "authority.pem")
        (self.folder / "etc/login").write_text(f"[127.0.0.1]:{port} {login}\n")
        (self.folder / "etc/main.cf").write_text(self._main + f"relayhost = [127.0.0.1]:{port}\n")
        [master] = [child for child in self._children if child.program.name == "postfix"]
        master.stop()  # a reload would leave processes that know the old login, and sessions that were opened with it
        master.start()
        master.wait_until_ready()

    def waiting(self) -> list[str]:
        """Why mail for the next hop is still here: the words of the last attempt, a line for each recipient."""
        reasons = []
        for path in (self.spool / "defer").rglob("*"):
            with suppress(OSError):  # it may leave while it is read
                lines = path.read_text().splitlines() if path.is_file() else []
                reasons += [line.removeprefix("reason=") for line in lines if line.startswith("reason=")]
        return reasons

    def queued(self) -> int:
        names = ("maildrop", "incoming", "active", "deferred")
        return sum(path.is_file() for name in names for path in (self.spool / name).rglob("*"))

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


class EximPeer(Peer):
    name = "exim-peer"
    packages = EXIM

    def configure(self) -> None:
        os.chown(self.folder, IDS["Debian-exim"], IDS["Debian-exim"])
        os.chown(self.folder / "spool", IDS["Debian-exim"], IDS["Debian-exim"])
        (self.folder / "server.pem").chmod(0o644)
        words = {"place": self.place, "refused": REFUSED, "greylisted": GREYLISTED}
        login = {"username": USERNAME, "password": PASSWORD}
        ports = {"open_port": self.open_port, "login_port": self.login_port}
        (self.folder / "etc/exim.conf").write_text(EXIM_CONF.format(**words, **login, **ports))
        command = ("/usr/sbin/exim4", "-bdf", "-C", f"{self.place}/etc/exim.conf")
        self.run("exim", *command, ports=(self.open_port, self.login_port))

    def kept(self) -> list[Kept]:
        return [_exim_message(path) for path in sorted((self.folder / "spool/input").glob("*-H"))]

    def forget(self) -> None:
        for path in (self.folder / "spool/input").glob("*-[HDJ]"):
            path.unlink()


def _postfix_message(octets: bytes) -> Kept:
    """Records: a type, a length in groups of seven bits, so many octets. N a line, L part of one, R a recipient."""
    recipients, lines, at, begun = list[str](), list[bytes](), 0, b""
    while at < len(octets):
        kind, length, shift, at = octets[at : at + 1], 0, 0, at + 1
        while True:
            length |= (octets[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if not octets[at - 1] & 0x80:
                break
        value, at = octets[at : at + length], at + length
        if kind == b"R":
            recipients.append(value.decode())
        elif kind == b"L":
            begun += value
        elif kind == b"N":
            lines.append(begun + value)
            begun = b""
    return Kept(recipients, lines)


def _exim_message(path: Path) -> Kept:
    """-H: envelope, then header lines each behind its length and a letter (* means deleted). -D: the body."""
    envelope, _empty, header = path.read_bytes().partition(b"\n\n")
    addresses = envelope.rpartition(b"XX\n")[2].partition(b"\n")[2]  # behind the tree of those done, and their count
    kept = bytearray()
    at = 0
    while header[at : at + 3].isdigit():
        length = int(header[at : at + 3])
        field = header[at + 5 : at + 5 + length]
        if header[at + 3 : at + 4] != b"*":
            kept += field
        at += 5 + length
    body = path.with_name(path.name[:-1] + "D").read_bytes().partition(b"\n")[2]
    recipients = [address.decode() for address in addresses.split(b"\n") if b"@" in address]
    return Kept(recipients, (bytes(kept) + b"\n" + body).removesuffix(b"\n").split(b"\n"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False


def _started(kind: type[Peer], folder: Path) -> Iterator[Peer]:
    from tests.relay.delivery.scripted_server import make_certificate  # what it imports needs the settings

    try:
        peer = kind(make_certificate(folder))
    except Unavailable as error:
        pytest.skip(f"{kind.__name__}: {error}")
    try:
        peer.start()
    except EmbeddedError as error:
        peer.stop()
        pytest.skip(f"{kind.__name__}: {error}")
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def postfix_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    yield from _started(PostfixPeer, tmp_path_factory.mktemp("postfix"))


@pytest.fixture(scope="session")
def exim_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    yield from _started(EximPeer, tmp_path_factory.mktemp("exim"))
