"""What one run of the watch costs over the tables of many customers, in an embedded PostgreSQL of its own.

Usage   python -m benchmarks.anomaly_cost [--customers 1000]
Shapes  One JSON line. Each customer has 5 SMTP users with 12 habits each and ten weeks of sending; the hour to be
        judged has 40 logins and one volume of each SMTP user, and guesses from 20,000 addresses at a tenth of them.
Units   seconds of the whole run, from the sums to the cases; the second run is the usual one, a minute later.
Errors  Status 1 if either takes longer than MOST.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from embedded import addresses, placement
from embedded.postgres import Postgres

MOST = 20.0
SMTP_USERS, HABITS, WEEKS, LOGINS, STRANGERS = 5, 12, 10, 40, 20_000

_FILL = (
    # Habits: the TLS level, app password, client and nine networks of each SMTP user.
    """
    INSERT INTO audit_habit (organization_id, smtp_user_id, kind, value, first_at, last_at, days,
                             longest_gap_seconds, amount, doubted)
    SELECT u / %(users)s, u, kind, value, now() - interval '60 days', now() - interval '1 hour', 40, 86400, 0, false
    FROM generate_series(%(users)s, %(users)s * (%(customers)s + 1) - 1) AS u
    CROSS JOIN LATERAL (
        VALUES ('tls', 'TLSv1.3'), ('password', u::text), ('client', 'shop.example')
        UNION ALL
        SELECT 'network', format('10.%%s.%%s.0/24', u %% 200, n) FROM generate_series(0, 8) AS n
    ) AS habit(kind, value)
    """,
    """
    INSERT INTO audit_sendinghour (hour, organization_id, smtp_user_id, recipients, messages)
    SELECT date_trunc('hour', now()) - make_interval(hours => h), u / %(users)s, u, 150 + (h * u) %% 100, 20
    FROM generate_series(%(users)s, %(users)s * (%(customers)s + 1) - 1) AS u
    CROSS JOIN generate_series(0, %(weeks)s * 168) AS h WHERE h %% 24 < 4
    """,
    """
    INSERT INTO audit_authevent (at, id, reference, organization_id, smtp_user_id, app_password_id, username_given,
        mechanism, result, reason, ip, network, tls_version, tls_cipher, client_name, port, worker, count, last_at,
        samples)
    SELECT now() - make_interval(secs => (n * 71 + u) %% 3000), gen_random_uuid(), '', u / %(users)s, u, u, '', 'PLAIN',
        'accepted', 'ok', format('10.%%s.%%s.%%s', u %% 200, n %% 9, 7)::inet, '', 'TLSv1.3', '',
        'web1.shop.example', 465, 'bench', 1, now(), '{}'
    FROM generate_series(%(users)s, %(users)s * (%(customers)s + 1) - 1) AS u
    CROSS JOIN generate_series(0, %(logins)s - 1) AS n
    """,
    """
    INSERT INTO audit_authevent (at, id, reference, organization_id, smtp_user_id, app_password_id, username_given,
        mechanism, result, reason, ip, network, tls_version, tls_cipher, client_name, port, worker, count, last_at,
        samples)
    SELECT now() - interval '10 minutes', gen_random_uuid(), '', 1 + n %% (%(customers)s / 10), NULL, NULL, 'name' || n,
        'PLAIN', 'refused', 'unknown_user', ('100.64.0.0'::inet + n), '', 'TLSv1.3', '', 'bot', 465, 'bench', 12, now(),
        ARRAY(SELECT format('name%%s-%%s', n, s) FROM generate_series(1, 10) AS s)
    FROM generate_series(1, %(strangers)s) AS n
    """,
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomaly_cost")
    parser.add_argument("--customers", type=int, default=1000)
    asked = parser.parse_args(arguments)
    state = Path(tempfile.mkdtemp(prefix="gp-cost-")).resolve()
    try:
        return _with_database(state, customers=asked.customers)
    finally:
        for place in (placement.data_home(state), state, addresses.socket_dir(state)):
            shutil.rmtree(place, ignore_errors=True)


def _with_database(state: Path, *, customers: int) -> int:
    for name in [each for each in os.environ if each.startswith("GATEPOST_") or each in {"DATABASE_URL", "REDIS_URL"}]:
        del os.environ[name]
    os.environ["GATEPOST_STATE_DIR"] = str(state)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    postgres = Postgres(state)
    postgres.start()
    try:
        return _measured(customers)
    finally:
        postgres.stop()


def _measured(customers: int) -> int:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection
    from django.utils import timezone

    from audit.anomalies.models import Anomaly
    from audit.anomalies.watch import MARK, watch
    from audit.models import RollupMark

    call_command("migrate", verbosity=0, interactive=False)
    values = {"users": SMTP_USERS, "customers": customers, "weeks": WEEKS, "logins": LOGINS, "strangers": STRANGERS}
    with connection.cursor() as cursor:
        for statement in _FILL:
            cursor.execute(statement, values)
        cursor.execute("ANALYZE")
    RollupMark.objects.create(name=MARK, done_until=timezone.now() - timedelta(hours=1))  # to judge, not to learn
    seconds, processor = [], []
    for _run in range(2):
        began, worked = time.perf_counter(), time.process_time()
        watched = watch()
        seconds.append(round(time.perf_counter() - began, 2))
        processor.append(round(time.process_time() - worked, 2))
    line = {
        "benchmark": "anomaly_cost",
        "customers": customers,
        "uses": watched.uses,
        "cases": Anomaly.objects.count(),
        "first_seconds": seconds[0],
        "next_seconds": seconds[1],
        "first_processor_seconds": processor[0],  # of this process, without PostgreSQL's
        "next_processor_seconds": processor[1],
        "seconds_at_most": MOST,
    }
    print(json.dumps(line), flush=True)
    return 0 if max(seconds) <= MOST else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
