"""What a message costs in a long queue and in a short one: claim, attempt and settle, over 10,000 domains.

Usage   python -m benchmarks queue [--scale 0.1] [--measure 10000]
Shapes  1,000,000 messages that are due, by route mx, for 10,000 domains with one mail server, the smtp-sink; and little
        more than is measured, over the same domains. Two JSON lines, and one with the ratios.
Units   microseconds of processor time a message, by process; MiB that belong to the worker's processes alone.
Errors  Status 1 where the long queue costs over COST_MAX times the short one, or the worker grows over GROWTH_MIB.

What is measured begins after the first WARM arrivals, so that neither the worker's start nor its first look at the
queue counts, and is the cheapest of WINDOWS: what disturbs one only ever makes it dearer. Names come from
benchmarks/names.py.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import backlog
from benchmarks.backlog import Backlog
from benchmarks.cores import below, private_octets
from benchmarks.database import Database
from benchmarks.debian import Unavailable
from benchmarks.deliver import stay_on_two_cores
from benchmarks.deliver_gatepost import DeliveringGatepost
from benchmarks.gatepost import free_port
from benchmarks.sink import Sink

MESSAGES, DOMAINS, MEASURED, WARM = 1_000_000, 10_000, 5_000, 2_000
WINDOWS = 3
SIZE_OCTETS = 1024
COST_MAX, GROWTH_MIB = 1.2, 64.0


def say(**values: Any) -> None:
    print(json.dumps({"benchmark": "queue", **values}), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks queue", description="Cost of a message in a long queue.")
    parser.add_argument("--scale", type=float, default=1.0, help="a factor to the length of the long queue")
    parser.add_argument("--measure", type=int, default=MEASURED, help="messages of each window")
    given = parser.parse_args(arguments)
    stay_on_two_cores()
    try:
        with prepared() as (gatepost, sink):
            short = measured(gatepost, sink, WARM + WINDOWS * given.measure + WARM, given.measure)
            long = measured(gatepost, sink, int(MESSAGES * given.scale), given.measure)
    except Unavailable as error:
        say(skipped=str(error))
        return 0
    return judged(short, long)


@contextmanager
def prepared() -> Iterator[tuple[DeliveringGatepost, Sink]]:
    """A database without worker, a sink, and names that lead to it."""
    port = free_port()
    names = subprocess.Popen([sys.executable, "-m", "benchmarks.names", str(port)])
    try:
        with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as place, Sink() as sink:
            Path(place).chmod(0o711)  # PostgreSQL's account passes through
            settings = {
                "GATEPOST_DEFAULT_ROUTE": "mx",
                "GATEPOST_RESOLVERS": f"127.0.0.1:{port}",
                "GATEPOST_MX_PORT": str(sink.port),
                "GATEPOST_MX_ALLOWED": "127.0.0.0/8",
            }
            gatepost = DeliveringGatepost(Path(place) / "queue", sink_port=sink.port, more=settings)
            with gatepost.database:
                gatepost.seed()
                yield gatepost, sink
    finally:
        names.kill()
        names.wait()


def measured(gatepost: DeliveringGatepost, sink: Sink, messages: int, measure: int) -> dict[str, Any]:
    database = gatepost.database
    with database.superuser() as connection:
        backlog.empty(connection)
        began = time.monotonic()
        backlog.fill(connection, Backlog(messages, SIZE_OCTETS, "mx", DOMAINS))
        connection.execute(f"VACUUM {backlog.TABLES}")  # autovacuum would come in the middle
        connection.execute("CHECKPOINT")
        print(f"{messages} messages filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        worker = database.start("worker")
        sink.wait(WARM)
        windows = [window(database, sink, connection, measure) for _ in range(WINDOWS)]
        memory = sum(map(private_octets, below(worker.pid or 0))) / 2**20
        worker.stop()
        failed = backlog.count(connection, "state = 'failed'")
    rate, cost = min(windows, key=lambda each: sum(each[1].values()))
    result = {
        "queue": messages,
        "domains": DOMAINS,
        "messages_per_second": rate,
        "us_per_message": cost,
        "worker_mib": round(memory, 1),
        "failed": failed,
    }
    say(**result)
    return result


def window(
    database: Database, sink: Sink, connection: psycopg.Connection[tuple[int]], measure: int
) -> tuple[float, dict[str, int]]:
    """So many arrivals: how many a second, and what a settled message cost."""
    first, before = database.processor_seconds(), backlog.count(connection, "settled_at IS NOT NULL")
    arrivals = sink.wait(measure)
    last, settled = database.processor_seconds(), backlog.count(connection, "settled_at IS NOT NULL") - before
    cost = {each: round((last[each] - first[each]) / settled * 1e6) for each in last}
    return arrivals.messages_per_second, cost


def judged(short: dict[str, Any], long: dict[str, Any]) -> int:
    costs = [sum(result["us_per_message"].values()) for result in (short, long)]
    ratio, growth = round(costs[1] / costs[0], 2), round(long["worker_mib"] - short["worker_mib"], 1)
    good = ratio <= COST_MAX and growth <= GROWTH_MIB and not short["failed"] and not long["failed"]
    say(cost_times_short=ratio, worker_growth_mib=growth, complete=good)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
