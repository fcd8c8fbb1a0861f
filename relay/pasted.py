"""What people paste when mail was refused: a reply, a line of a mail log, an exception; and the reference in it.

Shapes  reference_in(text): as it is stored. reply_in(text) -> PastedReply(code, enhanced, text without the reference).
Errors  None: both are None where there is none.
Source  RFC 5321 4.2 (replies), RFC 2034 (enhanced codes in them), relay/smtp/replies.py (our references).
"""

import re
from dataclasses import dataclass

# "550 5.7.1 …", a line of several "550-5.7.1 …", and as Python's smtplib shows it: (550, b'5.7.1 …').
_REPLY = re.compile(r"(?<![\w.])([245][0-5]\d)(?:[ ,:'\")-]+|$)(?:\(?b?['\"])?(?:#?([245]\.\d{1,3}\.\d{1,3})\b[ :]*)?")
_TAIL = re.compile(r"\s*\[ref\b.*", re.IGNORECASE)
_QUOTED = re.compile(r"(?:\[\s*ref[\s:]+|\bOK: (?:queued|held) as )([0-9A-Za-z]{10})\b", re.IGNORECASE)
_ALONE = re.compile(r"\[?(?:ref[\s:]+)?([0-9A-Za-z]{10})\]?", re.IGNORECASE)
# Crockford base32: what is read as O, I or L was 0 or 1.
_READ_AS = str.maketrans("OIL", "011")


@dataclass(frozen=True, slots=True)
class PastedReply:
    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)


def reference_in(text: str) -> str | None:
    """Of a whole reply ("535 5.7.8 … [ref K7Q2MX9TA4]", "250 2.0.0 OK: queued as …"), or one that stands alone."""
    found = _QUOTED.search(text) or _ALONE.fullmatch(text.strip())
    canonical = found[1].upper().translate(_READ_AS) if found else "U"
    return None if "U" in canonical else canonical


def reply_in(text: str) -> PastedReply | None:
    """The first one with an enhanced code of its kind, else the first that refuses. Line breaks do not count."""
    line = " ".join(text.split())
    found = [PastedReply(int(m[1]), m[2] or "", _words(line[m.end() :])) for m in _REPLY.finditer(line)]
    complete = (each for each in found if each.enhanced[:1] == str(each.code)[:1])
    refusing = (each for each in found if each.code >= 400 and not each.enhanced)
    return next(complete, None) or next(refusing, None)


def _words(text: str) -> str:
    return _TAIL.sub("", text).strip(" '\")")
