"""What a flood of failed logins costs the database: rows, octets and time for 10,000,000 failures.

Usage   python -m benchmarks folding [--failures 10000000] [--parts 100]
Shapes  A JSON line for each kind of flood (benchmarks/flood.py). The recorder of smtpd stores it, in a PostgreSQL of
        its own. --parts N: one of N processes with its Nth of the bounds and of the failures, so that a run is
        short; rows that processes share are counted once. --parts 1 sends every failure.
Errors  More than 100,000 rows, or a failure that is not counted, make the status 1.
Source  docs/security.md, Floods.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.database import Database


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks folding", description="Rows that a flood of failures costs.")
    parser.add_argument("--failures", type=int, default=10_000_000)
    parser.add_argument("--parts", type=int, default=100, help="how many processes share the flood; one is simulated")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        state = Path(name)
        state.chmod(0o711)
        with Database(state / "gatepost") as database:
            return database.run("benchmarks.flood", str(given.failures), str(given.parts))
