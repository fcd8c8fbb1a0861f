"""DMARC: the policy that holds for a domain, found as a receiver finds it.

Shapes  discover(domain) -> Policy, or the problem's code. parsed(record) -> Policy. organizational_domain(name): the
        registered domain above it, by the public suffix list.
Errors  DmarcError with the code of what is wrong, for words.py. NoAnswer where the DNS did not say anything.
Source  RFC 7489 3.2 (organizational domain), 6.3 (tags), 6.6.3 (discovery), 7.1 (reports to other domains).
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from publicsuffixlist import PublicSuffixList

from relay.resolver import query

POLICIES: Final = ("none", "quarantine", "reject")
REPORTS_MAX: Final = 10
_TAG = re.compile(r"\s*([A-Za-z]+)\s*=\s*(.*?)\s*", re.DOTALL)
_REPORT = re.compile(r"mailto:([^@\s!,]+@([^@\s!,]+))(?:![0-9]+[kmgt]?)?", re.IGNORECASE)


class NoAnswer(Exception):
    """The DNS could not be asked."""


class DmarcError(Exception):
    """code: for words.py."""

    def __init__(self, code: str, subject: str = "") -> None:
        super().__init__(code)
        self.code, self.subject = code, subject


@dataclass(frozen=True, slots=True)
class Policy:
    """name: where the record stands. applies: what receivers do with mail of this domain that fails."""

    name: str
    record: str
    applies: str
    percent: int = 100
    strict_dkim: bool = False
    strict_spf: bool = False
    reports: tuple[str, ...] = ()
    unauthorized: tuple[str, ...] = ()  # domains in rua= that have not agreed to get reports


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def organizational_domain(name: str) -> str:
    """The name itself where it is a public suffix, or below none that is known."""
    found = _suffixes().privatesuffix(name.lower().rstrip("."))
    return str(found) if found else name


async def discover(domain: str, *, fresh: bool = False) -> Policy:
    """Of the domain itself, else of its organizational domain. Raises DmarcError, NoAnswer."""
    above = organizational_domain(domain)
    for owner in dict.fromkeys((domain, above)):
        name = f"_dmarc.{owner}"
        answer = await query(name, "TXT", fresh=fresh)
        if not answer.is_known:
            raise NoAnswer(name)
        found = [text for text in answer.texts if re.match(r"v\s*=\s*DMARC1\s*(;|$)", text)]
        if len(found) > 1:
            raise DmarcError("dmarc_many", name)
        if found:
            policy = parsed(found[0], name=name, is_above=owner != domain)
            return await _with_agreement(policy, owner, fresh=fresh)
        if near := [text for text in answer.texts if "dmarc1" in text.lower()]:
            raise DmarcError("dmarc_version", near[0][:100])
    raise DmarcError("dmarc_none", f"_dmarc.{domain}")


def parsed(record: str, *, name: str = "", is_above: bool = False) -> Policy:
    """Raises DmarcError where receivers would leave the record out."""
    tags = _tags(record)
    reports = tuple(found[1] for found in _REPORT.finditer(tags.get("rua", "")))[:REPORTS_MAX]
    policy = tags.get("p", "").lower()
    if policy not in POLICIES:
        if not reports:
            raise DmarcError("dmarc_policy", tags.get("p", ""))
        policy = "none"  # 6.6.3: with an address for reports it counts as that
    below = tags.get("sp", "").lower()
    return Policy(
        name,
        record,
        applies=below if is_above and below in POLICIES else policy,
        percent=int(tags["pct"]) if re.fullmatch(r"\d{1,2}|100", tags.get("pct", "")) else 100,
        strict_dkim=tags.get("adkim", "").lower() == "s",
        strict_spf=tags.get("aspf", "").lower() == "s",
        reports=reports,
    )


def _tags(record: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in record.split(";"):
        if not part.strip():
            continue
        found = _TAG.fullmatch(part)
        if not found:
            raise DmarcError("dmarc_syntax", part.strip()[:100])
        tags.setdefault(found[1].lower(), found[2])
    return tags


async def _with_agreement(policy: Policy, owner: str, *, fresh: bool) -> Policy:
    """7.1: a domain elsewhere gets reports only if it says so in its own DNS."""
    refused = []
    for domain in sorted({address.rpartition("@")[2].lower() for address in policy.reports}):
        if organizational_domain(domain) == organizational_domain(owner):
            continue
        answer = await query(f"{owner}._report._dmarc.{domain}", "TXT", fresh=fresh)
        if answer.is_known and not any(text.lower().startswith("v=dmarc1") for text in answer.texts):
            refused.append(domain)
    return replace(policy, unauthorized=tuple(refused))
