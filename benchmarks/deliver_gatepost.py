"""Gatepost with a queue to deliver: embedded PostgreSQL and Valkey, and the worker as `manage.py run` starts it.

Shapes  fill() inserts the rows that accepting would have made, in a transaction that release() commits: the worker
        sees all of them at once, as fresh as after an accept.
Errors  EmbeddedError where something does not start.
Source  relay/accept.py, STORE.
"""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from benchmarks.database import Database

SENDER = "u000000@load-000.example"
MESSAGES = """
    INSERT INTO relay_message (id, reference, organization_id, smtp_user_id, app_password_id, reverse_path,
        header_from, header_message_id, subject, size_octets, recipient_count, route, smtputf8, body_8bit, dsn_ret,
        dsn_envid, received_at, client_ip, client_name, tls_version, tls_cipher, mechanism, port, worker)
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
            || lpad(to_hex(n %% 4096), 3, '0') || '8' || substr(md5(random()::text), 1, 15))::uuid,
        substr(upper(md5(random()::text)), 1, 10), who.organization_id, who.id, NULL, %(sender)s, %(sender)s,
        n || '.bench@load-000.example', 'Bench', %(size)s, 1, %(route)s, false, false, '', '', clock_timestamp(),
        '10.0.0.1', 'client.example', 'TLSv1.3', 'TLS_AES_256_GCM_SHA384', 'PLAIN', 2465, 'bench'
    FROM generate_series(1, %(messages)s::bigint) n, relay_smtpuser who WHERE who.username = 'u000000.load-000'
"""
CONTENT = """
    INSERT INTO relay_messagedata (message_id, content)
    SELECT id, convert_to(rpad('Received: from client.example ([10.0.0.1]) by localhost (Gatepost) with ESMTPSA id '
        || reference || E';\\r\\n Tue, 24 Nov 2026 12:00:00 +0000\\r\\nMessage-ID: <' || header_message_id
        || E'>\\r\\nDate: Tue, 24 Nov 2026 12:00:00 +0000\\r\\nFrom: ' || header_from
        || E'\\r\\nTo: someone@recipient.example\\r\\nSubject: Bench\\r\\n\\r\\n', size_octets::int - 2,
        rpad('', 70, 'The quick brown fox jumps over the lazy dog. ') || E'\\r\\n') || E'\\r\\n', 'UTF8')
    FROM relay_message WHERE worker = 'bench' AND id NOT IN (SELECT message_id FROM relay_messagedata)
"""
RECIPIENTS = """
    INSERT INTO relay_recipient (message_id, address, state, dsn_notify, dsn_orcpt, due_at, attempts,
        possibly_delivered, reply)
    SELECT id, 'someone@recipient.example', 'queued', '', '', clock_timestamp(), 0, false, ''
    FROM relay_message WHERE worker = 'bench' ORDER BY id
"""
EMPTY = "TRUNCATE relay_message, relay_messagedata, relay_recipient, relay_deliveryattempt CASCADE"


class DeliveringGatepost:
    name = "gatepost"

    def __init__(self, state: Path, *, sink_port: int, signed: bool = False) -> None:
        self.signed = signed
        self.sink_port = sink_port
        settings = {
            "GATEPOST_DEFAULT_ROUTE": "smarthost",
            "GATEPOST_SMARTHOST": "127.0.0.1",
            "GATEPOST_SMARTHOST_PORT": str(sink_port),
            "GATEPOST_SMARTHOST_TLS": "none",
        }
        self.database = Database(state, settings=settings)
        self._stack = ExitStack()
        self._filling: psycopg.Connection[tuple[int]] | None = None

    def __enter__(self) -> Self:
        self._stack.enter_context(self.database)
        try:
            route = f"smarthost:127.0.0.1:{self.sink_port}"
            out = str(self.database.state / "logins.csv")
            self.database.manage("seed_load", "--smtp-users", "1", "--route", route, "--out", out)
            self.database.start("worker")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def fill(self, messages: int, *, size: int) -> None:
        with self.database.superuser() as connection:
            connection.execute(EMPTY)
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        self._filling = self.database.superuser()
        self._filling.autocommit = False
        values = {"messages": messages, "size": size, "route": "smarthost", "sender": SENDER}
        self._filling.execute(MESSAGES, values)
        self._filling.execute(CONTENT)
        self._filling.execute(RECIPIENTS)
        self._filling.execute("ANALYZE relay_message, relay_recipient, relay_messagedata")

    def release(self) -> None:
        assert self._filling is not None
        self._filling.commit()
        self._filling.close()

    def left(self) -> int:
        with self.database.superuser() as connection:
            row = connection.execute("SELECT count(*) FROM relay_recipient WHERE state <> 'delivered'").fetchone()
        assert row is not None
        return row[0]

    def processor_seconds(self) -> dict[str, float]:
        return self.database.processor_seconds()
