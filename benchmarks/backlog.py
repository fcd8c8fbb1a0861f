"""Mail that waits in Gatepost's queue, as accepting it would have left it there.

Shapes  fill(connection, ...) inserts messages, content and recipients; who commits decides when workers see them.
        Recipients are spread over `domains` domains, d0.recipient.example and so on, in turn.
Units   size: octets of each message.
Source  relay/accept.py, STORE.
"""

from dataclasses import dataclass

import psycopg

SENDER = "u000000@load-000.example"
LOGIN = "u000000.load-000"
TABLES = "relay_message, relay_messagedata, relay_recipient, relay_deliveryattempt"
MESSAGES = """
    INSERT INTO relay_message (id, reference, organization_id, smtp_user_id, app_password_id, reverse_path,
        header_from, header_message_id, subject, size_octets, recipient_count, route, smtputf8, body_8bit, dsn_ret,
        dsn_envid, received_at, client_ip, client_name, tls_version, tls_cipher, mechanism, port, worker)
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
            || lpad(to_hex(n %% 4096), 3, '0') || '8' || lpad(to_hex(n), 15, '0'))::uuid,
        'B' || lpad(n::text, 9, '0'), who.organization_id, who.id, NULL, %(sender)s, %(sender)s,
        '<' || n || '.bench@load-000.example>', 'Bench', %(size)s, 1, %(route)s, false, false, '', '',
        clock_timestamp(), '10.0.0.1', 'client.example', 'TLSv1.3', 'TLS_AES_256_GCM_SHA384', 'PLAIN', 2465, 'bench'
    FROM generate_series(1, %(messages)s::bigint) n, relay_smtpuser who WHERE who.username = %(login)s
"""
CONTENT = """
    INSERT INTO relay_messagedata (message_id, content)
    SELECT id, convert_to(rpad('Received: from client.example ([10.0.0.1]) by localhost (Gatepost) with ESMTPSA id '
        || reference || E';\\r\\n Tue, 24 Nov 2026 12:00:00 +0000\\r\\nMessage-ID: ' || header_message_id
        || E'\\r\\nDate: Tue, 24 Nov 2026 12:00:00 +0000\\r\\nFrom: ' || header_from
        || E'\\r\\nTo: someone@recipient.example\\r\\nSubject: Bench\\r\\n\\r\\n', size_octets::int - 2,
        rpad('', 70, 'The quick brown fox jumps over the lazy dog. ') || E'\\r\\n') || E'\\r\\n', 'UTF8')
    FROM relay_message ORDER BY id
"""
RECIPIENTS = """
    INSERT INTO relay_recipient (message_id, address, state, dsn_notify, dsn_orcpt, due_at, attempts,
        possibly_delivered, reply)
    SELECT id, 'someone@d' || row_number() OVER (ORDER BY id) %% %(domains)s || '.recipient.example', 'queued', '', '',
        clock_timestamp(), 0, false, ''
    FROM relay_message ORDER BY id
"""


@dataclass(frozen=True)
class Backlog:
    messages: int
    size: int = 4096
    route: str = "smarthost"
    domains: int = 1


def empty(connection: psycopg.Connection[tuple[int]]) -> None:
    """Nothing in the queue, and nothing left to be written by a checkpoint."""
    connection.execute(f"TRUNCATE {TABLES} CASCADE")
    connection.execute("CHECKPOINT")


def fill(connection: psycopg.Connection[tuple[int]], backlog: Backlog) -> None:
    """Into empty tables, which the planner then knows the size of."""
    values = {**vars(backlog), "sender": SENDER, "login": LOGIN}
    for text in (MESSAGES, CONTENT, RECIPIENTS):
        connection.execute(text, values)
    connection.execute(f"ANALYZE {TABLES}")


def count(connection: psycopg.Connection[tuple[int]], condition: str) -> int:
    """Recipients for whom it holds."""
    row = connection.execute(f"SELECT count(*) FROM relay_recipient WHERE {condition}").fetchone()
    assert row is not None
    return row[0]
