"""The pages of `python -m benchmarks authlog`, asked within the installation whose database was filled.

Usage   only by benchmarks.authlog: Django's settings name the database by the environment.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import django

django.setup()

from django.db import connection  # noqa: E402

from audit.models import AuthDay  # noqa: E402
from audit.pages import SearchTooLong  # noqa: E402
from audit.queries import AuthFilters, auth_events  # noqa: E402
from audit.rollup import sum_again  # noqa: E402
from benchmarks.authlog import DOORS, LIMIT_MS, Asked, drawn, report, say, since_of  # noqa: E402
from benchmarks.history import BASE, sampled  # noqa: E402
from benchmarks.load import percentiles  # noqa: E402

PAGE = 51


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, required=True)
    given = parser.parse_args(arguments)
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(at), max(at), count(*) FROM audit_authevent")
        first, last, events = cursor.fetchone()
        cursor.execute("SET work_mem = '256MB'")
    if not AuthDay.objects.exists():
        sum_again(since=first, until=last)
    with connection.cursor() as cursor:
        cursor.execute("RESET work_mem")
        cursor.execute("ANALYZE")
        cursor.execute("SELECT pg_database_size(current_database())")
        (octets,) = cursor.fetchone()
    say(events=events, gigabytes=round(octets / 1e9, 1), summed_again_seconds=round(time.monotonic() - began, 1))
    rows = list(sampled(connection.connection, rows=3000))
    seconds: dict[str, dict[tuple[str, ...], list[float]]] = {door: defaultdict(list) for door in DOORS}
    now = datetime.now(UTC)
    for asked in drawn(rows, draws=given.draws):
        seconds[asked.door][asked.names].append(_ask(asked, now))
    worst = 0.0
    for door, found in seconds.items():
        told = report(found, percentiles)
        worst = max(worst, told["ms"]["p95"], *told["slowest_sets"].values())
        say(door=door, **told)
    say(p95_of_the_slowest_set_ms=worst, limit_ms=LIMIT_MS)
    return 0 if worst <= LIMIT_MS else 1


def _ask(asked: Asked, now: datetime) -> float:
    values = dict(asked.values)
    organization_id = values.pop("organization", None) if asked.door == "operator" else BASE + 1
    for name in ("since", "between"):
        if name in values:
            values |= since_of(values.pop(name), now)
    began = time.perf_counter()
    with suppress(SearchTooLong):  # its seconds tell
        auth_events(organization_id, filters=AuthFilters(**values), limit=PAGE)
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
