"""MTA-STS: what a domain demands of those who deliver to it, as its policy says it.

Shapes  parse_policy(text) -> Policy. record_id(texts) -> the id of the policy that the DNS names, or nothing.
Units   max_age: seconds.
Errors  PolicyError: what was fetched is no policy.
Source  RFC 8461 3.1 (record), 3.2 (policy), 4.1 (names).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_AGE = 31_557_600  # RFC 8461 3.2
PATTERNS = 100
ENFORCE, TESTING, OFF = "enforce", "testing", "none"

_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_PATTERN = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class PolicyError(ValueError):
    """Not a policy of RFC 8461. Its words are for the log."""


@dataclass(frozen=True, slots=True)
class Policy:
    """mode: enforce, testing or none. mx: names, or *.name for names one label longer, in lower case."""

    mode: str
    mx: tuple[str, ...]
    max_age: int

    def allows(self, host: str) -> bool:
        """RFC 8461 4.1: the star stands for one label."""
        host = host.lower().rstrip(".")
        parent = host.partition(".")[2]
        return any(pattern == host or (bool(parent) and pattern == f"*.{parent}") for pattern in self.mx)


def record_id(texts: Sequence[str]) -> str:
    """Empty unless there is exactly one record, and it has an id."""
    records = [text for text in texts if text.partition(";")[0].strip(" \t") == "v=STSv1"]
    if len(records) != 1:
        return ""
    for part in records[0].split(";")[1:]:
        name, _equals, value = part.partition("=")
        if name.strip(" \t") == "id":
            value = value.strip(" \t")
            return value if _ID.fullmatch(value) else ""
    return ""


def parse_policy(body: bytes) -> Policy:
    """Raises PolicyError."""
    try:
        lines = body.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise PolicyError("it is not text") from None
    values: dict[str, str] = {}
    mx: list[str] = []
    for line in lines:
        name, colon, value = (part.strip(" \t") for part in line.partition(":"))
        if colon and name == "mx":
            mx.append(_pattern(value))
        elif colon:
            values.setdefault(name, value)  # RFC 8461 3.2: of what may stand once, the first counts
    if values.get("version") != "STSv1":
        raise PolicyError("its version is not STSv1")
    mode = values.get("mode", "")
    if mode not in {ENFORCE, TESTING, OFF}:
        raise PolicyError("it has no mode")
    if mode != OFF and not 0 < len(mx) <= PATTERNS:
        raise PolicyError("it names no mx, or too many")
    return Policy(mode, tuple(dict.fromkeys(mx)), _max_age(values.get("max_age", "")))


def _pattern(text: str) -> str:
    pattern = text.lower().rstrip(".")
    if len(pattern) > 255 or not _PATTERN.fullmatch(pattern):
        raise PolicyError("an mx of it is no name")
    return pattern


def _max_age(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise PolicyError("it has no max_age")
    return min(int(text), MAX_AGE)
