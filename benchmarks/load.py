"""Load generator: sends mail as fast as a server accepts it, and prints one JSON line of what it saw.

Usage   python -m benchmarks.load --port 2465 --credentials FILE --mpc 20 --size 4096 --conc 64 --total 20000 --cpus 1
Shapes  --credentials: lines of username,password,sender, taken in turn, one for each connection. --mpc: messages per
        connection. Each message has one recipient and a Message-ID of its own.
Units   milliseconds in the output, seconds where the name says so; --size in octets, header included.
Errors  Counted by stage and reply; after --errors-max of them it stops.
Source  RFC 4954, RFC 2920: MAIL, RCPT and DATA leave in one segment.

Only servers on the loopback addresses are talked to.
"""

import argparse
import base64
import csv
import json
import os
import random
import resource
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.conversation import EHLO, Conversation, Loop, Target, clock

RECIPIENT = b"RCPT TO:<someone@recipient.example>\r\n"
MESSAGE_CODES = (b"250", b"250", b"354")
ID_PLACE = b"@@@"
BODIES = ("lines", "words", "base64")


class Login(NamedTuple):
    """What one SMTP user says, ready to be sent."""

    auth: bytes
    envelope: bytes  # MAIL, RCPT and DATA
    before_id: bytes
    after_id: bytes


class Counts:
    """What all conversations of a run saw."""

    def __init__(self) -> None:
        self.accepted = self.logins = 0
        self.accept_seconds: list[float] = []
        self.login_seconds: list[float] = []
        self.errors: Counter[str] = Counter()


class Run:
    def __init__(self, target: Target, logins: Sequence[Login], *, total: int, per_connection: int) -> None:
        self.target, self.per_connection = target, per_connection
        self.logins = cycle(logins)
        self.left, self.sent = total, 0
        self.counts = Counts()
        self.errors_max = 50
        self.tag = b"%d.%x" % (os.getpid(), int(clock() * 1e6))

    def go(self, concurrency: int, *, seconds_max: float) -> float:
        """Sends all, in this many conversations at once; how long it took."""
        loop = Loop()
        began = clock()
        for _ in range(min(concurrency, self.left)):
            Sender(loop, self).begin()
        if not loop.run(until=began + seconds_max):
            self.counts.errors["unfinished:time"] += len(loop.by_descriptor)
        return clock() - began


class Sender(Conversation):
    """Signs in, sends its messages, says goodbye, and begins anew while messages are left."""

    __slots__ = ("began", "login", "messages_left", "run")

    def __init__(self, loop: Loop, run: Run) -> None:
        super().__init__(loop)
        self.run = run
        self.began = 0.0
        self.messages_left = 0

    def begin(self) -> None:
        run = self.run
        if run.left <= 0 or run.counts.errors.total() >= run.errors_max:
            return
        self.login = next(run.logins)
        self.messages_left = min(run.per_connection, run.left)
        run.left -= self.messages_left
        self.open(run.target)

    def secured(self) -> None:
        self.expect("greeting", (b"220",), self._ehlo)

    def _ehlo(self) -> None:
        self.ask("ehlo", EHLO, (b"250",), self._auth)

    def _auth(self) -> None:
        self.ask("auth", self.login.auth, (b"235",), self._signed_in)

    def _signed_in(self) -> None:
        counts = self.run.counts
        counts.logins += 1
        counts.login_seconds.append(clock() - self.opened_at)
        self._envelope()

    def _envelope(self) -> None:
        self.ask("envelope", self.login.envelope, MESSAGE_CODES, self._content)

    def _content(self) -> None:
        run = self.run
        run.sent += 1
        login = self.login
        content = b"%s%s.%d%s" % (login.before_id, run.tag, run.sent, login.after_id)
        self.ask("content", content, (b"250",), self._accepted)

    def sent(self) -> None:
        self.began = clock()

    def _accepted(self) -> None:
        counts = self.run.counts
        counts.accept_seconds.append(clock() - self.began)
        counts.accepted += 1
        self.messages_left -= 1
        if self.messages_left:
            self._envelope()
        else:
            self.ask("quit", b"QUIT\r\n", (b"221",), self._done)

    def _done(self) -> None:
        self.close()
        self.begin()

    def failed(self, stage: str, what: str) -> None:
        self.run.counts.errors[f"{stage}:{what}"] += 1
        self.run.left += self.messages_left
        self.begin()


# --- Messages ----------------------------------------------------------------------------------------------------


def body(octets: int, *, kind: str) -> bytes:
    """One line again and again, lines of made-up words, or base64 as an attachment has; the same at each call."""
    source = random.Random(1)
    if kind == "lines":
        lines = [b"This line is said again and again, so that whoever compresses has an easy day."] * (octets // 60 + 1)
    elif kind == "base64":
        raw = base64.b64encode(source.randbytes(octets))
        lines = [raw[at : at + 76] for at in range(0, len(raw), 76)]
    else:
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        weights = [len(letters) - at for at in range(len(letters))]
        words = ["".join(source.choices(letters, weights, k=source.randint(2, 9))) for _ in range(1500)]
        lines = [" ".join(source.choices(words, k=12)).encode()[:76] for _ in range(octets // 60 + 1)]
    return b"\r\n".join(lines)[: max(0, octets - 2)] + b"\r\n"


def logins_from(path: Path, *, size: int, kind: str) -> list[Login]:
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    text = body(size, kind=kind)
    return [_login(username, password, sender, text=text, size=size) for username, password, sender in rows]


def _login(username: str, password: str, sender: str, *, text: bytes, size: int) -> Login:
    header = (
        f"From: <{sender}>\r\nTo: <someone@recipient.example>\r\nSubject: A message of the benchmark\r\n"
        "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n"
        f"Message-ID: <{ID_PLACE.decode()}@client.example>\r\n\r\n"
    ).encode()
    before, after = header.split(ID_PLACE)
    rest = max(2, size - len(header) - 24)
    return Login(
        auth=b"AUTH PLAIN %s\r\n" % base64.b64encode(f"\0{username}\0{password}".encode()),
        envelope=f"MAIL FROM:<{sender}>\r\n".encode() + RECIPIENT + b"DATA\r\n",
        before_id=before,
        after_id=b"%s%s\r\n.\r\n" % (after, text[: rest - 2]),
    )


# --- The command -------------------------------------------------------------------------------------------------


def percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """In milliseconds."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        f"p{percent}": round(ordered[min(last, len(ordered) * percent // 100)] * 1000, 2) if ordered else None
        for percent in (50, 95, 99)
    }


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.load", description="Send mail as fast as a server accepts it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--credentials", type=Path, required=True)
    parser.add_argument("--mpc", type=int, default=1, help="messages per connection")
    parser.add_argument("--size", type=int, default=4096, help="octets of a message")
    parser.add_argument("--body", choices=BODIES, default="lines", help="what messages consist of")
    parser.add_argument("--conc", type=int, default=64, help="connections at once")
    parser.add_argument("--total", type=int, default=1000, help="messages")
    parser.add_argument("--cpus", default="", help="cores to run on, such as 1 or 1,2")
    parser.add_argument("--seconds-max", type=float, default=120.0)
    given = parser.parse_args(arguments)
    if not ip_address(given.host).is_loopback:
        parser.error("only loopback addresses are loaded")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    given = parsed(arguments)
    if given.cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in given.cpus.split(",")})
    logins = logins_from(given.credentials, size=given.size, kind=given.body)
    run = Run(Target(given.host, given.port), logins, total=given.total, per_connection=given.mpc)
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = run.go(given.conc, seconds_max=given.seconds_max)
    after = resource.getrusage(resource.RUSAGE_SELF)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps(report(run.counts, seconds=seconds, own_seconds=own)), flush=True)
    return 0 if run.counts.accepted == given.total else 1


def report(counts: Counts, *, seconds: float, own_seconds: float) -> dict[str, Any]:
    return {
        "accepted": counts.accepted,
        "logins": counts.logins,
        "seconds": round(seconds, 3),
        "messages_per_second": round(counts.accepted / seconds, 1),
        "accept_ms": percentiles(counts.accept_seconds),
        "login_ms": percentiles(counts.login_seconds),
        "errors": dict(counts.errors),
        "generator_cores": round(own_seconds / seconds, 3),
        "generator_us_per_message": round(own_seconds / counts.accepted * 1e6) if counts.accepted else None,
    }


if __name__ == "__main__":
    raise SystemExit(main())
