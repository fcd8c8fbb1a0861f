"""A database that has seen years: what the figures are when tables and indexes are large.

Usage   python -m benchmarks accept --only gatepost --fill 1
Shapes  Full size (1): 1,000,000 SMTP users, 3,000,000 app passwords, 20,000,000 auth events, 5,000,000 messages,
        spread over the organizations that seed_load made. A fraction makes that part of each.
Units   about 15 GB and a quarter of an hour at full size.
Errors  psycopg.Error.

Rows are made by PostgreSQL itself, without checks of foreign keys (what they refer to is there), without the triggers
that note events to be summed, and before the indexes, which are built once at the end. Their app passwords
verify nothing, but for SCRAM_LOGINS of them, spread over the SMTP users, whose SCRAM keys are those of scram_secret().
The logins of the benchmark stay those of seed_load.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import tuple_row

from relay.app_passwords import scram_keys

SMTP_USERS, PASSWORDS_EACH, AUTH_EVENTS, MESSAGES = 1_000_000, 3, 20_000_000, 5_000_000
SCRAM_LOGINS = 1_000
ROWS_AT_ONCE = 100_000
LARGE = ["audit_authevent", "relay_message", "relay_recipient"]

INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = ANY(%s) AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""
TRIGGERS = """
    SELECT tgname FROM pg_trigger
    WHERE tgrelid = 'audit_authevent'::regclass AND NOT tgisinternal AND tgenabled = 'A'
"""
USERS = """
    WITH customer AS (SELECT id, slug, row_number() OVER (ORDER BY id) - 1 AS number FROM accounts_organization
                      WHERE slug LIKE 'load-%%'),
    made AS (
        INSERT INTO relay_smtpuser (organization_id, username, description, excess, may_send_null, scram_salt,
                                    scram_iterations, created_at)
        SELECT customer.id, 'f' || lpad(n::text, 8, '0') || '.' || customer.slug, '', 'refuse', false,
               substr(sha256(int8send(n)), 1, 16), 4096, now() - random() * interval '900 days'
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
        JOIN customer ON customer.number = n %% (SELECT count(*) FROM customer)
        RETURNING id, username),
    sender AS (
        INSERT INTO relay_senderaddress (smtp_user_id, pattern, created_at)
        SELECT id, '@' || split_part(username, '.', 2) || '.example', now() FROM made)
    INSERT INTO relay_apppassword (smtp_user_id, name, kind, hint, digest, scram_stored_key, scram_server_key,
                                   created_at, last_used_client)
    SELECT id, 'fill', 'app', 'gp_fill', sha256(int8send(id * %(each)s::bigint + k)),
           sha256(int8send(-2 * (id * %(each)s::bigint + k))), sha256(int8send(-2 * (id * %(each)s::bigint + k) - 1)),
           now(), ''
    FROM made CROSS JOIN generate_series(1, %(each)s::int) k
"""
SCRAM_PASSWORDS = """
    SELECT password.id, who.scram_salt, who.scram_iterations FROM relay_smtpuser who
    CROSS JOIN LATERAL (SELECT min(id) AS id FROM relay_apppassword
                        WHERE smtp_user_id = who.id AND name = 'fill') password
    WHERE who.id %% %(step)s::bigint = 0 AND password.id IS NOT NULL ORDER BY who.id LIMIT %(most)s
"""
SCRAM_KEYS = """
    UPDATE relay_apppassword SET scram_stored_key = made.stored_key, scram_server_key = made.server_key
    FROM unnest(%s::bigint[], %s::bytea[], %s::bytea[]) AS made (id, stored_key, server_key)
    WHERE relay_apppassword.id = made.id
"""
EVENTS = """
    INSERT INTO audit_authevent (at, id, reference, organization_id, smtp_user_id, app_password_id, username_given,
        mechanism, result, reason, ip, network, tls_version, tls_cipher, client_name, port, worker, count,
        last_at, samples)
    SELECT at, gen_random_uuid(), substr(upper(md5(n::text)), 1, 10), who.organization_id, who.id, n, who.username,
        'PLAIN', 'accepted', 'ok', '10.0.0.0'::inet + n %% 65536, '', 'TLSv1.3', 'TLS_AES_256_GCM_SHA384',
        'client.example', 2465, 'fill', 1, at, '{}'
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
    CROSS JOIN LATERAL (SELECT now() - n %% 86400 * interval '1 second' AS at) moment
    JOIN relay_smtpuser who ON who.id = (SELECT min(id) FROM relay_smtpuser) + n %% %(users)s::bigint
"""
MAIL = """
    WITH made AS (
        INSERT INTO relay_message (id, reference, organization_id, smtp_user_id, app_password_id, reverse_path,
            header_from, header_message_id, subject, size_octets, recipient_count, route, smtputf8, body_8bit, dsn_ret,
            dsn_envid, received_at, client_ip, client_name, tls_version, tls_cipher, mechanism, port, worker)
        SELECT gen_random_uuid(), 'F' || lpad(n::text, 9, '0'), who.organization_id, who.id, NULL, 'a@fill.example',
            'a@fill.example', n || '@fill.example', 'Fill', 1024, 1, 'sandbox', false, false, '', '',
            now() - random() * interval '30 days', '10.0.0.1', 'client.example', 'TLSv1.3', '', 'PLAIN', 2465, 'fill'
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
        JOIN relay_smtpuser who ON who.id = (SELECT min(id) FROM relay_smtpuser) + n %% %(users)s::bigint
        RETURNING id, received_at),
    content AS (
        INSERT INTO relay_messagedata (message_id, content)
        SELECT id, convert_to(repeat(md5(id::text), 32), 'UTF8') FROM made)
    INSERT INTO relay_recipient (message_id, address, state, due_at, attempts, settled_at, possibly_delivered, reply,
                                 dsn_notify, dsn_orcpt)
    SELECT id, 'someone@recipient.example', 'delivered', received_at, 1, received_at, false, '250 2.0.0 OK', '', ''
    FROM made
"""


def fill(connection: psycopg.Connection[tuple[int]], *, scale: float) -> None:
    """As a superuser, in many transactions."""
    connection.execute("SET session_replication_role = replica")
    connection.execute("SET synchronous_commit = off")
    connection.execute("SET maintenance_work_mem = '512MB'")
    users = int(SMTP_USERS * scale)
    with _indexes_at_the_end(connection), _no_event_to_sum(connection):
        for text, rows in ((USERS, users), (EVENTS, int(AUTH_EVENTS * scale)), (MAIL, int(MESSAGES * scale))):
            for first, last in _portions(rows):
                values = {"first": first, "last": last, "users": max(1, users), "each": PASSWORDS_EACH}
                connection.execute(text, values)
    _make_scram_keys(connection, users=users)
    connection.execute("VACUUM ANALYZE")


@contextmanager
def _indexes_at_the_end(connection: psycopg.Connection[tuple[int]]) -> Iterator[None]:
    rows = connection.cursor(row_factory=tuple_row).execute(INDEXES, [LARGE]).fetchall()
    for name, _definition in rows:
        connection.execute(f'DROP INDEX "{name}"')
    yield
    for _name, definition in rows:
        connection.execute(definition.replace(" ON ONLY ", " ON "))


@contextmanager
def _no_event_to_sum(connection: psycopg.Connection[tuple[int]]) -> Iterator[None]:
    """They are years old: their sums were made long ago."""
    triggers = connection.cursor(row_factory=tuple_row).execute(TRIGGERS).fetchall()
    for (name,) in triggers:
        connection.execute(f"ALTER TABLE audit_authevent DISABLE TRIGGER {name}")
    yield
    for (name,) in triggers:
        connection.execute(f"ALTER TABLE audit_authevent ENABLE ALWAYS TRIGGER {name}")


def scram_secret(app_password_id: int) -> str:
    """What signs in by SCRAM-SHA-256 with one of them."""
    return f"fill-{app_password_id}"


def _make_scram_keys(connection: psycopg.Connection[tuple[int]], *, users: int) -> None:
    """A second of PBKDF2; three million would take an hour."""
    values = {"step": max(1, users // SCRAM_LOGINS), "most": SCRAM_LOGINS}
    rows = connection.cursor(row_factory=tuple_row).execute(SCRAM_PASSWORDS, values).fetchall()
    keys = [scram_keys(scram_secret(id), salt=salt, iterations=iterations) for id, salt, iterations in rows]
    stored, server = [pair[0] for pair in keys], [pair[1] for pair in keys]
    connection.execute(SCRAM_KEYS, [[row[0] for row in rows], stored, server])


def _portions(rows: int) -> Iterator[tuple[int, int]]:
    for first in range(1, rows + 1, ROWS_AT_ONCE):
        yield first, min(rows, first + ROWS_AT_ONCE - 1)
