"""A flood of failed logins through the recorder of smtpd, and what it left: run by benchmarks/folding.py.

Usage   python -m benchmarks.flood FAILURES PARTS, with Django's environment set.
Units   The flood comes at RATE failures a second of its own clock; `seconds` and `us_per_failure` are of recorder and
        database together. octets: of the table's partitions with their indexes.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

RATE = 500
ROWS_MAX = 100_000
OF_FAILURES = 10_000_000
FLUSH_EVERY = RATE // 2  # failures: as many as a process that takes them all stores at once

COUNT = """
    SELECT count(*), count(*) FILTER (WHERE network = ''), coalesce(sum(count), 0),
           (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
            WHERE inhparent = 'audit_authevent'::regclass)::bigint
    FROM audit_authevent
"""


def botnet(number: int) -> dict[str, Any]:
    return {"ip": _ip(number % 250 * 256), "username_given": "web.load-001", "reason": "wrong_password", "user": 1}


def unknown_names(number: int) -> dict[str, Any]:
    return {"ip": _ip(number * 7919 % 2**22), "username_given": f"user{number}.nowhere", "reason": "unknown_user"}


def all_different(number: int) -> dict[str, Any]:
    user = 1 + number % 1_000_003
    return {"ip": _ip(number * 257), "username_given": f"u{user}.x", "reason": "wrong_password", "user": user}


FLOODS: dict[str, Callable[[int], dict[str, Any]]] = {
    "one name, 250 ranges": botnet,
    "unknown names, 16,384 ranges": unknown_names,
    "another range and name each time": all_different,
}


def _ip(number: int) -> str:
    return f"{1 + number // 2**24 % 200}.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}"


def _flood(title: str, make: Callable[[int], dict[str, Any]], failures: int, parts: int) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE audit_authevent, audit_authhour, audit_authday, audit_authpending")
    began = time.process_time(), time.monotonic()
    asyncio.run(_record(make, failures, parts))
    used, seconds = time.process_time() - began[0], time.monotonic() - began[1]
    with connection.cursor() as cursor:
        cursor.execute(COUNT)
        rows, shared, counted, octets = cursor.fetchone()
    # Rows of a minute and a reason alone are the same in all processes; of the others each may have its own.
    whole = ((rows - shared) * parts + shared) * OF_FAILURES / max(1, failures * parts)
    failed = counted != failures or whole > ROWS_MAX
    line = {
        "flood": title, "failures": failures, "parts": parts, "counted": int(counted), "rows": rows,
        "rows_for_10,000,000": round(whole), "octets": octets, "seconds": round(seconds, 1),
        "us_per_failure": round(seconds / failures * 1e6, 1), "recorder_us": round(used / failures * 1e6, 1),
        "too_many": failed,
    }  # fmt: skip
    print(json.dumps({"benchmark": "folding", **line}), flush=True)
    return int(failed)


async def _record(make: Callable[[int], dict[str, Any]], failures: int, parts: int) -> None:
    """As smtpd does: place each, and store what half a second of the whole flood brings."""
    from relay.smtp.recorder import Recorder

    recorder = Recorder(share=parts)
    for number, attempt in enumerate(_attempts(make, failures, parts), start=1):
        recorder.auth(attempt)
        if number % FLUSH_EVERY == 0:
            await recorder._flush()
    await recorder._flush()
    assert recorder.dropped == 0
    if recorder._conn is not None:
        await recorder._conn.close()


def _attempts(make: Callable[[int], dict[str, Any]], failures: int, parts: int) -> Iterator[Any]:
    from audit.record import attempt

    start = datetime.now(UTC).replace(second=0, microsecond=0)
    for number in range(failures):
        values = make(number)
        user = values.pop("user", None)
        at = start + timedelta(seconds=number * parts / RATE)
        yield attempt(
            result="refused", port=465, worker="flood", mechanism="PLAIN", tls_version="TLSv1.3", at=at,
            organization_id=user and 1, smtp_user_id=user, **values,
        )  # fmt: skip


if __name__ == "__main__":
    import django

    django.setup()
    failures, parts = (int(word) for word in sys.argv[1:3])
    raise SystemExit(max([_flood(title, make, failures // parts, parts) for title, make in FLOODS.items()]))
