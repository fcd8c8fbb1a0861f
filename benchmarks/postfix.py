"""Postfix with Dovecot's auth, on the same work as Gatepost: TLS, AUTH PLAIN of 1,000 users, every message to disk.

Shapes  `with Postfix(state, logins, certificate) as server`: mail lands in the hold queue, passwords are SSHA256 in a
        file. Both run from Debian's packages below .cache/ and nowhere else.
Errors  debian.Unavailable where they cannot be had, or do not start.
Source  postconf(5), master(5); Dovecot 2.3, doc/wiki/AuthDatabase.PasswdFile.txt.

Whatever is optional is left out to its advantage: no log is written, no name is looked up, no sender is checked.
"""

import base64
import csv
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.conversation import greets
from benchmarks.cores import processor_seconds
from benchmarks.debian import Unavailable, argv_in, tree, users
from benchmarks.gatepost import free_port
from embedded import directories
from embedded.errors import EmbeddedError
from embedded.program import Child, Program

PACKAGES = (
    "postfix", "dovecot-core", "libexttextcat-2.0-0", "libstemmer0d", "libtirpc3", "libunwind8", "libwrap0", "libnsl2",
    "libsodium23", "liblua5.4-0", "libdb5.3", "libsasl2-2", "libicu72",
)  # fmt: skip
QUEUES = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "private", "public",
    "saved", "trace",
)  # fmt: skip
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
message_size_limit = 52428800
smtpd_client_connection_count_limit = 0
smtpd_tls_wrappermode = yes
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = /etc/postfix/server.pem
smtpd_tls_key_file = /etc/postfix/server.pem
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_recipient_restrictions = check_client_access static:HOLD, permit_sasl_authenticated, reject
smtpd_relay_restrictions = permit_sasl_authenticated, reject
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
anvil unix - - n - 1 anvil
"""
DOVECOT = """\
protocols =
base_dir = /run/dovecot
log_path = /var/log/dovecot.log
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
passdb {
  driver = passwd-file
  args = scheme=SSHA256 username_format=%u /etc/dovecot/users
}
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
"""
ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Postfix:
    name = "postfix"

    def __init__(self, state: Path, *, logins: Path, certificate: Path) -> None:
        self.state, self.logins, self.certificate = state, logins, certificate
        self.port = free_port()
        self._root = Path()
        self._stack = ExitStack()
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        self._root = tree(self.name, PACKAGES)
        self._configure()
        try:
            auth = argv_in(self._root, "/usr/sbin/dovecot", "-F", "-c", "/etc/dovecot/dovecot.conf")
            self._start("dovecot", auth, ready=(self._spool / "private/auth").is_socket)
            master = argv_in(self._root, "/usr/lib/postfix/sbin/master", "-c", "/etc/postfix")
            self._start("postfix", master, ready=lambda: greets(self.port))
        except EmbeddedError as error:
            self._stack.close()
            raise Unavailable(str(error)) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @property
    def _spool(self) -> Path:
        return self._root / "var/spool/postfix"

    def empty(self) -> None:
        for file in (self._spool / "hold").iterdir():
            file.unlink()
        os.sync()
        time.sleep(0.5)

    def stored(self) -> int:
        return sum(1 for _ in (self._spool / "hold").iterdir())

    def processor_seconds(self) -> dict[str, float]:
        return {name: processor_seconds([child.pid or 0]) for name, child in self._children.items()}

    def _start(self, name: str, argv: list[str], *, ready: Callable[[], bool]) -> None:
        directories.state_directories(self.state)
        program = Program(name=name, argv=lambda: argv, environ=ENVIRON, ready=ready, ready_seconds=20.0)
        child = self._children[name] = Child(program, state=self.state)
        self._stack.callback(child.stop)
        child.start()
        child.wait_until_ready()

    def _configure(self) -> None:
        ids = users(self._root, ("postfix", "postdrop", "dovecot", "dovenull"))
        self._make_spool(ids)
        for place in ("etc/postfix", "etc/dovecot", "run/dovecot", "var/log", "var/run"):
            (self._root / place).mkdir(parents=True, exist_ok=True)
        etc = self._root / "etc"
        (etc / "postfix/main.cf").write_text(MAIN)
        (etc / "postfix/master.cf").write_text(MASTER.format(port=self.port))
        shutil.copy(self.certificate, etc / "postfix/server.pem")
        (etc / "dovecot/dovecot.conf").write_text(DOVECOT)
        with self.logins.open(newline="") as file:
            lines = [f"{username}:{_ssha256(password)}\n" for username, password, _sender in csv.reader(file)]
        (etc / "dovecot/users").write_text("".join(lines))

    def _make_spool(self, ids: dict[str, int]) -> None:
        shutil.rmtree(self._spool, ignore_errors=True)
        shutil.rmtree(self._root / "run/dovecot", ignore_errors=True)
        for name in (*QUEUES, "pid"):
            place = self._spool / name
            place.mkdir(parents=True)
            if name != "pid":
                os.chown(place, ids["postfix"], ids["postdrop"] if name in {"maildrop", "public"} else -1)
        data = self._root / "var/lib/postfix"
        data.mkdir(parents=True, exist_ok=True)
        os.chown(data, ids["postfix"], -1)


def _ssha256(password: str) -> str:
    salt = os.urandom(8)
    digest = hashlib.sha256(password.encode() + salt).digest()
    return "{SSHA256}" + base64.b64encode(digest + salt).decode()
