"""MAIL and RCPT arguments: the path in angle brackets, and the parameters behind it.

Shapes  parse("<a@b> SIZE=3") -> Parsed(address "a@b", parameters {"SIZE": "3"}). The null path is the empty address.
Units   Lengths in octets of UTF-8.
Errors  PathError, with the words of a 501; the session picks the enhanced code of the verb.
Source  RFC 5321 4.1.2 (grammar), 4.5.3.1 (lengths), 4.1.1.11 (parameters), RFC 6531 (UTF-8), RFC 3461 (xtext).
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

LOCAL_MAX, DOMAIN_MAX, PATH_MAX = 64, 255, 256

# RFC 6531 takes any UTF-8; controls, line separators, direction marks and lone surrogates are no part of a name.
UTF8 = r"\u00a1-\u2027\u202f-\ud7ff\ue000-\U0010ffff"
ATEXT = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{UTF8}-]+"
DOT_STRING = re.compile(rf"{ATEXT}(\.{ATEXT})*")
QUOTED = re.compile(rf'"([\x20\x21\x23-\x5b\x5d-\x7e{UTF8}]|\\[\x20-\x7e])*"')
LABEL = rf"[A-Za-z0-9_{UTF8}]([A-Za-z0-9_{UTF8}-]{{0,61}}[A-Za-z0-9_{UTF8}])?"
DOMAIN = re.compile(rf"{LABEL}(\.{LABEL})*")
SOURCE_ROUTE = re.compile(rf"@{LABEL}(\.{LABEL})*(,@{LABEL}(\.{LABEL})*)*:")
PARAMETER = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f\ud800-\udfff][^\x00-\x20\x7f\ud800-\udfff]*))?"
)
XTEXT = re.compile(r"([\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*")


class PathError(ValueError):
    """What is wrong, in words for the reply. malformed: the argument has no path at all (501 5.5.4)."""

    def __init__(self, why: str, *, malformed: bool = False) -> None:
        super().__init__(why)
        self.malformed = malformed


@dataclass(frozen=True, slots=True)
class Parsed:
    address: str
    parameters: dict[str, str | None]

    @property
    def is_ascii(self) -> bool:
        return self.address.isascii()


def parse(argument: str) -> Parsed:
    """The argument after FROM: or TO:, without its white space in front."""
    path, rest = _split(argument)
    address = SOURCE_ROUTE.sub("", path, count=1) if path.startswith("@") else path  # RFC 5321 C: taken, and ignored
    if path:
        _check(address, path)
    return Parsed(address, _parameters(rest))


def _split(argument: str) -> tuple[str, str]:
    """The path between its brackets, and what follows. A quoted local part may hold a bracket."""
    if not argument.startswith("<"):
        raise PathError("The path must stand in angle brackets", malformed=True)
    if '"' not in argument:
        path, bracket, rest = argument[1:].partition(">")
        if bracket and (not rest or rest.startswith(" ")):
            return path, rest
        raise PathError("The path must stand in angle brackets", malformed=True)
    quoted = escaped = False
    for position, char in enumerate(argument[1:], 1):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == ">" and not quoted:
            rest = argument[position + 1 :]
            if rest and not rest.startswith(" "):
                break
            return argument[1:position], rest
    raise PathError("The path must stand in angle brackets", malformed=True)


def _check(address: str, path: str) -> None:
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        raise PathError("The path must be <local@domain>")
    if _octets(local) > LOCAL_MAX:
        raise PathError(f"The local part has more than {LOCAL_MAX} octets")
    if _octets(domain) > DOMAIN_MAX:
        raise PathError(f"The domain has more than {DOMAIN_MAX} octets")
    if _octets(path) + 2 > PATH_MAX:
        raise PathError(f"The path has more than {PATH_MAX} octets")
    if not (DOT_STRING.fullmatch(local) or QUOTED.fullmatch(local)):
        raise PathError("The local part is not a valid one")
    if not (is_address_literal(domain) or DOMAIN.fullmatch(domain)):
        raise PathError("The domain is not a valid one")


def _octets(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def is_address_literal(text: str) -> bool:
    """[192.0.2.1] or [IPv6:2001:db8::1] (RFC 5321 4.1.3)."""
    # Python takes any text at all for the zone behind a "%", a bracket and a quote too.
    if not (text.startswith("[") and text.endswith("]")) or "%" in text:
        return False
    inner = text[1:-1]
    try:
        if inner[:5].upper() == "IPV6:":
            IPv6Address(inner[5:])
        else:
            IPv4Address(inner)
    except ValueError:
        return False
    return True


def is_helo_name(text: str) -> bool:
    """What may follow EHLO: a domain (RFC 5321 4.1.1.1; underscores are seen in the wild) or an address literal."""
    if not text.isascii() or len(text) > DOMAIN_MAX:
        return False
    return bool(DOMAIN.fullmatch(text.removesuffix("."))) or is_address_literal(text)


def _parameters(rest: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for word in rest.split():
        match = PARAMETER.fullmatch(word)
        if not match:
            raise PathError("A parameter must be KEYWORD or KEYWORD=value", malformed=True)
        keyword = match[1].upper()
        if keyword in found:
            raise PathError(f"{keyword} is given twice", malformed=True)
        found[keyword] = match[2]
    return found


NOTIFY_WORDS = {"SUCCESS", "FAILURE", "DELAY"}


def check_notify(value: str | None) -> str:
    """RFC 3461 4.1: NEVER alone, or a list of the others; the words as they came. Raises PathError."""
    words = (value or "").upper().split(",")
    if words != ["NEVER"] and (not set(words) <= NOTIFY_WORDS or len(set(words)) != len(words)):
        raise PathError("NOTIFY takes NEVER alone, or SUCCESS, FAILURE and DELAY", malformed=True)
    return value or ""


def check_xtext(name: str, value: str | None, most: int) -> str:
    """RFC 3461 4: printable ASCII with + escapes. Raises PathError."""
    if not value or len(value) > most or not XTEXT.fullmatch(value):
        raise PathError(f"{name} is not valid xtext of {most} characters at most", malformed=True)
    return value
