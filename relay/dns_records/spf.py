"""SPF: evaluated for one address as a receiver does, or walked through to the end to count what it costs.

Shapes  evaluate(domain, ip) -> Evaluation with the result of RFC 7208. Without ip nothing matches, so every term is
        looked at: what a receiver pays in the worst case, and which problems are hidden behind an early match.
Units   lookups: terms that cost a DNS question (ten at most, 4.6.4); voids: of them, without an answer (two at most).
Errors  None: temperror and permerror are results; problem is the code of what caused them, for words.py, with subject.
Source  RFC 7208: 4 (check_host), 5 (mechanisms), 6.1 (redirect), 7 (macros).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from relay.dns_records import spf_macros
from relay.dns_records.spf_macros import Facts, MacroError
from relay.resolver import Answer, Outcome, query

LOOKUPS_MAX: Final = 10
VOIDS_MAX: Final = 2
WALKED_MAX: Final = 40  # of a walk, which goes on behind the limit to say by how much it is passed
HOSTS_MAX: Final = 10  # names of one mx or ptr
TERMS_MAX: Final = 200
_DUAL = re.compile(r"(?::(?P<domain>.+?))?(?:/(?P<four>\d{1,3}))?(?://(?P<six>\d{1,3}))?")
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(.*)", re.DOTALL)
_MECHANISM = re.compile(r"([+\-?~]?)([A-Za-z][A-Za-z0-9._-]*)(.*)", re.DOTALL)
_QUALIFIERS: Final = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral", "": "pass"}
_KNOWN: Final = frozenset({"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"})

Address = IPv4Address | IPv6Address


class Result(StrEnum):
    PASS = "pass"  # noqa: S105  # the word of the RFC
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    PERMERROR = "permerror"
    TEMPERROR = "temperror"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """record: the domain's own one. included: names that include and redirect led to, as they were met."""

    result: Result
    record: str = ""
    lookups: int = 0
    voids: int = 0
    problem: str = ""
    subject: str = ""
    included: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Term:
    """A mechanism with its qualifier's result, or a modifier (result empty)."""

    name: str
    text: str
    result: str = ""
    domain: str = ""
    four: int = 32
    six: int = 128


class _Stop(Exception):
    """The evaluation ends here: permerror or temperror, with the problem's code and what it is about."""

    def __init__(self, result: Result, problem: str, subject: str = "") -> None:
        super().__init__(problem)
        self.result, self.problem, self.subject = result, problem, subject


async def evaluate(domain: str, *, ip: str | None, sender: str = "", fresh: bool = False) -> Evaluation:
    check = _Check(ip_address(ip) if ip else None, sender or f"postmaster@{domain}", fresh=fresh)
    try:
        result, problem, subject = await check.host(domain), "", ""
    except _Stop as stop:
        result, problem, subject = stop.result, stop.problem, stop.subject
    return Evaluation(result, check.record, check.lookups, check.voids, problem, subject[:253], tuple(check.included))


def records_of(answer: Answer) -> list[str]:
    """Those of the TXT records that are SPF (4.5)."""
    return [text for text in answer.texts if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")]


def parsed(record: str) -> list[Term]:
    """Raises _Stop: a mistake anywhere in a record spoils all of it (4.6)."""
    words = record.split(" ")[1:]
    if len(words) > TERMS_MAX:
        raise _Stop(Result.PERMERROR, "spf_syntax", "…")
    terms = [_term(word) for word in words if word]
    for once in ("redirect", "exp"):  # 6: at most one of each
        if sum(term.name == once and not term.result for term in terms) > 1:
            raise _Stop(Result.PERMERROR, "spf_syntax", f"{once}=")
    return terms


def _term(word: str) -> Term:
    if modifier := _MODIFIER.fullmatch(word):
        name, value = modifier[1].lower(), modifier[2]
        if not spf_macros.is_valid(value) or (name in {"redirect", "exp"} and not value):
            raise _Stop(Result.PERMERROR, "spf_syntax", word)
        return Term(name, word, domain=value)
    mechanism = _MECHANISM.fullmatch(word)
    if not mechanism or mechanism[2].lower() not in _KNOWN:
        raise _Stop(Result.PERMERROR, "spf_syntax", word)
    term = _shaped(mechanism[2].lower(), mechanism[3], word, _QUALIFIERS[mechanism[1]])
    if term is None:
        raise _Stop(Result.PERMERROR, "spf_syntax", word)
    return term


def _shaped(name: str, rest: str, word: str, result: str) -> Term | None:
    if name == "all":
        return None if rest else Term(name, word, result)
    if name in {"ip4", "ip6"}:
        return Term(name, word, result, rest[1:]) if _network(name, rest) else None
    if name in {"include", "exists"}:
        value = rest[1:] if rest.startswith(":") else ""
        return Term(name, word, result, value) if value and spf_macros.is_valid(value) else None
    dual = _DUAL.fullmatch(rest)
    if not dual or (name == "ptr" and (dual["four"] or dual["six"])):
        return None
    four, six, value = int(dual["four"] or 32), int(dual["six"] or 128), dual["domain"] or ""
    if four > 32 or six > 128 or (rest.startswith(":") and not value) or not spf_macros.is_valid(value):
        return None
    return Term(name, word, result, value, four, six)


def _network(name: str, rest: str) -> bool:
    try:
        return rest.startswith(":") and ip_network(rest[1:], strict=False).version == int(name[-1])
    except ValueError:
        return False


@dataclass
class _Check:
    """One evaluation: what was spent is spent for all records that it leads through."""

    ip: Address | None
    sender: str
    fresh: bool = False
    lookups: int = 0
    voids: int = 0
    record: str = ""
    included: list[str] = field(default_factory=list)

    async def host(self, domain: str) -> Result:
        terms = await self._terms(domain)
        for term in terms:
            if term.result and await self._matches(term, domain):
                return Result(term.result)
        target = next((term for term in terms if term.name == "redirect" and not term.result), None)
        if target is None or any(term.name == "all" for term in terms):  # 6.1
            return Result.NEUTRAL
        self._count(target.text)
        name = self._name(target, domain)
        if not name:
            return Result.NEUTRAL
        self.included.append(name)
        return await self.host(name)

    async def _terms(self, domain: str) -> Sequence[Term]:
        answer = await query(domain, "TXT", fresh=self.fresh)
        if not answer.is_known:
            raise _Stop(Result.TEMPERROR, "no_answer", domain)
        found = records_of(answer)
        if not found and self.record:  # 5.2 and 6.1: of an include or a redirect
            raise _Stop(Result.PERMERROR, "spf_target_empty", domain)
        if not found:
            raise _Stop(Result.NONE, "spf_none", domain)
        if len(found) > 1:
            raise _Stop(Result.PERMERROR, "spf_many", domain)
        self.record = self.record or found[0]
        return parsed(found[0])

    async def _matches(self, term: Term, domain: str) -> bool:
        if term.name == "all":
            return self.ip is not None
        if term.name in {"ip4", "ip6"}:
            network = ip_network(term.domain, strict=False)
            return self.ip is not None and self.ip.version == network.version and self.ip in network
        self._count(term.text)
        name = self._name(term, domain)
        if not name:
            return False  # its name depends on an address, and there is none
        if term.name == "include":
            return await self._includes(name)
        if term.name == "exists":
            return bool(await self._addresses(name, "A")) and self.ip is not None
        if term.name == "ptr":
            return await self._points_to(name)
        hosts = [name] if term.name == "a" else await self._mail_hosts(name)
        return await self._is_one_of(hosts, term, counts_void=term.name == "a")

    def _name(self, term: Term, domain: str) -> str:
        if self.ip is None and "%" in term.domain:
            return ""
        try:
            return spf_macros.expanded(term.domain, Facts(self.ip, self.sender, domain)) if term.domain else domain
        except MacroError:
            raise _Stop(Result.PERMERROR, "spf_syntax", term.text) from None

    async def _includes(self, name: str) -> bool:
        self.included.append(name)
        return await self.host(name) == Result.PASS

    def _count(self, text: str) -> None:
        self.lookups += 1
        if self.lookups > (WALKED_MAX if self.ip is None else LOOKUPS_MAX):
            raise _Stop(Result.PERMERROR, "spf_lookups", text)

    def _void(self, answer: Answer, name: str) -> None:
        if answer.outcome in {Outcome.NXDOMAIN, Outcome.NO_DATA}:
            self.voids += 1
            if self.voids > VOIDS_MAX and self.ip is not None:
                raise _Stop(Result.PERMERROR, "spf_voids", name)

    async def _asked(self, name: str, record_type: str, *, counts_void: bool = True) -> Answer:
        answer = await query(name, record_type, fresh=self.fresh)
        if not answer.is_known:
            raise _Stop(Result.TEMPERROR, "no_answer", name)
        if counts_void:
            self._void(answer, name)
        return answer

    async def _addresses(self, name: str, record_type: str, *, counts_void: bool = True) -> tuple[str, ...]:
        return (await self._asked(name, record_type, counts_void=counts_void)).addresses

    async def _mail_hosts(self, name: str) -> list[str]:
        hosts = list((await self._asked(name, "MX")).targets)
        if len(hosts) > HOSTS_MAX:
            raise _Stop(Result.PERMERROR, "spf_hosts", name)
        return hosts

    async def _is_one_of(self, hosts: Sequence[str], term: Term, *, counts_void: bool) -> bool:
        six = self.ip is not None and self.ip.version == 6
        length = term.six if six else term.four
        for host in hosts:
            for address in await self._addresses(host, "AAAA" if six else "A", counts_void=counts_void):
                if self.ip is not None and self.ip in ip_network((address, length), strict=False):
                    return True
        return False

    async def _points_to(self, name: str) -> bool:
        if self.ip is None:
            return False
        names = (await self._asked(_reverse(self.ip), "PTR")).targets[:HOSTS_MAX]
        record_type = "AAAA" if self.ip.version == 6 else "A"
        for host in names:
            if host == name or host.endswith(f".{name}"):
                answer = await query(host, record_type, fresh=self.fresh)  # 5.5: an error here is no match
                if str(self.ip) in {str(ip_address(each)) for each in answer.addresses}:
                    return True
        return False


def _reverse(ip: Address) -> str:
    return ip.reverse_pointer
