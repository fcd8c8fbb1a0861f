"""Domains of the seeded customer: one that signs, with a rotation under way and a history; one that nobody finished.

Shapes  domains(full) -> the ids of both. What the DNS would have said is written as a check writes it.
"""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from relay import dkim_keys
from relay.dns_records import wanted
from relay.dns_records.keep import Looked, keep
from relay.dns_records.look import Finding
from relay.domains import add_domain, mark_verified
from relay.models import RecordKind, RecordState, SendingDomain

LONG = "m" * 60


def domains(full: Organization) -> dict[str, Any]:
    verified = add_domain(full, name="full.example", actor=SYSTEM)
    mark_verified(verified, actor=SYSTEM, verified_by=None)
    _looked(verified, dkim=RecordState.MISSING, ago=timedelta(days=3))
    _looked(verified, dkim=RecordState.OK, ago=timedelta(days=2))
    dkim_keys.rotate(verified, actor=SYSTEM)
    _looked(verified, dkim=RecordState.MISSING, ago=timedelta(hours=1))
    unfinished = add_domain(full, name=f"{LONG}.example", actor=SYSTEM)
    _looked(unfinished, dkim=RecordState.WRONG, ago=timedelta(minutes=5))
    return {"verified_domain_id": verified.pk, "domain_id": unfinished.pk, "domain_pk": unfinished.pk}


def _looked(domain: SendingDomain, *, dkim: RecordState, ago: timedelta) -> None:
    dkim_keys.ensure_keys(domain)
    findings = [_finding(each, dkim) for each in wanted.wanted(wanted.plan_of(domain))]
    keep(Looked(domain.pk, findings), now=timezone.now() - ago)
    domain.refresh_from_db()


def _finding(asked: wanted.Wanted, dkim: RecordState) -> Finding:
    if asked.kind == RecordKind.DKIM and asked.key and asked.key.state != "signing":
        problems = {RecordState.MISSING: ("dkim_none", {}), RecordState.WRONG: ("dkim_cut", {"subject": "245"})}
        told = (problems[dkim],) if dkim in problems else ()
        shown = (asked.value[:245],) if dkim == RecordState.WRONG else ()
        return Finding(asked.kind, asked.name, dkim, told, shown, asked.key)
    if asked.kind == RecordKind.SPF:
        found = ("v=spf1 include:_spf.one.example include:_spf.two.example include:_spf.three.example ~all",)
        return Finding(asked.kind, asked.name, RecordState.WEAK, (("spf_lookups", {"lookups": 14}),), found)
    if asked.kind == RecordKind.DMARC:
        return Finding(asked.kind, asked.name, RecordState.WEAK, (("dmarc_watches", {}),), (asked.value,))
    state = RecordState.MISSING if asked.kind == RecordKind.OWNERSHIP else RecordState.OK
    told = (("ownership_none", {}),) if state == RecordState.MISSING else ()
    return Finding(asked.kind, asked.name, state, told, (), asked.key)
