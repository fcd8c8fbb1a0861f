"""What the detection reads and finds. No database here: a benchmark feeds the same rows from a simulation.

Shapes  Use: accepted logins of one credential from one address with one client name and TLS version.
        Failure: refused guesses at one SMTP user (or at names that are none) from one address, this hour and this day.
        Known: one Habit, as the detection changes it. Finding: what raise_alert() will make a case of.
Units   last_hour: attempts of the running clock hour and the one before; last_day: of the last 24 clock hours.
Source  docs/operations.md, Alerts.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, Final

from audit.anomalies.models import Kind, Severity
from audit.models import Reason

GUESSES: Final = (Reason.WRONG_PASSWORD, Reason.UNKNOWN_USER, Reason.PANEL_PASSWORD, Reason.THROTTLED)
TLS_LEVELS: Final = ("", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")  # weakest first
DOUBTS_MAX: Final = 200  # of one case
_PARTS = re.compile(r"[-_.]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    organization_id: int
    smtp_user_id: int
    app_password_id: int | None
    ip: str
    client_name: str
    tls_version: str
    count: int
    first_at: datetime
    last_at: datetime

    @property
    def narrow(self) -> str:
        return narrow_network(self.ip)

    @property
    def wide(self) -> str:
        return wide_network(self.ip)

    @property
    def family(self) -> str:
        return client_family(self.client_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    organization_id: int | None
    smtp_user_id: int | None
    ip: str
    last_hour: int
    last_day: int
    first_at: datetime
    last_at: datetime


@dataclass(slots=True, kw_only=True)
class Known:
    organization_id: int
    smtp_user_id: int
    kind: str
    value: str
    first_at: datetime
    last_at: datetime
    days: int = 1
    longest_gap: timedelta = timedelta(0)
    amount: int = 0
    doubted: bool = False
    taught: bool = False
    written_at: datetime = field(init=False)  # last_at as the table has it

    def __post_init__(self) -> None:
        self.written_at = self.last_at

    @property
    def key(self) -> tuple[int, int, str, str]:
        return self.organization_id, self.smtp_user_id, self.kind, self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    kind: Kind
    organization_id: int | None
    key: str
    severity: Severity
    evidence: Mapping[str, Any]
    smtp_user_ids: frozenset[int] = frozenset()
    app_password_ids: frozenset[int] = frozenset()
    first_at: datetime
    last_at: datetime


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of one case made one: several SMTP users that moved to the same new network at once."""
    cases: dict[tuple[int | None, str], Finding] = {}
    for each in findings:
        place = (each.organization_id, each.key)
        cases[place] = _together(cases[place], each) if place in cases else each
    return list(cases.values())


def _together(one: Finding, other: Finding) -> Finding:
    graver = max(one.severity, other.severity, key=lambda severity: severity.rank)
    return Finding(
        kind=one.kind,
        organization_id=one.organization_id,
        key=one.key,
        severity=graver,
        evidence=joined(one.evidence, other.evidence),
        smtp_user_ids=one.smtp_user_ids | other.smtp_user_ids,
        app_password_ids=one.app_password_ids | other.app_password_ids,
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
    )


def joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The newer evidence over the older; of what is doubted both, since "this was me" teaches all of it."""
    doubts = {tuple(each): list(each) for each in (*one.get("doubts", ()), *other.get("doubts", ()))}
    both = {**one, **other}
    return {**both, "doubts": list(doubts.values())[:DOUBTS_MAX]} if doubts else both


@lru_cache(65536)
def narrow_network(ip: str) -> str:
    """The /24 or /64: one site, one server room."""
    if ":" not in ip:
        return f"{ip.rpartition('.')[0]}.0/24"
    return str(ip_network((ip, 64), strict=False))


@lru_cache(65536)
def wide_network(ip: str) -> str:
    """The /16 or /32: about what one provider gives out in one region, without asking anybody which country it is."""
    if ":" not in ip:
        one, two, *_rest = ip.split(".")
        return f"{one}.{two}.0.0/16"
    return str(ip_network((ip, 32), strict=False))


def widened(network: str) -> str:
    return wide_network(network.partition("/")[0])


@lru_cache(65536)
def client_family(name: str) -> str:
    """What stays of an EHLO name when the next container, worker or lease of the same client gives another.

    "[192.0.2.7]" -> "[address]"; "web3.shop.example" -> "shop.example"; "mailer-7d9f8b6c5-x2k8p" -> "mailer-#".
    """
    name = name.strip().lower().rstrip(".")
    if not name or name.startswith("[") or name.replace(".", "").isdigit():
        return "[address]" if name else ""
    if name.partition(".")[0] in {"localhost", "localdomain"}:
        return "localhost"
    labels = name.split(".")
    if len(labels) > 2:
        second_level = len(labels[-1]) == 2 and len(labels[-2]) <= 3  # shop.co.uk
        labels = labels[-3:] if second_level else labels[-2:]
    if len(labels) > 1:
        return ".".join(labels)[:255]
    parts = ["#" if _is_random(part, place) else part for place, part in enumerate(_PARTS.split(labels[0]))]
    kept = [part for place, part in enumerate(parts) if place == 0 or (part, parts[place - 1]) != ("#", "#")]
    return "-".join(kept)[:255]


def _is_random(part: str, place: int) -> bool:
    """A number, a hash, or one of Kubernetes' suffixes, which have no vowels."""
    if any(c.isdigit() for c in part):
        return True
    letters = set(part)
    return len(part) >= (4 if place else 8) and (not letters & set("aeiouy") or letters <= set("abcdef"))


def tls_rank(version: str) -> int:
    return TLS_LEVELS.index(version) if version in TLS_LEVELS else len(TLS_LEVELS)  # newer than we know: stronger
