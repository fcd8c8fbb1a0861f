"""How a sending domain stands, in one look at what was kept: for pages, the scorecard, and the return path.

Shapes  standing(domain) -> Standing; standings(organization_id) of all, by name, in three queries.
Errors  Those of the database. No DNS is asked here.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.models import DkimKey, DomainRecord, RecordKind, RecordState, SendingDomain


@dataclass(frozen=True, slots=True)
class Standing:
    """states: the worst of each kind of record, those of keys that wait or are retired left out."""

    domain: SendingDomain
    states: dict[str, str] = field(default_factory=dict)
    signs: tuple[str, ...] = ()  # algorithms that sign
    waits: bool = False  # keys wait for their records

    @property
    def is_verified(self) -> bool:
        return self.domain.verified_at is not None

    @property
    def dkim(self) -> str:
        """ok only while a key signs and the records of all that sign are right."""
        return self.states.get(RecordKind.DKIM, RecordState.MISSING) if self.signs else str(RecordState.MISSING)

    @property
    def spf(self) -> str:
        return self.states.get(RecordKind.SPF, str(RecordState.UNKNOWN))

    @property
    def dmarc(self) -> str:
        return self.states.get(RecordKind.DMARC, str(RecordState.UNKNOWN))

    @property
    def return_path(self) -> str:
        return self.states.get(RecordKind.RETURN_PATH, str(RecordState.UNKNOWN))


def standing(domain: SendingDomain) -> Standing:
    return _standings([domain])[0]


def standings(organization_id: int) -> list[Standing]:
    return _standings(list(SendingDomain.objects.filter(organization_id=organization_id).order_by("name")))


_ORDER = (RecordState.UNKNOWN, RecordState.WRONG, RecordState.MISSING, RecordState.WEAK, RecordState.OK)


def _standings(domains: Sequence[SendingDomain]) -> list[Standing]:
    keys: defaultdict[int, list[DkimKey]] = defaultdict(list)
    for key in DkimKey.objects.filter(domain__in=domains, retired_at=None).defer("sealed", "public"):
        keys[key.domain_id].append(key)
    rows: defaultdict[int, list[DomainRecord]] = defaultdict(list)
    for row in DomainRecord.objects.filter(domain__in=domains, ended_at=None):
        rows[row.domain_id].append(row)
    return [_one(domain, keys[domain.pk], rows[domain.pk]) for domain in domains]


def _one(domain: SendingDomain, keys: Sequence[DkimKey], rows: Sequence[DomainRecord]) -> Standing:
    signing = [key for key in keys if key.active_at]
    counted = {key.selector for key in signing}
    found: dict[str, list[RecordState]] = {}
    for row in rows:
        if row.kind != RecordKind.DKIM or row.name.partition("._domainkey.")[0] in counted:
            found.setdefault(row.kind, []).append(RecordState(row.state))
    states = {kind: str(min(each, key=_ORDER.index)) for kind, each in found.items()}
    return Standing(domain, states, tuple(sorted(key.algorithm for key in signing)), len(signing) < len(keys))
