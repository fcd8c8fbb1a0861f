"""Whether recipients are suppressed: asked at RCPT, only of organizations that have suppressions.

Shapes  find(organization_id, keys) -> key to the words of the refusal, for those that are suppressed. Look-ups that
        wait at the same time, of whatever sessions, are one query; recipients that a client pipelines are one look-up.
Units   seconds.
Errors  SuppressionsUnavailable: PostgreSQL did not answer, and RCPT says 451: what is suppressed must not slip through.
Source  docs/delivery.md, Suppression.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from audit.record import printable
from relay.database import fetch_all
from relay.logs import get_logger
from relay.models import Suppression
from relay.suppressions import suppression_key

log = get_logger(__name__)

KEYS_MAX = 5_000  # of one query
AHEAD_OCTETS = 64 * 1024  # of pipelined commands, in which further recipients are looked for
REASON_MAX = 200
TIMEOUT_SECONDS = 3.0

READ = """
SELECT found.organization_id, found.address, found.source, found.reason, found.reference, found.created_at
FROM unnest(%s::bigint[], %s::text[]) AS asked (organization_id, address)
JOIN relay_suppression found USING (organization_id, address)
"""
_AHEAD = re.compile(rb"(?:^|\n)RCPT TO: ?<([^<>\x00-\x20\x7f]{1,320})>", re.IGNORECASE)

Key = tuple[int, str]


class SuppressionsUnavailable(Exception):
    """The database did not answer."""


class Suppressed:
    """One for each smtpd process."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        self._waiting: list[tuple[list[Key], asyncio.Future[dict[Key, str]]]] = []
        self._reader: asyncio.Task[None] | None = None

    async def find(self, organization_id: int, keys: Iterable[str]) -> dict[str, str]:
        asked = [(organization_id, key) for key in keys]
        answer: asyncio.Future[dict[Key, str]] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_waiting(), name="suppressed")
        found = await answer
        return {key: found[organization_id, key] for _id, key in asked if (organization_id, key) in found}

    async def _read_waiting(self) -> None:
        while self._waiting:
            taken, number = [], 0
            while self._waiting and number < KEYS_MAX:
                taken.append(self._waiting.pop(0))
                number += len(taken[-1][0])
            try:
                found = await self._read({key for keys, _answer in taken for key in keys})
            except Exception as error:  # whatever it is: nobody may wait for ever, and 451 is the answer
                if not isinstance(error, psycopg.Error | PoolTimeout | OSError):
                    log.exception("suppressed.failed")
                for _keys, answer in taken:
                    if not answer.done():
                        answer.set_exception(SuppressionsUnavailable())
            else:
                for _keys, answer in taken:
                    if not answer.done():
                        answer.set_result(found)

    async def _read(self, keys: set[Key]) -> dict[Key, str]:
        columns = [[organization_id for organization_id, _key in keys], [key for _id, key in keys]]
        rows = await fetch_all(self._pool, READ, columns, timeout=TIMEOUT_SECONDS)
        return {(organization_id, address): why(*rest) for organization_id, address, *rest in rows}


def why(source: str, reason: str, reference: str, at: datetime) -> str:
    """The words of the refusal, for the client's log."""
    what = {
        Suppression.Source.BOUNCE: "its mail bounced",
        Suppression.Source.ADDED: "added by hand",
        Suppression.Source.IMPORTED: "imported",
    }[Suppression.Source(source)]
    more = ", ".join(filter(None, (printable(reason, REASON_MAX), f"message {reference}" if reference else "")))
    return f"{what} on {at:%Y-%m-%d}" + (f" ({more})" if more else "")


def recipients_ahead(buffer: bytes | bytearray) -> Iterator[str]:
    """Keys of the recipients that the client has sent already and that are not read yet."""
    for match in _AHEAD.finditer(bytes(buffer[:AHEAD_OCTETS])):
        try:
            yield suppression_key(match[1].decode("utf-8"))
        except UnicodeDecodeError:
            continue
