"""How long a page of the auth log takes, for every combination of filters that the panel, the API and operators have.

Usage   python -m benchmarks authlog [--events 1000000] [--draws 12]
Shapes  A database of its own is filled with thirty days (benchmarks/history.py). For each set of filters values are
        drawn: of an event that is there, and independently of each other from frequent, rare and absent ones, so that
        pages are full, short and empty. Each is asked once, as a reader does. One JSON line for each door, with its
        slowest sets; one for whole pages over HTTP; then one for all.
Units   milliseconds; --events rows, 20,000,000 take about 13 GB and a quarter of an hour to fill.
Errors  Status 1 where the 95th percentile of all, or of a set of filters, is over LIMIT_MS.
"""

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

LIMIT_MS = 100.0
SLOWEST = 5
PERIODS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
RARE: dict[str, tuple[Any, ...]] = {
    "result": ("accepted", "refused", "error"),
    "reason": ("ok", "wrong_password", "unknown_user", "expired", "identity", "unavailable", "clear_text", "canary"),
    "ip": ("10.1.0.1", "198.51.100.7", "10.0.8.3", "203.0.113.9", "2001:db8::1"),
    "cidr": ("198.51.100.0/24", "10.0.0.0/8", "10.0.4.0/22", "172.16.7.0/24", "203.0.113.0/24", "2001:db8::/32"),
    "username": ("u0.c1", "u1999.c1", "u0.c2", "admin", "guess17", "nobody.at-all"),
    "smtp_user_id": (10_000, 11_999, 20_000, 999_999_999),
    "mechanism": ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "-"),
    "tls": ("TLSv1.3", "TLSv1.2", "-", "TLSv1"),
    "organization": (100_001, 100_002, 100_900, 100_999),
    "since": tuple(PERIODS),
    "between": ("an hour", "a day", "long ago"),
}
DOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "panel": (("result",), ("reason",), ("ip", "cidr"), ("username",), ("since",)),
    "api": (("result",), ("reason",), ("smtp_user_id",), ("username",), ("ip", "cidr"), ("mechanism",), ("between",)),
    "operator": (
        ("organization",), ("result",), ("reason",), ("ip", "cidr"), ("username",), ("mechanism",), ("tls",),
        ("since",),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    door: str
    names: tuple[str, ...]
    values: dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks authlog", description="Pages of the auth log, by filters.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=12, help="for each set of filters")
    given = parser.parse_args(arguments)
    from benchmarks.database import Database
    from benchmarks.history import fill

    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        place = Path(name)
        place.chmod(0o711)
        with Database(place / "authlog") as database:
            began = time.monotonic()
            with database.superuser() as connection:
                fill(connection, events=given.events)
            print(f"filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            return database.run("benchmarks.authlog_pages", "--draws", str(given.draws))


def drawn(rows: Sequence[dict[str, Any]], *, draws: int, seed: int = 7) -> Iterator[Asked]:
    """Every set of filters of every door, so many times."""
    chance = random.Random(seed)  # the same questions each time
    for door, columns in DOORS.items():
        for chosen in itertools.product(*(("", *column) for column in columns)):
            names = tuple(name for name in chosen if name)
            for number in range(draws):
                row = chance.choice(rows)
                of_row = number % 2 == 0
                yield Asked(door, names, {name: _value(name, row if of_row else None, chance) for name in names})


def _value(name: str, row: dict[str, Any] | None, chance: random.Random) -> Any:
    if row is None or name in {"since", "between"}:
        return chance.choice(RARE[name])
    if name == "cidr":
        return row["network"]
    if name in {"mechanism", "tls"}:
        return row[{"tls": "tls_version"}.get(name, name)] or "-"
    if name == "organization":
        return row["organization_id"] or RARE[name][0]
    value = row[{"username": "username_given"}.get(name, name)]
    return chance.choice(RARE[name]) if value in {None, ""} else str(value) if name == "ip" else value


def report(
    seconds: dict[tuple[str, ...], list[float]], percentiles: Callable[[Sequence[float]], Any]
) -> dict[str, Any]:
    of_sets = {" ".join(names) or "none": percentiles(found) for names, found in seconds.items()}
    slowest = sorted(of_sets, key=lambda names: -of_sets[names]["p95"])[:SLOWEST]
    everything = [each for found in seconds.values() for each in found]
    return {
        "sets": len(of_sets),
        "pages": len(everything),
        "ms": percentiles(everything),
        "worst_ms": round(max(everything) * 1000, 1),
        "slowest_sets": {names: of_sets[names]["p95"] for names in slowest},
    }


def since_of(value: str, now: datetime) -> dict[str, datetime]:
    if value in PERIODS:
        return {"since": now - PERIODS[value]}
    start = {
        "an hour": now - timedelta(days=3),
        "a day": now - timedelta(days=20),
        "long ago": now - timedelta(days=400),
    }
    length = timedelta(hours=1) if value == "an hour" else timedelta(days=1)
    return {"since": start[value], "until": start[value] + length}


def say(**values: Any) -> None:
    print(json.dumps({"benchmark": "authlog", **values}), flush=True)


__all__ = ["DOORS", "LIMIT_MS", "UTC", "Asked", "defaultdict", "drawn", "main", "report", "say", "since_of"]
