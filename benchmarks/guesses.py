"""Whether guessing delays others: good logins on a quiet server, then under 500 failing ones a second.

Usage   python -m benchmarks guesses [--rate 500] [--seconds 10]
Shapes  Three JSON lines: quiet, guessed, and the ratio of the two 99th percentiles. Guesses come from 250 addresses
        (127.0.0.2 to 127.0.0.251), three on each connection, one half with names that do not exist.
Units   milliseconds from connect() to the answer to AUTH.
Errors  A good login that fails makes the status 1.
Source  RFC 4954 4; the failures' fixed delay is Gatepost's (docs/smtp.md).
"""

import argparse
import base64
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import cores
from benchmarks.conversation import EHLO, Conversation, Loop, Target, clock
from benchmarks.gatepost import Gatepost
from benchmarks.load import Login, logins_from, percentiles

ADDRESSES = 250
TRIES = 3
GOOD_PER_SECOND = 40.0


class Seen:
    """The outcome of one phase."""

    def __init__(self) -> None:
        self.good_seconds: list[float] = []
        self.good_failed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()


class Good(Conversation):
    """Signs in and leaves."""

    __slots__ = ("login", "seen")

    def __init__(self, loop: Loop, seen: Seen, login: Login) -> None:
        super().__init__(loop)
        self.seen, self.login = seen, login

    def secured(self) -> None:
        self.expect("greeting", (b"220",), self._ehlo)

    def _ehlo(self) -> None:
        self.ask("ehlo", EHLO, (b"250",), self._auth)

    def _auth(self) -> None:
        self.ask("auth", self.login.auth, (b"235",), self._signed_in)

    def _signed_in(self) -> None:
        self.seen.good_seconds.append(clock() - self.opened_at)
        self.ask("quit", b"QUIT\r\n", (b"221",), self.close)

    def failed(self, stage: str, what: str) -> None:
        self.seen.good_failed[f"{stage}:{what}"] += 1


class Guesser(Conversation):
    """Fails as often as it is allowed to."""

    __slots__ = ("auth", "seen", "tries")

    def __init__(self, loop: Loop, seen: Seen, username: str) -> None:
        super().__init__(loop)
        self.seen, self.tries = seen, 0
        self.auth = b"AUTH PLAIN %s\r\n" % base64.b64encode(f"\0{username}\0gp_wrongwrongwrongwrongwrongwr".encode())

    def secured(self) -> None:
        self.expect("greeting", (b"220",), self._ehlo)

    def _ehlo(self) -> None:
        self.ask("ehlo", EHLO, (b"250",), self._guess)

    def _guess(self) -> None:
        self.tries += 1
        last = self.tries == TRIES
        self.ask("auth", self.auth, (b"535", b"421") if last else (b"535",), self._done if last else self._refused)

    def _refused(self) -> None:
        self.seen.refused["535"] += 1
        self._guess()

    def _done(self) -> None:
        self.seen.refused["535"] += 1
        self.close()

    def failed(self, stage: str, what: str) -> None:
        self.seen.refused[f"{stage}:{what}"] += 1


class Pace:
    """Opens so many connections a second, whatever became of the earlier ones."""

    def __init__(self, per_second: float, open_one: Callable[[], None]) -> None:
        self.every = 1 / per_second
        self.open_one = open_one
        self.due = clock()

    def catch_up(self) -> None:
        while self.due <= clock():
            self.due += self.every
            self.open_one()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks guesses", description="Good logins under failing ones.")
    parser.add_argument("--rate", type=float, default=500.0, help="failing logins a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args(arguments)
    chosen = cores.choose()
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        state = Path(name)
        state.chmod(0o711)
        cores.stay_on(chosen.server)
        with Gatepost(state / "gatepost") as server:
            cores.stay_on(chosen.client)
            quiet = phase(server, seconds=given.seconds, guesses=0.0)
            guessed = phase(server, seconds=given.seconds, guesses=given.rate)
    for title, seen in (("quiet", quiet), ("guessed", guessed)):
        say(phase=title, **report(seen, seconds=given.seconds))
    before, under = (percentiles(seen.good_seconds)["p99"] or 0.0 for seen in (quiet, guessed))
    say(p99_ratio=round(under / before, 2) if before else None)
    return 1 if quiet.good_failed or guessed.good_failed else 0


def phase(server: Gatepost, *, seconds: float, guesses: float) -> Seen:
    loop, seen, target = Loop(), Seen(), Target("127.0.0.1", server.port)
    logins = logins_from(server.logins, size=512, kind="lines")
    numbers, guess_numbers = count(), count()

    def good() -> None:
        Good(loop, seen, logins[next(numbers) % len(logins)]).open(target)

    def guess() -> None:
        number = next(guess_numbers)
        username = f"u{number % 1000:06d}.load-{number % 100:03d}" if number % 2 else f"nobody{number}.load-000"
        Guesser(loop, seen, username).open(target, source=f"127.0.0.{2 + number % ADDRESSES}")

    paces = [Pace(GOOD_PER_SECOND, good)]
    if guesses:
        paces.append(Pace(guesses / TRIES, guess))
    until = clock() + seconds
    while clock() < until:
        for pace in paces:
            pace.catch_up()
        loop.turn(max(0.0, min(pace.due for pace in paces) - clock()))
    loop.run(until=clock() + 10)
    return seen


def report(seen: Seen, *, seconds: float) -> dict[str, Any]:
    return {
        "good_logins": len(seen.good_seconds),
        "good_failed": dict(seen.good_failed),
        "login_ms": percentiles(seen.good_seconds),
        "refused": dict(seen.refused),
        "refused_per_second": round(seen.refused.total() / seconds, 1),
    }


def say(**values: Any) -> None:
    print(json.dumps({"benchmark": "guesses", **values}), flush=True)
