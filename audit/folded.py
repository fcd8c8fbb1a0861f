"""Folded runs of attempts: one row of AuthEvent for each key and minute, to which every process adds.

Shapes  A Run is what one process has counted since it last stored; store_runs() adds it to its row by (at, id), which
        follow from key and minute alone, as does the reference that every attempt of the run is told.
Units   at: the minute's beginning. count: attempts.
Errors  Those of the database; nothing is stored then.
Source  docs/security.md, Floods.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from django.conf import settings

from audit.record import CROCKFORD, REFERENCE_LENGTH, SAMPLES_MAX, AuthAttempt

MINUTE: Final = 60

_COLUMNS: Final = (
    ("at", "timestamptz"), ("id", "uuid"), ("reference", "text"), ("organization_id", "bigint"),
    ("smtp_user_id", "bigint"), ("app_password_id", "bigint"), ("username_given", "text"), ("mechanism", "text"),
    ("result", "text"), ("reason", "text"), ("ip", "inet"), ("network", "text"), ("tls_version", "text"),
    ("tls_cipher", "text"), ("client_name", "text"), ("port", "int"), ("worker", "text"), ("count", "int"),
    ("first_at", "timestamptz"), ("last_at", "timestamptz"), ("samples", "text[]"),
)  # fmt: skip
_NAMES: Final = ", ".join(name for name, _type in _COLUMNS)
# A row that holds attempts of two customers belongs to none: neither may see the names that the other was tried with.
_STORE: Final = f"""
    INSERT INTO audit_authevent AS old ({_NAMES})
    SELECT {_NAMES} FROM jsonb_to_recordset(%s::jsonb) AS new ({", ".join(f"{name} {type}" for name, type in _COLUMNS)})
    ORDER BY at, id
    ON CONFLICT (at, id) DO UPDATE SET
        count = least(old.count::bigint + excluded.count, 2147483647)::int,
        first_at = least(old.first_at, excluded.first_at), last_at = greatest(old.last_at, excluded.last_at),
        organization_id = CASE WHEN old.organization_id = excluded.organization_id THEN old.organization_id END,
        smtp_user_id = CASE WHEN old.organization_id = excluded.organization_id
                       AND old.smtp_user_id = excluded.smtp_user_id THEN old.smtp_user_id END,
        app_password_id = CASE WHEN old.app_password_id = excluded.app_password_id THEN old.app_password_id END,
        samples = CASE WHEN cardinality(old.samples) >= {SAMPLES_MAX} THEN old.samples ELSE
                  (SELECT coalesce((array_agg(DISTINCT each))[1:{SAMPLES_MAX}], '{{}}')
                   FROM unnest(old.samples || excluded.samples) AS each) END,
        stored_at = statement_timestamp()
"""  # noqa: S608  # names of columns above


class RunKey(NamedTuple):
    """Of what a run is, and of which minute. None: of any."""

    minute: int  # since 1970
    reason: str
    network: str | None = None
    organization_id: int | None = None
    smtp_user_id: int | None = None
    is_narrow: bool = True  # False: the parts that are None stand for whatever there was

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(repr(tuple(self)).encode(), key=_key(), digest_size=32).digest()


def _key() -> bytes:
    return hashlib.sha256(b"runs\0" + settings.GATEPOST_AUDIT_KEY).digest()


class Run:
    """One for each key, while it lasts. Built from the first attempt; add() counts the next."""

    __slots__ = (
        "_first", "_has_network", "all", "at", "count", "first_at", "id", "last_at", "organization_id", "reference",
        "samples",
    )  # fmt: skip

    def __init__(self, key: RunKey, first: AuthAttempt) -> None:
        digest = key.digest
        self.id, self.at = UUID(bytes=digest[:16], version=4), datetime.fromtimestamp(key.minute * MINUTE, UTC)
        self.reference = "".join(CROCKFORD[octet % 32] for octet in digest[16 : 16 + REFERENCE_LENGTH])
        self._first, self._has_network = first, key.network is not None
        self.count = self.all = 0  # since take(), and ever
        self.first_at = self.last_at = first.at
        self.organization_id = first.organization_id
        self.samples: dict[str, None] = {}

    def add(self, each: AuthAttempt) -> None:
        self.count += 1
        self.all += 1
        self.last_at = max(self.last_at, each.at)
        if each.organization_id != self.organization_id:
            self.organization_id = None
        if len(self.samples) < SAMPLES_MAX:
            self.samples[each.username_given] = None

    def take(self) -> dict[str, Any]:
        """What is to be stored; from here on it counts anew."""
        first = self._first
        values = {name: getattr(first, name) for name, _type in _COLUMNS if hasattr(first, name)}
        values |= {
            "at": self.at.isoformat(),
            "id": str(self.id),
            "reference": self.reference,
            "network": first.network if self._has_network else "",
            "organization_id": self.organization_id,
            "smtp_user_id": first.smtp_user_id if self.organization_id is not None else None,
            "count": self.count,
            "first_at": self.first_at.isoformat(),
            "last_at": self.last_at.isoformat(),
            "samples": list(self.samples),
        }
        self.count, self.first_at = 0, self.last_at
        return values


async def store_runs(connection: psycopg.AsyncConnection[Any], runs: Sequence[dict[str, Any]]) -> None:
    """Add all of them in one statement in the connection's transaction; the caller commits."""
    if runs:
        await connection.execute(_STORE, [json.dumps(runs)])
