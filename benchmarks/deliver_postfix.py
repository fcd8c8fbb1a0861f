"""Postfix with a queue to deliver: filled by smtp-source into the hold queue, then moved to incoming at once.

Shapes  As Debian ships it, one next hop for all mail (relayhost), its connection cache on; no log, no name lookups.
Errors  debian.Unavailable where the package cannot be had, or Postfix does not start.
Source  postconf(5), qmgr(8): what is in incoming is delivered first come, first served; an I at its door has it look.
"""

import os
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.cores import processor_seconds
from benchmarks.debian import Unavailable, argv_in, tree, users
from benchmarks.gatepost import free_port
from benchmarks.postfix import ENVIRON, PACKAGES, QUEUES
from benchmarks.sink import listens
from embedded import directories
from embedded.errors import EmbeddedError
from embedded.program import Child, Program

MAIN = """\
compatibility_level = 3.6
mail_owner = postfix
setgid_group = postdrop
inet_protocols = ipv4
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
myhostname = localhost.example
mydestination =
alias_maps =
local_recipient_maps =
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_recipient_restrictions = check_client_access static:HOLD, permit_mynetworks, reject
relayhost = [127.0.0.1]:{sink}
smtp_tls_security_level = none
disable_dns_lookups = yes
"""
MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
scache unix - - n - 1 scache
anvil unix - - n - 1 anvil
"""
HEAD = (
    "Received: from client.example ([10.0.0.1]) by localhost with ESMTPSA id K7Q2MX9TA4;\n"
    " Tue, 24 Nov 2026 12:00:00 +0000\nMessage-ID: <1.bench@load-000.example>\n"
    "Date: Tue, 24 Nov 2026 12:00:00 +0000\nFrom: u000000@load-000.example\nTo: someone@recipient.example\n"
    "Subject: Bench\n\n"
)
LINE = "The quick brown fox jumps over the lazy dog. The quick brown fox jump"


class DeliveringPostfix:
    name = "postfix"

    def __init__(self, state: Path, *, sink_port: int) -> None:
        self.state, self.sink_port, self.port = state, sink_port, free_port()
        self._root = Path()
        self._child: Child | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._root = tree("postfix", PACKAGES)
        self._configure()
        directories.state_directories(self.state)
        master = argv_in(self._root, "/usr/lib/postfix/sbin/master", "-c", "/etc/postfix")
        program = Program(
            name="postfix", argv=lambda: master, environ=ENVIRON, ready=lambda: listens(self.port), ready_seconds=20.0
        )
        self._child = Child(program, state=self.state)
        self._stack.callback(self._child.stop)
        try:
            self._child.start()
            self._child.wait_until_ready()
        except EmbeddedError as error:
            self._stack.close()
            raise Unavailable(str(error)) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @property
    def _spool(self) -> Path:
        return self._root / "var/spool/postfix"

    def fill(self, messages: int, *, size: int) -> None:
        rows = (size - len(HEAD.replace("\n", "\r\n"))) // (len(LINE) + 2)
        (self._root / "tmp/message").write_text(HEAD + f"{LINE}\n" * rows)
        words = ("-s", "10", "-m", str(messages), "-F", "/tmp/message", "-f", "u000000@load-000.example")
        to = ("-t", "someone@recipient.example", f"127.0.0.1:{self.port}")
        subprocess.run(argv_in(self._root, "/usr/sbin/smtp-source", *words, *to), check=True)
        os.sync()

    def release(self) -> None:
        incoming = self._spool / "incoming"
        for file in list((self._spool / "hold").iterdir()):
            file.rename(incoming / file.name)
        with socket.socket(socket.AF_UNIX) as trigger:
            trigger.connect(str(self._spool / "public/qmgr"))
            trigger.sendall(b"I")

    def left(self) -> int:
        return sum(1 for name in ("incoming", "active", "deferred") for _ in _files(self._spool / name))

    def processor_seconds(self) -> dict[str, float]:
        assert self._child is not None
        return {"postfix": processor_seconds([self._child.pid or 0])}

    def _configure(self) -> None:
        ids = users(self._root, ("postfix", "postdrop", "dovecot", "dovenull"))
        shutil.rmtree(self._spool, ignore_errors=True)
        for name in (*QUEUES, "pid"):
            place = self._spool / name
            place.mkdir(parents=True)
            if name != "pid":
                os.chown(place, ids["postfix"], ids["postdrop"] if name in {"maildrop", "public"} else -1)
        data = self._root / "var/lib/postfix"
        data.mkdir(parents=True, exist_ok=True)
        os.chown(data, ids["postfix"], -1)
        etc = self._root / "etc/postfix"
        etc.mkdir(parents=True, exist_ok=True)
        (etc / "main.cf").write_text(MAIN.format(sink=self.sink_port))
        (etc / "master.cf").write_text(MASTER.format(port=self.port))


def _files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]
