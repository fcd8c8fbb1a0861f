"""What the installation runs on, and until when its makers mend weaknesses in it, as far as that is known offline.

Shapes  parts() -> Part for each of Python, Django, PostgreSQL and Valkey or Redis. ENDS: the last day on which the
        makers of a series mend weaknesses. judged(parts) -> what is over, ends soon, or is not in the table.
Units   days. AS_OF: when the table was last looked at. installed_days: since packages were last put in.
Errors  A server that does not answer has no version, and is told as unknown.
Source  The projects' release pages: devguide.python.org/versions, djangoproject.com/download, postgresql.org/support/
        versioning, valkey.io/topics/releases (three years from a series' first release), redis.io.
"""

import platform
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import django
import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

AS_OF: Final = date(2026, 11, 24)
SOON_DAYS: Final = 90
TABLE_OLD_DAYS: Final = 400  # then newer series are missing in it, and so is Gatepost's own newer version
INSTALLED_OLD_DAYS: Final = 180  # packages that were not touched for so long lack mended weaknesses, most likely
TIMEOUT_SECONDS: Final = 2.0

ENDS: Final[dict[str, dict[str, date]]] = {
    "Python": {
        "3.11": date(2027, 10, 31),
        "3.12": date(2028, 10, 31),
        "3.13": date(2029, 10, 31),
        "3.14": date(2030, 10, 31),
        "3.15": date(2031, 10, 31),
    },
    "Django": {
        "5.2": date(2028, 4, 30),
        "6.0": date(2027, 4, 30),
        "6.1": date(2027, 12, 31),
    },
    "PostgreSQL": {
        "15": date(2027, 11, 11),
        "16": date(2028, 11, 9),
        "17": date(2029, 11, 8),
        "18": date(2030, 11, 14),
        "19": date(2031, 11, 13),
    },
    "Valkey": {
        "7.2": date(2027, 4, 16),
        "8.0": date(2027, 9, 15),
        "8.1": date(2028, 3, 31),
        "9.0": date(2028, 10, 21),
        "9.1": date(2029, 4, 30),  # at least
    },
}


@dataclass(frozen=True, slots=True)
class Part:
    """version: empty where it did not answer. ends_on: None where the table does not know the series."""

    name: str
    version: str
    series: str = ""
    ends_on: date | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version or '?'}"

    def days_left(self, today: date) -> int | None:
        return None if self.ends_on is None else (self.ends_on - today).days


@dataclass(frozen=True, slots=True)
class Judged:
    """parts by how they stand; installed_days: since packages last came in, None where that cannot be told."""

    parts: tuple[Part, ...]
    over: tuple[Part, ...]
    soon: tuple[Part, ...]
    unknown: tuple[Part, ...]
    installed_days: int | None
    table_days: int

    @property
    def first_end(self) -> date | None:
        return min((part.ends_on for part in self.parts if part.ends_on), default=None)

    @property
    def is_table_old(self) -> bool:
        return self.table_days > TABLE_OLD_DAYS

    @property
    def is_installed_long_ago(self) -> bool:
        return self.installed_days is not None and self.installed_days > INSTALLED_OLD_DAYS


def parts() -> list[Part]:
    return [
        _part("Python", platform.python_version(), labels=2),
        _part("Django", django.get_version(), labels=2),
        _part("PostgreSQL", _postgresql(), labels=1),
        _part(*_store(), labels=2),
    ]


def judged(found: Sequence[Part], *, today: date | None = None) -> Judged:
    today = today or timezone.now().date()
    left = [(part, part.days_left(today)) for part in found]
    return Judged(
        parts=tuple(found),
        over=tuple(part for part, days in left if days is not None and days < 0),
        soon=tuple(part for part, days in left if days is not None and 0 <= days < SOON_DAYS),
        unknown=tuple(part for part, days in left if days is None),
        installed_days=_installed_days(today),
        table_days=max(0, (today - AS_OF).days),
    )


def other_libraries() -> list[tuple[str, str]]:
    """Of which the makers name no end: for the page, without a verdict."""
    names = ("cryptography", "aiosmtpd", "psycopg", "celery", "dnspython", "dkimpy", "granian")
    found = [("Gatepost", settings.GATEPOST_VERSION), ("OpenSSL", ssl.OPENSSL_VERSION.removeprefix("OpenSSL "))]
    for name in names:
        try:
            found.append((name, distribution(name).version))
        except PackageNotFoundError:
            continue
    return found


def _part(name: str, version: str, *, labels: int) -> Part:
    series = ".".join(version.split(".")[:labels])
    return Part(name, version, series, ENDS.get(name, {}).get(series))


def _postgresql() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version')")
            return str(cursor.fetchone()[0]).split()[0]
    except DatabaseError:
        return ""


def _store() -> tuple[str, str]:
    """Valkey tells Redis' version for old clients, and its own beside it."""
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS
    )
    try:
        told = client.info("server")
    except (redis.RedisError, OSError):
        return "Valkey", ""
    finally:
        client.close()
    if "valkey_version" in told:
        return "Valkey", str(told["valkey_version"])
    return "Redis", str(told.get("redis_version", ""))


def _installed_days(today: date) -> int | None:
    """By the newest of our packages' files: an upgrade of any of them puts new ones there."""
    times = []
    for name in ("django", "cryptography", "aiosmtpd", "psycopg", "celery"):
        try:
            times.append(Path(str(distribution(name).locate_file(""))).joinpath(_record(name)).stat().st_mtime)
        except (PackageNotFoundError, OSError):
            continue
    if not times:
        return None
    return max(0, (today - datetime.fromtimestamp(max(times), UTC).date()).days)


def _record(name: str) -> str:
    """The directory of the package's description, beside the package."""
    return f"{name}-{distribution(name).version}.dist-info"
