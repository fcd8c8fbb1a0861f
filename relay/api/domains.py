"""Sending domains: their records, as the DNS has them and as it should, the check, and the DKIM keys."""

from datetime import datetime
from typing import Any

from django.shortcuts import get_object_or_404
from ninja import Field, Router, Status

from relay import dkim_keys, domains
from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.problems import ProblemError
from relay.api.shapes import Body, Listed, Schema, Text
from relay.dns_records import keep, shown
from relay.dns_records.standing import Standing, standing, standings
from relay.models import SendingDomain

router = Router(tags=["Domains"])


class DomainOut(Schema):
    id: int
    name: str
    verified_at: datetime | None = Field(description="Mail of a domain that is not verified goes to the sandbox only.")
    proof: str = Field(description="dns, operator, or empty.")
    proof_lost_at: datetime | None = Field(description="Since when the DNS does not prove it any more.")
    held_elsewhere: bool = Field(description="Another organization holds it verified.")
    dkim: str = Field(description="ok, weak, missing, wrong or unknown; missing while nothing signs.")
    spf: str
    dmarc: str
    return_path: str
    signs: list[str] = Field(description="Algorithms of the keys that sign: rsa, ed25519.")
    checked_at: datetime | None
    next_check_at: datetime
    created_at: datetime

    @classmethod
    def of(cls, found: Standing) -> "DomainOut":
        domain = found.domain
        return cls(
            id=domain.pk,
            name=domain.name,
            verified_at=domain.verified_at,
            proof=domain.proof,
            proof_lost_at=domain.proof_lost_at,
            held_elsewhere=domain.verified_at is None and domains.is_held_elsewhere(domain),
            dkim=found.dkim,
            spf=found.spf,
            dmarc=found.dmarc,
            return_path=found.return_path,
            signs=list(found.signs),
            checked_at=domain.checked_at,
            next_check_at=domain.next_check_at,
            created_at=domain.created_at,
        )


class RecordOut(Schema):
    kind: str = Field(description="ownership, return_path, dkim, spf or dmarc.")
    name: str
    type: str
    value: str = Field(description="What to publish; empty where what is there is right, or nothing can be proposed.")
    required: bool
    state: str = Field(description="ok, weak, missing, wrong, or unknown: the DNS has not answered yet.")
    problems: list[str]
    found: list[str] = Field(description="What the DNS has there.")
    since: datetime | None
    selector: str | None = None

    @classmethod
    def of(cls, row: shown.Row) -> "RecordOut":
        return cls(
            kind=row.wanted.kind,
            name=row.wanted.name,
            type=row.wanted.type,
            value=row.value,
            required=row.wanted.is_required,
            state=row.state,
            problems=list(row.problems),
            found=list(row.found),
            since=row.since,
            selector=row.wanted.key.selector if row.wanted.key else None,
        )


class KeyOut(Schema):
    selector: str
    algorithm: str
    state: str = Field(description="waiting for its record, signing, retired, or erased.")
    created_at: datetime
    active_at: datetime | None
    retired_at: datetime | None


class DomainWhole(DomainOut):
    records: list[RecordOut]
    keys: list[KeyOut]

    @classmethod
    def whole(cls, domain: SendingDomain) -> "DomainWhole":
        base = DomainOut.of(standing(domain)).dict()
        keys = [KeyOut.from_orm(key) for key in domain.dkim_keys.defer("sealed").order_by("created_at", "selector")]
        return cls(**base, records=[RecordOut.of(row) for row in shown.rows_of(domain)], keys=keys)


class DomainNew(Body):
    name: Text = Field(max_length=253)


class EpisodeOut(Schema):
    kind: str
    name: str
    state: str
    problems: list[str]
    found: list[str]
    began_at: datetime
    ended_at: datetime | None


class HistoryOut(Schema):
    items: list[EpisodeOut]


def own_domain(request: ApiRequest, id: int) -> SendingDomain:
    return get_object_or_404(SendingDomain, organization=request.auth.organization, pk=id)


@router.get("/domains", response=Listed[DomainOut], summary="List domains", **needs(Scope.SMTP_USERS_READ))
def list_domains(request: ApiRequest) -> Any:
    return {"items": [DomainOut.of(each) for each in standings(request.auth.organization.pk)]}


@router.post("/domains", response={201: DomainWhole}, summary="Add a domain", **needs(Scope.SMTP_USERS_WRITE))
def add_domain(request: ApiRequest, data: DomainNew) -> Any:
    """The answer has the records to publish, with two new DKIM keys."""
    domain = domains.add_domain(request.auth.organization, name=data.name, actor=actor_of(request))
    dkim_keys.ensure_keys(domain)
    return Status(201, DomainWhole.whole(domain))


@router.get("/domains/{int:id}", response=DomainWhole, summary="Get a domain", **needs(Scope.SMTP_USERS_READ))
def get_domain(request: ApiRequest, id: int) -> Any:
    """With its records, as they are and as they should be. It asks no DNS: check does."""
    return DomainWhole.whole(own_domain(request, id))


@router.delete("/domains/{int:id}", response={204: None}, summary="Remove a domain", **needs(Scope.SMTP_USERS_WRITE))
def remove_domain(request: ApiRequest, id: int) -> Any:
    """Mail from its addresses is refused from then on, and its keys are deleted."""
    domains.remove_domain(own_domain(request, id), actor=actor_of(request))
    return Status(204, None)


@router.post(
    "/domains/{int:id}/check", response=DomainWhole, summary="Check its DNS now", **needs(Scope.SMTP_USERS_WRITE)
)
def check_domain(request: ApiRequest, id: int) -> Any:
    """Takes as long as the DNS does. Every five seconds at most, else 429."""
    domain = own_domain(request, id)
    try:
        after = keep.check(domain, actor=actor_of(request))
    except keep.Busy:
        wait = str(int(keep.APART.total_seconds()))
        raise ProblemError("too-often", "It was checked a moment ago.", Retry_After=wait) from None
    return DomainWhole.whole(after or own_domain(request, id))


@router.get(
    "/domains/{int:id}/history",
    response=HistoryOut,
    summary="List what its DNS said",
    **needs(Scope.SMTP_USERS_READ),
)
def list_domain_history(request: ApiRequest, id: int) -> Any:
    """The newest fifty episodes; one without an end is what it says now."""
    rows = shown.history_of(own_domain(request, id))
    return {
        "items": [
            EpisodeOut(
                kind=row.kind,
                name=row.name,
                state=row.state,
                problems=told,
                found=row.found,
                began_at=row.began_at,
                ended_at=row.ended_at,
            )
            for row, told in rows
        ]
    }


@router.post(
    "/domains/{int:id}/dkim-keys",
    response={201: DomainWhole},
    summary="Make new DKIM keys",
    **needs(Scope.SMTP_USERS_WRITE),
)
def rotate_dkim_keys(request: ApiRequest, id: int) -> Any:
    """They wait beside those that sign, until their records are seen in the DNS."""
    domain = own_domain(request, id)
    dkim_keys.ensure_keys(domain)
    dkim_keys.rotate(domain, actor=actor_of(request))
    return Status(201, DomainWhole.whole(domain))


@router.delete(
    "/domains/{int:id}/dkim-keys",
    response={204: None},
    summary="Take waiting DKIM keys back",
    **needs(Scope.SMTP_USERS_WRITE),
)
def abandon_dkim_keys(request: ApiRequest, id: int) -> Any:
    dkim_keys.abandon(own_domain(request, id), actor=actor_of(request))
    return Status(204, None)
