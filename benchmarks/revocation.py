"""How soon a revocation reaches open sessions in four smtpd processes: told by Valkey, and with Valkey down.

Usage   python -m benchmarks revocation [--rounds 40] [--sessions 8]
Shapes  Three JSON lines: told, told under load (other sessions sign in all the time), and alone (Valkey stopped). Each
        round revokes one app password, of which so many sessions are open, spread by the kernel over the processes.
Units   milliseconds from before revoke_app_password() is called, by another process, to a session's 421.
Errors  A session that hears anything else, or later than the promise (1 s; without Valkey 5 s), makes the status 1.
Source  docs/security.md, App passwords; CLOCK_MONOTONIC is one for all processes of a machine (clock_gettime(2)).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks import cores
from benchmarks.conversation import EHLO, Conversation, Loop, Target
from benchmarks.gatepost import Gatepost
from benchmarks.guesses import Good, Pace, Seen
from benchmarks.load import Login, logins_from, percentiles
from embedded.program import Program

PROCESSES = 4
TOLD_SECONDS, ALONE_SECONDS = 1.0, 5.0
LOGINS_PER_SECOND = 40.0
# What another process runs: a line with a username in, a line with the moment before its revocation out.
REVOKE = """
import sys, time
from audit.changes import SYSTEM
from relay.credentials import revoke_app_password
from relay.models import AppPassword
for line in sys.stdin:
    mine = AppPassword.objects.select_related("smtp_user").get(smtp_user__username=line.strip(), revoked_at=None)
    began = time.monotonic()
    revoke_app_password(mine, actor=SYSTEM)
    print(began, flush=True)
"""

clock = time.monotonic


class FourProcesses(Gatepost):
    """As the benchmarks' one, with more smtpd processes."""

    def _program(self) -> Program:
        argv = [sys.executable, "manage.py", "smtpd", "--processes", str(PROCESSES)]
        return replace(super()._program(), argv=lambda: argv)


class Revoker:
    """The process that revokes: what it does is done before its answer is read."""

    def __init__(self, server: Gatepost) -> None:
        command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", REVOKE]
        self._process = subprocess.Popen(
            command, cwd=server.clone, env=server.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def ask(self, username: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{username}\n")
        self._process.stdin.flush()

    def answer(self) -> float:
        """When it began."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


class Session(Conversation):
    """Signs in, and waits to be told to go."""

    __slots__ = ("ended_at", "login", "signed_in", "wrong")

    def __init__(self, loop: Loop, login: Login, wrong: Counter[str]) -> None:
        super().__init__(loop)
        self.login, self.wrong = login, wrong
        self.signed_in, self.ended_at = False, 0.0

    def secured(self) -> None:
        self.expect("greeting", (b"220",), self._ehlo)

    def _ehlo(self) -> None:
        self.ask("ehlo", EHLO, (b"250",), self._auth)

    def _auth(self) -> None:
        self.ask("auth", self.login.auth, (b"235",), self._wait)

    def _wait(self) -> None:
        self.signed_in = True
        self.expect("revoked", (b"421",), self._told)

    def _told(self) -> None:
        self.ended_at = clock()
        self.close()

    def failed(self, stage: str, what: str) -> None:
        self.wrong[f"{stage}:{what}"] += 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks revocation", description="How soon open sessions end.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--sessions", type=int, default=8, help="of each app password")
    given = parser.parse_args(arguments)
    cores.choose()  # two at least: the processes may use both, as they would
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        state = Path(name)
        state.chmod(0o711)
        with FourProcesses(state / "gatepost", smtp_users=4 * given.rounds) as server, Revoker(server) as revoker:
            usernames = [line.split(",")[0] for line in server.logins.read_text().splitlines() if line]
            logins = list(zip(usernames, logins_from(server.logins, size=512, kind="lines"), strict=True))
            told, loaded, alone, load = (logins[start::4] for start in range(4))
            bench = Bench(server, revoker, given.sessions)
            late = phase(bench, "told", told)
            late += phase(bench, "told_under_load", loaded, load=load)
            server.valkey.stop()
            late += phase(bench, "alone", alone, promise=ALONE_SECONDS)
    return 1 if late else 0


@dataclass
class Bench:
    server: Gatepost
    revoker: Revoker
    sessions: int


def phase(
    bench: Bench,
    title: str,
    logins: Sequence[tuple[str, Login]],
    *,
    promise: float = TOLD_SECONDS,
    load: Sequence[tuple[str, Login]] = (),
) -> int:
    """How many sessions heard something else, or too late."""
    loop, wrong = Loop(), Counter[str]()
    pace = _logins(loop, load, Target("127.0.0.1", bench.server.port)) if load else None
    seconds: list[float] = []
    for username, login in logins:
        seconds += _round(bench, loop, [Session(loop, login, wrong) for _ in range(bench.sessions)], username, pace)
    late = sum(each > promise for each in seconds) + bench.sessions * len(logins) - len(seconds)
    say(
        phase=title,
        sessions=len(seconds),
        processes=PROCESSES,
        ms=percentiles(seconds),
        max_ms=round(max(seconds, default=0.0) * 1000, 2),
        late=late,
        wrong=dict(wrong),
    )
    return late


def _round(bench: Bench, loop: Loop, sessions: list[Session], username: str, pace: Pace | None) -> list[float]:
    """Seconds until each session heard 421."""
    target = Target("127.0.0.1", bench.server.port)
    for session in sessions:
        session.open(target)
    _turn(loop, pace, lambda: all(each.signed_in for each in sessions), seconds=20)
    bench.revoker.ask(username)
    _turn(loop, pace, lambda: all(each.ended_at for each in sessions), seconds=2 * ALONE_SECONDS)
    began = bench.revoker.answer()
    for session in sessions:
        session.close()
    return [each.ended_at - began for each in sessions if each.ended_at]


def _logins(loop: Loop, load: Sequence[tuple[str, Login]], target: Target) -> Pace:
    seen, numbers = Seen(), count()
    return Pace(LOGINS_PER_SECOND, lambda: Good(loop, seen, load[next(numbers) % len(load)][1]).open(target))


def _turn(loop: Loop, pace: Pace | None, done: Callable[[], bool], *, seconds: float) -> None:
    until = clock() + seconds
    while not done() and clock() < until:
        if pace:
            pace.catch_up()
        loop.turn(0.01)


def say(**values: object) -> None:
    print(json.dumps({"benchmark": "revocation", **values}), flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
