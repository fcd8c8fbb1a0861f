"""One look at the DNS of a sending domain: each record asked for and judged.

Shapes  await look(plan) -> a Finding for each record. fresh: past the resolver's memory, for people who wait for it.
Units   SECONDS for one record with all that it leads to; records are asked at the same time.
Errors  None: what could not be found out is UNKNOWN, and changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from audit.record import printable
from relay.dns_records import dkim_record, dmarc, spf, wanted
from relay.dns_records.spf import LOOKUPS_MAX, VOIDS_MAX, Evaluation, Result
from relay.dns_records.wanted import AskedKey, Plan, Wanted
from relay.logs import get_logger
from relay.models import RecordKind, RecordState
from relay.resolver import Answer, plain, query

SECONDS: Final = 12.0
FOUND_MAX, TEXT_MAX = 5, 600
MENDABLE: Final = frozenset({"dkim_testing"})  # what does not keep the record from working

Problem = tuple[str, dict[str, Any]]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    kind: RecordKind
    name: str
    state: RecordState
    problems: tuple[Problem, ...] = ()
    found: tuple[str, ...] = ()
    key: AskedKey | None = None


async def look(plan: Plan, *, fresh: bool = False) -> list[Finding]:
    asked = [(each, _judge(plan, each, fresh=fresh)) for each in wanted.wanted(plan)]
    return await asyncio.gather(*(_bounded(each, judging) for each, judging in asked))


async def ownership(plan: Plan, *, fresh: bool = False) -> Finding:
    """That one alone: does the other organization, which holds the domain, still show it?"""
    asked = wanted.ownership(plan)
    return await _bounded(asked, _ownership(plan, asked, fresh=fresh))


def _judge(plan: Plan, asked: Wanted, *, fresh: bool) -> Awaitable[Finding]:
    judges = {
        RecordKind.OWNERSHIP: _ownership,
        RecordKind.DKIM: _dkim,
        RecordKind.SPF: _spf,
        RecordKind.DMARC: _dmarc,
        RecordKind.RETURN_PATH: _return_path,
    }
    return judges[asked.kind](plan, asked, fresh=fresh)


async def _bounded(asked: Wanted, judging: Awaitable[Finding]) -> Finding:
    try:
        async with asyncio.timeout(SECONDS):
            return await judging
    except TimeoutError:
        return _unknown(asked)
    except Exception:  # whatever somebody put into the DNS: one record must not spoil the look at the others
        log.exception("dns_records.look_failed", name=asked.name, kind=asked.kind)
        return _unknown(asked)


# --- Each record -----------------------------------------------------------------------------------------------------
async def _ownership(plan: Plan, asked: Wanted, *, fresh: bool) -> Finding:
    assert asked.alternative is not None
    text, alias = await asyncio.gather(
        query(asked.name, "TXT", fresh=fresh), query(asked.alternative[0], "CNAME", fresh=fresh)
    )
    if asked.value in (each.strip() for each in text.texts) or plain(asked.alternative[2]) in alias.targets:
        return _finding(asked, RecordState.OK, found=[*text.texts, *alias.targets])
    if not text.is_known or not alias.is_known:
        return _unknown(asked)
    others = [each for each in text.texts if each.strip().startswith(wanted.PROOF_WORD)]
    if others or alias.targets:
        return _finding(asked, RecordState.WRONG, ("ownership_other", {}), found=[*others, *alias.targets])
    return await _missing(plan, asked, "ownership_none", fresh=fresh)


async def _dkim(plan: Plan, asked: Wanted, *, fresh: bool) -> Finding:
    assert asked.key is not None
    answer = await query(asked.name, "TXT", fresh=fresh)
    if not answer.is_known:
        return _unknown(asked)
    code, subject = dkim_record.judged(answer.texts, algorithm=asked.key.algorithm, public=asked.key.public)
    if code == "dkim_none":
        return await _missing(plan, asked, code, fresh=fresh)
    problems = [(code, {"subject": subject})] if code else []
    state = RecordState.OK if not code else RecordState.WEAK if code in MENDABLE else RecordState.WRONG
    return _finding(asked, state, *problems, found=answer.texts)


async def _spf(plan: Plan, asked: Wanted, *, fresh: bool) -> Finding:
    walk = await spf.evaluate(plan.name, ip=None, fresh=fresh)
    found = [walk.record] if walk.record else []
    if walk.result == Result.TEMPERROR:
        return _unknown(asked)
    if walk.result == Result.NONE:
        return _finding(asked, RecordState.MISSING, ("spf_none" if asked.value else "spf_none_known", {}))
    if walk.result == Result.PERMERROR and walk.problem != "spf_lookups":
        return _finding(asked, RecordState.WRONG, (walk.problem, {"subject": walk.subject}), found=found)
    results = [(ip, await spf.evaluate(plan.name, ip=ip, fresh=fresh)) for ip in plan.addresses]
    if any(each.result == Result.TEMPERROR for _ip, each in results):
        return _unknown(asked)
    problems = [*_not_ours(plan, walk, results), *_costs(walk), *_openness(walk.record)]
    is_ours = not {"spf_not_us", "spf_not_included"} & {code for code, _facts in problems}
    # Ten lookups are the end for a receiver, unless every address of ours was met before.
    if not is_ours or (walk.lookups > LOOKUPS_MAX and not results):
        state = RecordState.WRONG
    else:
        state = RecordState.WEAK if problems else RecordState.OK
    return _finding(asked, state, *problems, found=found)


def _not_ours(plan: Plan, walk: Evaluation, results: Sequence[tuple[str, Evaluation]]) -> list[Problem]:
    if results:
        failed = [(ip, each) for ip, each in results if each.result != Result.PASS]
        return [("spf_not_us", {"ip": ip, "result": str(each.result)}) for ip, each in failed[:1]]
    if plan.spf_include and plan.spf_include not in walk.included:
        return [("spf_not_included", {"include": plan.spf_include})]
    return []


def _costs(walk: Evaluation) -> list[Problem]:
    if walk.lookups > LOOKUPS_MAX:
        return [("spf_lookups", {"lookups": walk.lookups})]
    return [("spf_voids", {"voids": walk.voids})] if walk.voids > VOIDS_MAX else []


def _openness(record: str) -> list[Problem]:
    terms = [term.lower() for term in record.split()[1:]]
    if {"all", "+all"} & set(terms):
        return [("spf_open", {})]
    ends = any(term.lstrip("+-~?") == "all" or term.startswith("redirect=") for term in terms)
    return [] if ends else [("spf_no_end", {})]


async def _dmarc(plan: Plan, asked: Wanted, *, fresh: bool) -> Finding:
    try:
        policy = await dmarc.discover(plan.name, fresh=fresh)
    except dmarc.NoAnswer:
        return _unknown(asked)
    except dmarc.DmarcError as error:
        if error.code == "dmarc_none":
            return await _missing(plan, asked, error.code, fresh=fresh)
        return _finding(asked, RecordState.WRONG, (error.code, {"subject": error.subject}))
    problems: list[Problem] = []
    if policy.applies == "none":
        problems.append(("dmarc_watches", {}))
    elif policy.percent < 100:
        problems.append(("dmarc_percent", {"percent": policy.percent}))
    if policy.unauthorized:
        problems.append(("dmarc_reports", {"subject": ", ".join(policy.unauthorized)}))
    state = RecordState.WEAK if problems else RecordState.OK
    return _finding(asked, state, *problems, found=[f"{policy.name}: {policy.record}"])


async def _return_path(plan: Plan, asked: Wanted, *, fresh: bool) -> Finding:
    answer = await query(asked.name, "CNAME", fresh=fresh)
    if not answer.is_known:
        return _unknown(asked)
    if plain(asked.value) in answer.targets:
        return _finding(asked, RecordState.OK, found=answer.targets)
    if answer.targets:
        return _finding(asked, RecordState.WRONG, ("return_path_other", {}), found=answer.targets)
    return await _missing(plan, asked, "return_path_none", fresh=fresh)


# --- Findings --------------------------------------------------------------------------------------------------------
async def _missing(plan: Plan, asked: Wanted, code: str, *, fresh: bool) -> Finding:
    """Many forms for DNS records add the domain by themselves: what was pasted whole then stands below it twice."""
    twice: Answer = await query(f"{asked.name}.{plan.name}", asked.type, fresh=fresh)
    if twice.records and asked.kind != RecordKind.SPF:
        return _finding(asked, RecordState.MISSING, ("doubled", {"name": f"{asked.name}.{plan.name}"}))
    return _finding(asked, RecordState.MISSING, (code, {}))


def _unknown(asked: Wanted) -> Finding:
    return _finding(asked, RecordState.UNKNOWN, ("no_answer", {}))


def _finding(asked: Wanted, state: RecordState, *problems: Problem, found: Sequence[str] = ()) -> Finding:
    """Texts of strangers come out printable and bounded: they are stored and shown."""
    clean = tuple((code, {name: _clean(value) for name, value in facts.items()}) for code, facts in problems)
    shown = tuple(printable(text, TEXT_MAX) for text in found[:FOUND_MAX])
    return Finding(asked.kind, asked.name, state, clean, shown, asked.key)


def _clean(value: Any) -> Any:
    return printable(value, 253) if isinstance(value, str) else value
