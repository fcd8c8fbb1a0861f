"""How long the sums of sign-ins take: of 1,000,000 events at once, and of what came since, again and again.

Usage   python -m benchmarks rollup [--events 1000000] [--later 15000] [--runs 5]
Shapes  JSON lines: storing (with the trigger that notes what is new), the first run, each later one, and whether the
        sums are those of all events, counted anew. Events are of the last two days, made by benchmarks/history.py;
        --later are stored before each later run, a third of them folded rows that grow.
Units   seconds; events are rows, attempts what they count.
Errors  Status 1 where the sums are not exactly those of the events.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks rollup", description="Sums of sign-ins by hour and day.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--later", type=int, default=15_000, help="as 500 a second make within half a minute")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args(arguments)
    from benchmarks.database import Database

    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        place = Path(name)
        place.chmod(0o711)
        with Database(place / "rollup") as database:
            words = ("--events", str(given.events), "--later", str(given.later), "--runs", str(given.runs))
            return database.run("benchmarks.rollup", "--inside", *words)


def inside(arguments: Sequence[str]) -> int:
    """Within the installation whose database was made."""
    import django

    django.setup()
    from django.db import connection
    from django.db.models import Sum

    from audit.models import AuthDay, AuthEvent, AuthHour
    from audit.rollup import roll_up_auth_hours
    from benchmarks.history import rows_into

    parser = argparse.ArgumentParser()
    for name in ("--events", "--later", "--runs"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args(arguments)

    def counted(title: str, work: Any, **more: Any) -> None:
        began = time.perf_counter()
        work()
        say(run=title, seconds=round(time.perf_counter() - began, 3), **more)

    with connection.cursor() as cursor:
        counted("storing", lambda: rows_into(cursor, rows=given.events), events=given.events)
        counted("first", roll_up_auth_hours, events=given.events)
        for number in range(given.runs):
            rows_into(cursor, rows=given.later * 2 // 3)
            cursor.execute(
                """UPDATE audit_authevent SET count = count + 1, last_at = now(), stored_at = now() WHERE (at, id) IN
                   (SELECT at, id FROM audit_authevent WHERE at > now() - interval '1 hour' LIMIT %s)""",
                [given.later // 3],
            )
            counted(f"later {number + 1}", roll_up_auth_hours, events=given.later)
        counted("nothing new", roll_up_auth_hours)
    whole = AuthEvent.objects.aggregate(attempts=Sum("count"))["attempts"]
    sums = [model._default_manager.aggregate(attempts=Sum("count"))["attempts"] for model in (AuthHour, AuthDay)]
    say(attempts=whole, exact=sums == [whole, whole], hours=AuthHour.objects.count(), days=AuthDay.objects.count())
    return 0 if sums == [whole, whole] else 1


def say(**values: Any) -> None:
    print(json.dumps({"benchmark": "rollup", **values}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        raise SystemExit(inside(sys.argv[2:]))
    raise SystemExit(main())
