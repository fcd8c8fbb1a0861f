"""Thirty days of sign-ins as a relay sees them: one customer with half of all, many small ones, and guessing.

Shapes  Customer 1 has 2,000 SMTP users, one of which signs in more than all small customers; most of them come from one
        address. Customers 2 to 1,000 have three SMTP users each. A fifth of all is guessing, much of it from one
        address and its /24, most of it with names that nobody has. Some reasons and mechanisms have a handful of rows.
Units   About 0.6 KB of disk for each event, indexes and sums included.
Errors  psycopg.Error.

Each day is filled before it is attached, and so has its indexes made at once; the sums are made afterwards.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

DAYS = 30
CUSTOMERS = 1000
BASE = 100_000  # customer 1 is organization 100,001
_ROWS = """
    INSERT INTO {table} (at, id, reference, organization_id, smtp_user_id, app_password_id, username_given, mechanism,
        result, reason, ip, network, tls_version, tls_cipher, client_name, port, worker, count, last_at, samples)
    SELECT at, gen_random_uuid(), substr(upper(md5(random()::text)), 1, 10),
        CASE WHEN reason NOT IN ('unknown_user', 'clear_text') THEN {base} + customer END,
        CASE WHEN reason NOT IN ('unknown_user', 'clear_text') THEN customer * 10000 + person END,
        CASE WHEN reason = 'ok' THEN customer * 10000 + person END,
        CASE reason WHEN 'clear_text' THEN ''
            WHEN 'unknown_user' THEN CASE WHEN r5 < 0.2 THEN 'admin' WHEN r5 < 0.3 THEN 'info'
                                          ELSE 'guess' || floor(r5 * 200000) END
            ELSE 'u' || person || '.c' || customer END,
        CASE WHEN r6 < 0.70 THEN 'PLAIN' WHEN r6 < 0.98 THEN 'LOGIN' WHEN r6 < 0.99999 THEN 'SCRAM-SHA-256'
             ELSE 'CRAM-MD5' END,
        CASE reason WHEN 'ok' THEN 'accepted' WHEN 'unavailable' THEN 'error' ELSE 'refused' END,
        reason, ip, host(network(set_masklen(ip, 24))) || '/24',
        CASE WHEN reason = 'clear_text' THEN '' WHEN r7 < 0.8 THEN 'TLSv1.3' ELSE 'TLSv1.2' END,
        'TLS_AES_256_GCM_SHA384', 'client' || person || '.example', 2587, 'smtpd@host:1', 1, at, '{{}}'
    FROM (
        SELECT *, CASE
            WHEN reason IN ('unknown_user', 'clear_text', 'wrong_password') AND r4 < 0.2 THEN inet '198.51.100.7'
            WHEN reason IN ('unknown_user', 'clear_text', 'wrong_password') AND r4 < 0.3
                THEN inet '198.51.100.0' + floor(r8 * 256)::int
            WHEN reason IN ('unknown_user', 'clear_text', 'wrong_password') AND r4 > 0.5
                THEN inet '172.16.0.0' + floor(r8 * 50000)::int
            WHEN customer = 1 AND r4 < 0.45 THEN inet '10.1.0.1'
            ELSE inet '10.0.0.0' + (customer * 1024 + person %% 250 + floor(r8 * 3)::int * 256) END AS ip
        FROM (
            SELECT %(day)s::timestamptz + random() * %(length)s::interval AS at, random() AS r4,
                random() AS r5, random() AS r6, random() AS r7, random() AS r8, customer,
                floor(power(random(), 4) * CASE customer WHEN 1 THEN 2000 ELSE 3 END)::int AS person,
                CASE WHEN r2 < 0.70 THEN 'ok' WHEN r2 < 0.82 THEN 'wrong_password' WHEN r2 < 0.96 THEN 'unknown_user'
                     WHEN r2 < 0.97 THEN 'throttled' WHEN r2 < 0.98 THEN 'clear_text' WHEN r2 < 0.985 THEN 'revoked'
                     WHEN r2 < 0.99 THEN 'network' WHEN r2 < 0.995 THEN 'user_disabled' WHEN r2 < 0.999 THEN 'malformed'
                     WHEN r2 < 0.9995 THEN 'aborted' WHEN r2 < 0.9999 THEN 'unavailable'
                     WHEN r2 < 0.99999 THEN 'expired'
                     ELSE 'identity' END AS reason
            FROM (SELECT random() AS r2, CASE WHEN random() < 0.5 THEN 1
                         ELSE 2 + floor(power(random(), 3) * {others})::int END AS customer
                  FROM generate_series(1, %(rows)s::int)) AS drawn
        ) AS tried
    ) AS placed
"""
_KINDS = """
    INSERT INTO audit_authkind (organization_id, kind, result, reason, mechanism, tls_version)
    SELECT DISTINCT coalesce(organization_id, 0), kind, result, reason, audit_known_mechanism(mechanism), tls_version
    FROM audit_authevent
"""


def fill(connection: psycopg.Connection[Any], *, events: int, days: int = DAYS) -> None:
    """As a superuser: events over the days until now, their kinds, and statistics."""
    connection.execute("SET synchronous_commit = off")
    connection.execute("SET maintenance_work_mem = '256MB'")
    connection.execute("SELECT setseed(0.5)")
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    share = events / (days - 1 + (now - today) / timedelta(days=1))
    for day in (today - timedelta(days=past) for past in reversed(range(days))):
        length = min(timedelta(days=1), now - day)
        _day(connection, day=day, length=length, rows=round(share * (length / timedelta(days=1))))
    connection.execute(_KINDS)
    for statement in ("VACUUM ANALYZE audit_authevent", "VACUUM ANALYZE audit_authkind"):
        connection.execute(statement)


def _day(connection: psycopg.Connection[Any], *, day: datetime, length: timedelta, rows: int) -> None:
    name = f"auth_event_{day:%Y%m%d}"
    connection.execute(f"DROP TABLE IF EXISTS {name}")
    connection.execute(f"CREATE TABLE {name} (LIKE audit_authevent INCLUDING ALL EXCLUDING INDEXES)")
    statement = _ROWS.format(table=name, others=CUSTOMERS - 1, base=BASE)
    connection.execute(statement, {"day": day, "length": length, "rows": rows})
    end = day + timedelta(days=1)
    connection.execute(f"ALTER TABLE {name} ADD CHECK (at >= '{day}' AND at < '{end}')")
    connection.execute(f"ALTER TABLE audit_authevent ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{end}')")
    connection.execute(f"ALTER TABLE {name} OWNER TO gatepost")


def rows_into(cursor: Any, *, rows: int, batch: int = 2000) -> None:
    """Events of the last two days as smtpd stores them: some thousand a statement, through the table's triggers."""
    statement = _ROWS.format(table="audit_authevent", others=CUSTOMERS - 1, base=BASE)
    since = datetime.now(UTC) - timedelta(days=2)
    for first in range(0, rows, batch):
        cursor.execute(statement, {"day": since, "length": timedelta(days=2), "rows": min(batch, rows - first)})


def sampled(connection: psycopg.Connection[Any], *, rows: int) -> Iterator[dict[str, Any]]:
    """Events at random, whole."""
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        cursor.execute("SELECT * FROM audit_authevent TABLESAMPLE SYSTEM (0.5) ORDER BY random() LIMIT %s", [rows])
        yield from cursor
