"""The macros of SPF: %{i} and the like in a domain name.

Shapes  is_valid(text) says whether it is written right; expanded(text, facts) -> the name that it stands for.
Errors  MacroError.
Source  RFC 7208 7. %{p} is "unknown", as 7.3 lets who does not want to ask for it.
"""

import re
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import quote

NAME_MAX: Final = 253
_MACRO = re.compile(
    r"%(?:\{([slodipvhcrtSLODIPVHCRT])(\d*)(r?)([.\-+,/_=]*)\}|([%_\-])|(.?))", re.IGNORECASE | re.DOTALL
)
_FIXED: Final = {"%": "%", "_": " ", "-": "%20"}


class MacroError(ValueError):
    """It is not written as a macro must be."""


@dataclass(frozen=True, slots=True)
class Facts:
    ip: IPv4Address | IPv6Address | None
    sender: str
    domain: str


def is_valid(text: str) -> bool:
    if not text.isascii() or not text.isprintable():
        return False
    return not any(found[6] is not None or found[2] == "0" for found in _MACRO.finditer(text))


def expanded(text: str, facts: Facts) -> str:
    """Raises MacroError. Too long a name loses labels at its left (7.3)."""

    def replaced(found: re.Match[str]) -> str:
        if found[6] is not None:
            raise MacroError(text)
        if found[5] is not None:
            return _FIXED[found[5]]
        return _transformed(_value(found[1], facts), found)

    name = _MACRO.sub(replaced, text).rstrip(".")
    while len(name) > NAME_MAX and "." in name:
        name = name.partition(".")[2]
    return name.lower()


def _value(letter: str, facts: Facts) -> str:
    local, _at, domain = facts.sender.rpartition("@")
    ip = facts.ip
    values = {
        "s": facts.sender,
        "l": local or "postmaster",
        "o": domain,
        "d": facts.domain,
        "i": _dotted(ip) if ip else "",
        "p": "unknown",
        "v": "ip6" if ip is not None and ip.version == 6 else "in-addr",
        "h": domain,
        "c": str(ip or ""),
        "r": "unknown",
        "t": str(int(time.time())),
    }
    value = values[letter.lower()]
    return quote(value, safe="-._~") if letter.isupper() else value


def _dotted(ip: IPv4Address | IPv6Address) -> str:
    return str(ip) if isinstance(ip, IPv4Address) else ".".join(ip.exploded.replace(":", ""))


def _transformed(value: str, found: re.Match[str]) -> str:
    parts = re.split("[" + re.escape(found[4] or ".") + "]", value)
    if found[3]:
        parts.reverse()
    return ".".join(parts[-int(found[2]) :] if found[2] else parts)
