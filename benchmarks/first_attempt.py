"""How soon mail is tried: from its acceptance to the beginning of the first attempt, at 200 messages a second.

Usage   python -m benchmarks first_attempt [--rate 200] [--seconds 20]
Shapes  A steady stream over CONNECTIONS sessions with TLS and login, route smarthost, to the smtp-sink. One JSON line.
Units   milliseconds, from the message's received_at (the end of its data) to its attempt's started_at, both as the
        database has them.
Errors  Status 1 where the 95th percentile is over LIMIT_MS, or something was not accepted or not delivered.
"""

import argparse
import json
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import backlog
from benchmarks.conversation import Loop, Target, clock
from benchmarks.database import Database
from benchmarks.debian import Unavailable
from benchmarks.deliver import stay_on_two_cores
from benchmarks.load import Login, Run, Sender, logins_from
from benchmarks.sink import Sink
from embedded.program import wait_for

RATE, SECONDS, CONNECTIONS = 200, 20, 20
SIZE_OCTETS = 4096
LIMIT_MS = 1000.0
PERCENTILES = """
    SELECT count(*), percentile_cont(ARRAY[0.5, 0.95, 0.99, 1]) WITHIN GROUP (
        ORDER BY extract(epoch FROM attempt.started_at - message.received_at) * 1000)
    FROM relay_deliveryattempt attempt
    JOIN relay_recipient recipient ON recipient.id = attempt.recipient_id
    JOIN relay_message message ON message.id = recipient.message_id WHERE attempt.number = 1
"""


class Paced(Sender):
    """Waits for its turn before each message."""

    __slots__ = ()
    turns: "deque[Paced]" = deque()

    def begin(self) -> None:
        self.login = next(self.run.logins)
        self.messages_left = sys.maxsize
        self.open(self.run.target)

    def _signed_in(self) -> None:
        self.run.counts.logins += 1
        self.turns.append(self)

    def _accepted(self) -> None:
        self.run.counts.accepted += 1
        self.turns.append(self)

    def go(self) -> None:
        self._envelope()

    def leave(self) -> None:
        self.ask("quit", b"QUIT\r\n", (b"221",), self.close)


def stream(port: int, logins: Sequence[Login], *, rate: int, seconds: float) -> Run:
    """Messages at this rate, each by whichever session is free."""
    run = Run(Target("127.0.0.1", port), logins, total=int(rate * seconds), per_connection=1)
    loop, turns = Loop(), Paced.turns
    turns.clear()
    for _ in range(CONNECTIONS):
        Paced(loop, run).begin()
    until = clock() + 30
    while len(turns) < CONNECTIONS and clock() < until:
        loop.turn(0.05)
    began, started = clock(), 0
    while started < run.left and clock() < began + 3 * seconds:
        if started <= (clock() - began) * rate and turns:
            turns.popleft().go()
            started += 1
        loop.turn(0.0 if started < (clock() - began) * rate and turns else 0.002)
    while len(turns) < CONNECTIONS and clock() < began + 3 * seconds + 30:
        loop.turn(0.05)
    for each in list(turns):
        each.leave()
    loop.run(until=clock() + 5)
    return run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks first_attempt", description="From acceptance to first attempt.")
    parser.add_argument("--rate", type=int, default=RATE, help="messages a second")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_args(arguments)
    stay_on_two_cores()
    try:
        return measured(given.rate, given.seconds)
    except Unavailable as error:
        say(skipped=str(error))
        return 0


def measured(rate: int, seconds: float) -> int:
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as place, Sink() as sink:
        Path(place).chmod(0o711)  # PostgreSQL's account passes through
        settings = {
            "GATEPOST_DEFAULT_ROUTE": "smarthost",
            "GATEPOST_SMARTHOST": "127.0.0.1",
            "GATEPOST_SMARTHOST_PORT": str(sink.port),
            "GATEPOST_SMARTHOST_TLS": "none",
        }
        with Database(Path(place) / "first", settings=settings) as database:
            file = database.state / "logins.csv"
            route = f"smarthost:127.0.0.1:{sink.port}"
            database.manage("seed_load", "--smtp-users", "100", "--route", route, "--out", str(file))
            for name in ("smtpd", "worker"):
                database.start(name)
            logins = logins_from(file, size=SIZE_OCTETS, kind="lines")
            stream(database.doors.smtps_port, logins, rate=rate, seconds=2)  # caches, sessions, statements
            with database.superuser() as connection:
                wait_for(lambda: backlog.count(connection, "state <> 'delivered'") == 0, seconds=30)
                backlog.empty(connection)
                began = clock()
                run = stream(database.doors.smtps_port, logins, rate=rate, seconds=seconds)
                took = clock() - began
                drained = wait_for(lambda: backlog.count(connection, "state <> 'delivered'") == 0, seconds=60)
                row = connection.execute(PERCENTILES).fetchone()
    return told(run, row, drained=drained, rate=rate, took=took)


def told(run: Run, row: Any, *, drained: bool, rate: int, took: float) -> int:
    tried, (median, p95, p99, worst) = row[0], row[1] or [float("inf")] * 4
    complete = drained and not run.counts.errors and tried == run.counts.accepted == run.left
    say(
        rate=rate,
        sent_per_second=round(run.counts.accepted / took, 1),
        messages=run.counts.accepted,
        tried=tried,
        ms={"p50": round(median), "p95": round(p95), "p99": round(p99), "max": round(worst)},
        errors=dict(run.counts.errors),
        complete=complete,
    )
    return 0 if complete and p95 <= LIMIT_MS else 1


def say(**values: Any) -> None:
    print(json.dumps({"benchmark": "first_attempt", **values}), flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
