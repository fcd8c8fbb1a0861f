"""What follows from a look at a domain's DNS: history, verification, keys that begin to sign, alerts.

Shapes  check(domain) looks now and returns the domain as it is then; check_due() looks at those whose time has come.
Units   CONFIRM: a record that broke is told when a second look finds the same. GRACE: a holder whose proof is gone
        keeps the domain so long, unless another organization proves it. KEPT, EPISODES_MAX: of the history.
Errors  Busy: a look at this domain is under way or was just made. Those of the database.
Source  docs/delivery.md, Sending domains.

The DNS is asked outside any transaction; what it said is written under the domain's lock. An answer that did not come
changes nothing: only what the DNS says ends a verification, and only what it says begins one.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from audit.changes import SYSTEM, Actor, record_change
from relay import dkim_keys
from relay.changes import announce
from relay.dns_records import look as looking
from relay.dns_records import telling
from relay.dns_records.look import Finding
from relay.dns_records.wanted import Plan, plan_of
from relay.logs import get_logger
from relay.models import DkimKey, DomainRecord, Proof, RecordKind, RecordState, SendingDomain

CONFIRM: Final = timedelta(minutes=10)
GRACE: Final = timedelta(days=3)
KEPT: Final = timedelta(days=400)
EPISODES_MAX: Final = 300
APART: Final = timedelta(seconds=5)  # between two looks that people ask for
RUN_SECONDS: Final = 45.0
DUE_MAX: Final = 60  # domains that are looked at together
AT_ONCE: Final = 12

log = get_logger(__name__)


class Busy(Exception):
    """Looked at a moment ago."""


@dataclass(frozen=True, slots=True)
class Looked:
    """rival: what the DNS says of the organization that holds the domain, where another one shows its proof."""

    domain_id: int
    findings: Sequence[Finding]
    rival_id: int | None = None
    rival: Finding | None = None


# --- Looking ----------------------------------------------------------------------------------------------------------


def check(domain: SendingDomain, *, actor: Actor = SYSTEM, fresh: bool = True) -> SendingDomain | None:
    """None if the domain was removed meanwhile. Raises Busy."""
    now = timezone.now()
    free = Q(checked_at=None) | Q(checked_at__lt=now - APART)
    # The mark comes first: whoever clicks ten times makes one look, not ten.
    if not SendingDomain.objects.filter(free, pk=domain.pk).update(checked_at=now):
        raise Busy
    dkim_keys.ensure_keys(domain)
    return keep(asyncio.run(_look(domain.pk, plan_of(domain), _holder_of(domain), fresh=fresh)), actor=actor)


def check_due(*, seconds: float = RUN_SECONDS) -> int:
    """How many were looked at, until none is due or the time is over. Two runs at once look at different ones."""
    ends_at, looked_at = monotonic() + seconds, 0
    while number := _check_some():
        looked_at += number
        if monotonic() > ends_at:
            break
    return looked_at


def _check_some() -> int:
    due = _claimed(timezone.now())
    for domain in due:
        dkim_keys.ensure_keys(domain)
    asked = [(domain.pk, plan_of(domain), _holder_of(domain)) for domain in due]
    for looked in asyncio.run(_look_at_all(asked)):
        keep(looked)
    return len(due)


@transaction.atomic
def _claimed(now: datetime) -> list[SendingDomain]:
    waiting = SendingDomain.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
    due = list(waiting.filter(next_check_at__lte=now).order_by("next_check_at")[:DUE_MAX])
    later = now + CONFIRM  # if this run dies
    SendingDomain.objects.filter(pk__in=[domain.pk for domain in due]).update(next_check_at=later, checked_at=now)
    return due


def _holder_of(domain: SendingDomain) -> SendingDomain | None:
    """Who else has it verified by DNS. A domain that an operator gave away is an operator's to take back."""
    if domain.verified_at:
        return None
    return SendingDomain.objects.filter(name=domain.name, proof=Proof.DNS).exclude(pk=domain.pk).first()


async def _look_at_all(asked: Sequence[tuple[int, Plan, SendingDomain | None]]) -> list[Looked]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(domain_id: int, plan: Plan, holder: SendingDomain | None) -> Looked:
        async with gate:
            return await _look(domain_id, plan, holder, fresh=False)

    return await asyncio.gather(*(one(*each) for each in asked))


async def _look(domain_id: int, plan: Plan, holder: SendingDomain | None, *, fresh: bool) -> Looked:
    findings = await looking.look(plan, fresh=fresh)
    if holder is None or _of_kind(findings, RecordKind.OWNERSHIP).state != RecordState.OK:
        return Looked(domain_id, findings)
    theirs = Plan(holder.name, holder.challenge)
    return Looked(domain_id, findings, holder.pk, await looking.ownership(theirs, fresh=True))


def _of_kind(findings: Sequence[Finding], kind: RecordKind) -> Finding:
    return next(each for each in findings if each.kind == kind)


# --- Keeping ----------------------------------------------------------------------------------------------------------


def keep(looked: Looked, *, actor: Actor = SYSTEM, now: datetime | None = None) -> SendingDomain | None:
    """Writes down what was found and acts on it."""
    now = now or timezone.now()
    if looked.rival_id and looked.rival and looked.rival.state in {RecordState.MISSING, RecordState.WRONG}:
        _hand_over(looked.rival_id, looked.rival, now=now)
    with transaction.atomic():
        domain = SendingDomain.objects.select_for_update(no_key=True).filter(pk=looked.domain_id).first()
        if domain is None:
            return None
        records = _episodes(domain, looked.findings, now=now)
        telling.tell(domain, records, confirm=CONFIRM, grace=GRACE, now=now)
        domain.checked_at, domain.next_check_at = now, next_check(domain, records, now=now)
        domain.save(update_fields=["checked_at", "next_check_at"])
        _keys(looked.findings, now=now)
        _judge_proof(domain, _of_kind(looked.findings, RecordKind.OWNERSHIP), actor=actor, now=now)
    return domain


def _episodes(domain: SendingDomain, findings: Sequence[Finding], *, now: datetime) -> list[DomainRecord]:
    """The rows that say what is so now."""
    current = {(row.kind, row.name): row for row in domain.records.filter(ended_at=None)}
    records = [_episode(domain, finding, current.pop((finding.kind, finding.name), None), now) for finding in findings]
    for row in current.values():  # a record that is not asked for any more
        _end(row, now)
    ended = domain.records.filter(ended_at__isnull=False).order_by("-began_at")
    if (oldest := ended[EPISODES_MAX : EPISODES_MAX + 1].first()) is not None:
        ended.filter(began_at__lte=oldest.began_at).delete()
    return records


def _episode(domain: SendingDomain, finding: Finding, row: DomainRecord | None, now: datetime) -> DomainRecord:
    if row and finding.state == RecordState.UNKNOWN:
        row.unanswered_at = now
        row.save(update_fields=["unanswered_at"])
        return row
    problems = [[code, facts] for code, facts in finding.problems]
    found = sorted(finding.found)
    if row and (row.state, row.problems, row.found) == (finding.state, problems, found):
        row.last_at, row.unanswered_at = now, None
        row.save(update_fields=["last_at", "unanswered_at"])
        return row
    told_at = (
        row.told_at if row and row.is_broken and finding.state in {RecordState.MISSING, RecordState.WRONG} else None
    )
    if row:
        _end(row, now)
    return DomainRecord.objects.create(
        domain=domain,
        kind=finding.kind,
        name=finding.name,
        state=finding.state,
        problems=problems,
        found=found,
        began_at=now,
        last_at=now,
        told_at=told_at,
    )


def _end(row: DomainRecord, now: datetime) -> None:
    row.ended_at = now
    row.save(update_fields=["ended_at"])


def _keys(findings: Sequence[Finding], *, now: datetime) -> None:
    asked = {each.key.id: each for each in findings if each.key and each.state != RecordState.UNKNOWN}
    for key in DkimKey.objects.filter(pk__in=asked, erased_at=None).select_related("domain"):
        is_right = asked[key.pk].state in {RecordState.OK, RecordState.WEAK}
        dkim_keys.seen(key, is_right=is_right, now=now)


# --- Verification -----------------------------------------------------------------------------------------------------


def _judge_proof(domain: SendingDomain, finding: Finding, *, actor: Actor, now: datetime) -> None:
    if finding.state == RecordState.UNKNOWN:
        return
    is_there = finding.state == RecordState.OK
    if is_there and domain.verified_at is None:
        _verify(domain, actor=actor, now=now)
    elif is_there and domain.proof_lost_at:
        domain.proof_lost_at = None
        domain.save(update_fields=["proof_lost_at"])
    elif not is_there and domain.verified_at and domain.proof == Proof.DNS:
        if domain.proof_lost_at is None:
            domain.proof_lost_at = now
            domain.save(update_fields=["proof_lost_at"])
        elif now - domain.proof_lost_at >= GRACE:
            _lose(domain, "domain.verification_lost", now=now)


def _verify(domain: SendingDomain, *, actor: Actor, now: datetime) -> None:
    """Nothing happens where another organization holds it: the page says so."""
    domain.verified_at, domain.proof, domain.verified_by, domain.proof_lost_at = now, Proof.DNS, None, None
    try:
        with transaction.atomic():
            domain.save(update_fields=["verified_at", "proof", "verified_by", "proof_lost_at"])
    except IntegrityError:
        domain.refresh_from_db()
        return
    domain.next_check_at = now + CONFIRM
    domain.save(update_fields=["next_check_at"])
    announce(domain.organization_id)
    _changed(domain, "domain.verified", actor, how="dns")
    log.info("domain.verified", domain=domain.name, organization_id=domain.organization_id)


@transaction.atomic
def _hand_over(holder_id: int, finding: Finding, *, now: datetime) -> None:
    """The holder's proof is gone from the DNS and another one's is there: whoever runs the DNS has decided."""
    holder = SendingDomain.objects.select_for_update(no_key=True).filter(pk=holder_id, proof=Proof.DNS).first()
    if holder:
        log.info("domain.handed_over", domain=holder.name, organization_id=holder.organization_id, found=finding.state)
        _lose(holder, "domain.verification_passed_on", now=now)


def _lose(domain: SendingDomain, action: str, *, now: datetime) -> None:
    domain.verified_at = domain.verified_by = domain.proof_lost_at = None
    domain.proof = ""
    domain.next_check_at = now + CONFIRM
    domain.save(update_fields=["verified_at", "verified_by", "proof_lost_at", "proof", "next_check_at"])
    announce(domain.organization_id)
    telling.verification_ended(domain, passed_on=action == "domain.verification_passed_on")
    _changed(domain, action, SYSTEM)


def _changed(domain: SendingDomain, action: str, actor: Actor, **values: str) -> None:
    record_change(
        action,
        organization_id=domain.organization_id,
        actor=actor,
        subject=domain.name,
        subject_id=str(domain.pk),
        values=values,
    )


# --- When again -------------------------------------------------------------------------------------------------------


def next_check(domain: SendingDomain, records: Sequence[DomainRecord], *, now: datetime) -> datetime:
    """Soon where something is about to change; a domain that nobody finishes is asked about ever more seldom."""
    return now + _pause(domain, records, now) * random.uniform(0.9, 1.1)  # noqa: S311  # spreads load, hides nothing


def _pause(domain: SendingDomain, records: Sequence[DomainRecord], now: datetime) -> timedelta:
    age = now - domain.created_at
    if domain.verified_at is None:
        for limit, pause in ((1, timedelta(minutes=2)), (72, timedelta(hours=1)), (720, timedelta(days=1))):
            if age < timedelta(hours=limit):
                return pause
        return timedelta(days=7)
    if any(row.is_broken and now - row.began_at < timedelta(hours=1) for row in records):
        return CONFIRM
    if any(row.unanswered_at for row in records):
        return timedelta(minutes=30)
    if dkim_keys.is_awaited(domain):
        newest = domain.dkim_keys.order_by("-created_at").values_list("created_at", flat=True).first()
        return dkim_keys.SEEN_FOR if newest and now - newest < timedelta(days=2) else timedelta(hours=2)
    return timedelta(hours=6)


def forget_old_records(*, now: datetime | None = None) -> int:
    now = now or timezone.now()
    return DomainRecord.objects.filter(ended_at__lt=now - KEPT).delete()[0]
