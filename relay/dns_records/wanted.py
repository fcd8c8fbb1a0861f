"""Which records a sending domain needs, as its owner publishes them.

Shapes  plan_of(domain) -> Plan: what the check asks, read in one go. wanted(plan) -> Wanted, one for each record.
        is_required: without it mail is not verified, not signed, or not aligned; the others make it better.
Source  docs/delivery.md, Sending domains. RFC 8552 (names that begin with _).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from django.conf import settings

from relay.domains import PROOF_HOST
from relay.models import DkimKey, RecordKind, SendingDomain
from relay.reputation.checks import configured_addresses

PROOF_WORD: Final = "gatepost-domain="
RETURN_HOST: Final = "gpbounce"


@dataclass(frozen=True, slots=True)
class AskedKey:
    id: int
    selector: str
    algorithm: str
    public: str
    state: str  # waiting, signing or retired


@dataclass(frozen=True, slots=True)
class Plan:
    """addresses: from which this installation sends, as far as it knows. spf_include: what customers' SPF includes."""

    name: str
    challenge: str
    keys: tuple[AskedKey, ...] = ()
    spf_include: str = ""
    addresses: tuple[str, ...] = ()
    bounce_domain: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """alternative: (name, type, value) of another record that does as well."""

    kind: RecordKind
    name: str
    type: str
    value: str
    is_required: bool = True
    key: AskedKey | None = None
    alternative: tuple[str, str, str] | None = field(default=None)


def plan_of(domain: SendingDomain) -> Plan:
    keys = domain.dkim_keys.filter(erased_at=None).order_by("-algorithm", "created_at")
    return Plan(
        domain.name,
        domain.challenge,
        tuple(_asked(key) for key in keys),
        settings.GATEPOST_SPF_INCLUDE,
        configured_addresses(),
        settings.GATEPOST_BOUNCE_DOMAIN,
    )


def wanted(plan: Plan) -> list[Wanted]:
    found = [ownership(plan), *(dkim(plan, key) for key in plan.keys), spf(plan), dmarc(plan)]
    return found[:1] + [return_path(plan)] * bool(plan.bounce_domain) + found[1:]


def ownership(plan: Plan) -> Wanted:
    alias = (f"_gp-{plan.challenge[:20]}.{plan.name}", "CNAME", f"{plan.challenge}.proof.{settings.GATEPOST_HOSTNAME}")
    name = f"{PROOF_HOST}.{plan.name}"
    return Wanted(RecordKind.OWNERSHIP, name, "TXT", PROOF_WORD + plan.challenge, alternative=alias)


def dkim(plan: Plan, key: AskedKey) -> Wanted:
    value = f"v=DKIM1; k={key.algorithm}; p={key.public}"
    name = f"{key.selector}._domainkey.{plan.name}"
    return Wanted(RecordKind.DKIM, name, "TXT", value, key=key, is_required=key.state != "retired")


def spf(plan: Plan, *, present: str = "") -> Wanted:
    """The record that is there with what is missing put in front of its last term, or a whole one."""
    ours = [f"include:{plan.spf_include}"] if plan.spf_include else _as_terms(plan.addresses)
    terms = present.split()[1:] if present else ["~all"]
    at = next((at for at, term in enumerate(terms) if term.lstrip("+-~?").lower() == "all"), len(terms))
    value = " ".join(["v=spf1", *terms[:at], *(term for term in ours if term not in terms), *terms[at:]])
    return Wanted(RecordKind.SPF, plan.name, "TXT", value if ours or present else "", is_required=bool(ours))


def _as_terms(addresses: Sequence[str]) -> list[str]:
    return [f"ip{ip_address(each).version}:{each}" for each in addresses]


def dmarc(plan: Plan) -> Wanted:
    return Wanted(RecordKind.DMARC, f"_dmarc.{plan.name}", "TXT", "v=DMARC1; p=none")


def return_path(plan: Plan) -> Wanted:
    return Wanted(RecordKind.RETURN_PATH, f"{RETURN_HOST}.{plan.name}", "CNAME", plan.bounce_domain, is_required=False)


def _asked(key: DkimKey) -> AskedKey:
    return AskedKey(key.pk, key.selector, key.algorithm, key.public, key.state)
