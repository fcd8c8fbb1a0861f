"""Writing authentication attempts: cleaned beforehand, so that no value of a client can fail a batch.

Shapes  AuthAttempt: one row of AuthEvent. `attempt()` makes it and cleans every text; build it in no other way.
Units   at, last_at: aware UTC. limit: characters.
Errors  None of a value's making: NUL, lone surrogates, lengths and addresses are mended in `attempt()`.
Source  docs/data.md, AuthEvent.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from operator import attrgetter
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
from django.utils import timezone

from audit.models import AuthEvent, Reason, Result

CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
REFERENCE_LENGTH: Final = 10  # 50 bits: no look-up for a clash is needed
SAMPLES_MAX: Final = 20  # usernames kept of a folded run
UNKNOWN_ADDRESS: Final = "0.0.0.0"  # noqa: S104  # stands for a peer whose address could not be read

# App passwords (gp_), API keys (gpk_), OAuth's tokens and client secrets (gpo_, gpr_, gpc_). Five characters or more:
# the hint of a password (four) stays readable.
_SECRET = re.compile(r"(gp[kocr]?_)[0-9A-Za-z]{5,}", re.IGNORECASE)
_INTEGER_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthAttempt:
    """One attempt, or a folded run of them (count, samples), as it will be stored."""

    at: datetime
    id: UUID = field(default_factory=uuid4)
    reference: str
    organization_id: int | None = None
    smtp_user_id: int | None = None
    app_password_id: int | None = None
    username_given: str
    mechanism: str
    result: str
    reason: str
    ip: str
    network: str
    tls_version: str = ""
    tls_cipher: str = ""
    client_name: str = ""
    port: int
    worker: str
    count: int = 1
    last_at: datetime | None = None  # None: as `at`
    samples: tuple[str, ...] = ()


def new_reference() -> str:
    """What a refused client is told, and what finds the row: ten characters of Crockford base32."""
    return "".join(CROCKFORD[octet % 32] for octet in secrets.token_bytes(REFERENCE_LENGTH))  # 256 is 8 x 32: no bias


# Told of each text that was taken out, and of the field in which it stood: smtpd looks it up, off the session's way.
on_secret: list[Callable[[str, str], None]] = []


def redacted(text: str, field: str = "") -> str:
    """The text with everything that looks like one of our secrets taken out."""
    if "_" not in text:
        return text
    for tell in on_secret:
        for found in _SECRET.finditer(text):
            tell(found[0], field)
    return _SECRET.sub(r"\1…[redacted]", text)


def printable(text: str | bytes, limit: int, field: str = "") -> str:
    """The text with controls, bad UTF-8, lone surrogates and bidirectional marks escaped, secrets redacted, capped."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    text = redacted(text, field)  # before the cap: half a secret must not stay
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def read_ip(text: str) -> IPv4Address | IPv6Address:
    """The address without its zone; ::ffff:a.b.c.d is its IPv4. ValueError if it is none."""
    address = ip_address(text.strip().partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def plain_ip(ip: str) -> IPv4Address | IPv6Address:
    """As read_ip(), but of a peer: one that cannot be read is unknown, and its attempt is stored all the same."""
    try:
        return read_ip(ip)
    except ValueError:
        return IPv4Address(UNKNOWN_ADDRESS)


def network_around(ip: str) -> str:
    """The neighbourhood that is reviewed together: /24 of IPv4, /64 of IPv6."""
    return _network_around(plain_ip(ip))


def _network_around(address: IPv4Address | IPv6Address) -> str:
    if address.version == 4:
        return f"{IPv4Address(int(address) >> 8 << 8)}/24"
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


def attempt(
    *,
    result: Result | str,
    reason: Reason | str,
    ip: str,
    port: int,
    worker: str,
    username_given: str | bytes = "",
    mechanism: str | bytes = "",
    client_name: str | bytes = "",
    tls_version: str = "",
    tls_cipher: str = "",
    organization_id: int | None = None,
    smtp_user_id: int | None = None,
    app_password_id: int | None = None,
    reference: str | None = None,
    at: datetime | None = None,
    last_at: datetime | None = None,
    count: int = 1,
    samples: Iterable[str | bytes] = (),
) -> AuthAttempt:
    """An attempt whose every value PostgreSQL will take. `result` and `reason` are ours, so a wrong one raises here."""
    at, address = at or timezone.now(), plain_ip(ip)
    return AuthAttempt(
        at=at,
        reference=reference or new_reference(),
        organization_id=organization_id,
        smtp_user_id=smtp_user_id,
        app_password_id=app_password_id,
        username_given=printable(username_given, 255, "username"),
        mechanism=printable(mechanism, 32).upper()[:32],  # the case means nothing: RFC 4422 3.1
        result=Result(result).value,
        reason=Reason(reason).value,
        ip=str(address),
        network=_network_around(address),
        tls_version=printable(tls_version, 16),
        tls_cipher=printable(tls_cipher, 64),
        client_name=printable(client_name, 255),
        port=port,
        worker=printable(worker, 64),
        count=max(1, min(count, _INTEGER_MAX)),
        last_at=max(at, last_at or at),
        samples=tuple(printable(sample, 255) for _, sample in zip(range(SAMPLES_MAX), samples, strict=False)),
    )


_COLUMNS: Final = tuple(column.name for column in fields(AuthAttempt))
_VALUES = attrgetter(*_COLUMNS)
_COPY: Final = f"COPY audit_authevent ({', '.join(_COLUMNS)}) FROM STDIN".encode()


async def store_auth_events(connection: psycopg.AsyncConnection[Any], attempts: Sequence[AuthAttempt]) -> None:
    """Store all of them with one COPY in the connection's transaction; the caller commits."""
    if not attempts:
        return
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for each in attempts:
            await copy.write_row(_row(each))


def record_auth_event(each: AuthAttempt) -> AuthEvent:
    """Store one attempt through Django's connection."""
    return AuthEvent.objects.create(**dict(zip(_COLUMNS, _row(each), strict=True)))


def _row(each: AuthAttempt) -> tuple[Any, ...]:
    """Its values in column order. A list for the array: psycopg writes a tuple as a composite."""
    *values, last_at, samples = _VALUES(each)
    return (*values, last_at or each.at, list(samples))
