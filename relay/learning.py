"""Learning mode of allowlists: record for a while, propose ranges from real use, show what they would do, enforce.

Shapes  NetworkLearning, one for each list at most. It refuses and allows nothing: the auth log records in any case,
        and a learning says from when to when sign-ins count. Draft: the proposal, or what people made of it.
        enforce() makes the list what the draft says, in one transaction, and ends the learning.
Units   days: of recording to come. history_days: of what the log holds already. Both within the plan's retention: what
        is deleted cannot be learned from.
Errors  NetworkRefused (a ValidationError) with words for a form.
Source  docs/flow.md, "Learn an allowlist".
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from audit.changes import Actor, record_change
from audit.models import AuthHour, Reason
from relay.models import NetworkLearning
from relay.networks import (
    LABEL_MAX,
    NETWORKS_MAX,
    Allowlist,
    NetworkRefused,
    Preview,
    Range,
    add_network,
    parse_address,
    parse_network,
    preview,
    remove_network,
)
from relay.proposal import Proposal, Proposed, Use, propose
from relay.retention import DEFAULT_RETENTION_DAYS

PREVIEW_DAYS = 30
DAYS_MOST = 90
SHUT_MOST = 20


@dataclass(frozen=True, slots=True)
class DraftRange:
    """One range as it would be enforced. evidence: of the proposal, if it is one of its ranges."""

    network: Range
    label: str = ""
    ends_at: datetime | None = None
    evidence: Proposed | None = None

    @property
    def cidr(self) -> str:
        return str(self.network)


@dataclass(frozen=True, slots=True)
class Draft:
    """What the list would become, and from what."""

    ranges: tuple[DraftRange, ...]
    proposal: Proposal
    edited: bool
    preview: Preview

    @property
    def digest(self) -> str:
        """Names exactly these ranges: only what somebody has seen is enforced."""
        rows = [[each.cidr, each.label, each.ends_at.isoformat() if each.ends_at else ""] for each in self.ranges]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32]


def owner_of(learning: NetworkLearning) -> Allowlist:
    return Allowlist(learning.organization, learning.smtp_user, learning.app_password)


def learnings_of(organization: Organization) -> QuerySet[NetworkLearning]:
    found = NetworkLearning.objects.filter(organization=organization)
    return found.select_related("organization", "smtp_user", "app_password").order_by("started_at", "pk")


def days_most(organization: Organization) -> int:
    """As long as the log is kept, which is as long as there is something to learn from."""
    kept: int | None = (
        Organization.objects.filter(pk=organization.pk).values_list("subscription__plan__retention_days", flat=True)
    ).first()
    return max(1, min(kept or DEFAULT_RETENTION_DAYS, DAYS_MOST))


def is_over(learning: NetworkLearning, now: datetime | None = None) -> bool:
    return learning.planned_until <= (now or timezone.now())


@transaction.atomic
def start(
    owner: Allowlist, *, days: int, actor: Actor, history_days: int = 0, now: datetime | None = None
) -> NetworkLearning:
    """From history_days ago until in so many days. Raises NetworkRefused: learning already, revoked, too long."""
    now, most = now or timezone.now(), days_most(owner.organization)
    if not (0 <= days <= most and 0 <= history_days <= most and 1 <= days + history_days <= most):
        raise NetworkRefused(
            _("The log is kept for %(most)d days: learn from 1 to %(most)d days in all."),
            code="days",
            params={"most": most},
        )
    if owner.app_password is not None and owner.app_password.revoked_at is not None:
        raise NetworkRefused(_("This app password was revoked."), code="revoked")
    try:
        with transaction.atomic():
            learning = NetworkLearning.objects.create(
                organization=owner.organization,
                smtp_user=owner.smtp_user,
                app_password=owner.app_password,
                since=now - timedelta(days=history_days),
                started_at=now,
                planned_until=now + timedelta(days=days),
                started_by=actor.name[:320],
            )
    except IntegrityError:
        raise NetworkRefused(_("This list is being learned already."), code="taken") from None
    values = {"level": owner.level, "since": learning.since, "until": learning.planned_until}
    _record("network_learning.started", learning, actor, values)
    return learning


@transaction.atomic
def stop(learning: NetworkLearning, *, actor: Actor, now: datetime | None = None) -> None:
    """End the recording now; the proposal stays. An ended one stays as it is."""
    row, now = _locked(learning), now or timezone.now()
    if not is_over(row, now):
        row.planned_until = now
        row.save(update_fields=["planned_until"])
        _record("network_learning.stopped", row, actor, {})
    learning.planned_until = row.planned_until


@transaction.atomic
def give_up(learning: NetworkLearning, *, actor: Actor) -> None:
    """Delete it: the list stays as it is."""
    row = _locked(learning)
    _record("network_learning.given_up", row, actor, {})
    row.delete()


def proposal_of(learning: NetworkLearning, *, now: datetime | None = None) -> Proposal:
    """From every address that was in use before the learning ended."""
    uses = owner_of(learning).logins(since=learning.since, now=now or timezone.now())
    counted = (use for use in uses if use.first_at <= learning.planned_until)
    return propose(Use(parse_address(use.ip), use.count, use.last_at) for use in counted)


def draft_of(learning: NetworkLearning, *, now: datetime | None = None) -> Draft:
    """What would be enforced, with the evidence and the preview."""
    now = now or timezone.now()
    proposal = proposal_of(learning, now=now)
    evidence = {each.network: each for each in proposal.ranges}
    if learning.draft is None:
        label = _("learned %(day)s") % {"day": f"{learning.started_at:%Y-%m-%d}"}
        ranges = [DraftRange(each.network, label, None, each) for each in proposal.ranges]
    else:
        ranges = [_read(row, evidence) for row in learning.draft]
    days = min(PREVIEW_DAYS, days_most(learning.organization))
    shown = preview(owner_of(learning), [each.network for each in ranges], days=days, now=now)
    return Draft(tuple(ranges), proposal, learning.draft is not None, shown)


@dataclass(frozen=True, slots=True)
class Shut:
    """An address that gave a right app password and was refused by a list of the organization."""

    ip: str
    count: int
    last_at: datetime


def shut_out(learning: NetworkLearning, *, most: int = SHUT_MOST) -> list[Shut]:
    """Since the learning counts, most first: whoever is theirs belongs into the ranges. From the sums, so not of one
    app password, which they do not know."""
    if learning.app_password_id is not None:
        return []
    hours = AuthHour.objects.filter(
        organization_id=learning.organization_id, hour__gte=learning.since, reason=Reason.NETWORK
    )
    if learning.smtp_user_id is not None:
        hours = hours.filter(smtp_user_id=learning.smtp_user_id)
    sums = hours.values("ip").annotate(attempts=Sum("count"), latest=Max("last_at")).order_by("-attempts", "ip")
    return [Shut(row["ip"], row["attempts"], row["latest"]) for row in sums[:most]]


@transaction.atomic
def save_draft(learning: NetworkLearning, ranges: Iterable[DraftRange] | None) -> None:
    """Keep what people made of the proposal; None goes back to it. It changes nothing yet, so it is no change event."""
    row = _locked(learning)
    row.draft = None if ranges is None else [_written(each) for each in checked(list(ranges))]
    row.save(update_fields=["draft"])
    learning.draft = row.draft


@transaction.atomic
def enforce(learning: NetworkLearning, *, seen: str, actor: Actor, now: datetime | None = None) -> Allowlist:
    """Make the list what the draft says, and end the learning. seen: Draft.digest of what was looked at."""
    Organization.objects.select_for_update(no_key=True).get(pk=learning.organization_id)  # as add_network does, first
    row = _locked(learning)
    draft, owner = draft_of(row, now=now), owner_of(row)
    if draft.digest != seen:
        raise NetworkRefused(
            _("The ranges have changed since you looked at them. Look again, then enforce."), code="changed"
        )
    replace_list(owner, draft.ranges, actor=actor)
    values = {
        "level": owner.level,
        "ranges": [each.cidr for each in draft.ranges],
        "would_have_refused": draft.preview.refused_logins,
        "of": draft.preview.logins,
    }
    row.delete()
    _record("network_learning.enforced", row, actor, values, subject_id=str(learning.pk))
    return owner


def replace_list(owner: Allowlist, ranges: Sequence[DraftRange], *, actor: Actor) -> None:
    """The list holds these ranges and no other. What is in it already, with the same label and end, is not touched."""
    wanted = {each.cidr: each for each in checked(ranges)}
    for row in owner.rows.select_related("organization", "smtp_user", "app_password"):
        same = wanted.get(row.cidr)
        if same and (row.label, row.ends_at) == (same.label, same.ends_at):
            del wanted[row.cidr]
        else:
            remove_network(row, actor=actor)
    for each in wanted.values():
        add_network(
            owner.organization,
            cidr=each.cidr,
            actor=actor,
            smtp_user=owner.smtp_user,
            app_password=owner.app_password,
            label=each.label,
            ends_at=each.ends_at,
        )


def checked(ranges: Sequence[DraftRange]) -> Sequence[DraftRange]:
    """Raises NetworkRefused for a list that could not be enforced: empty, too long, overlapping, ended."""
    if not ranges:
        raise NetworkRefused(_("Keep one range at least: an empty list would allow every address."), code="empty")
    if len(ranges) > NETWORKS_MAX:
        raise NetworkRefused(_("A list holds %(max)d ranges at most."), code="full", params={"max": NETWORKS_MAX})
    ordered = sorted(ranges, key=lambda each: (each.network.version, int(each.network.network_address)))
    for before, after in pairwise(ordered):
        if before.network.version == after.network.version and before.network.overlaps(after.network):
            raise NetworkRefused(
                _("%(one)s and %(other)s overlap: keep the one or the other."),
                code="covered",
                params={"one": before.cidr, "other": after.cidr},
            )
    for each in ranges:
        if len(each.label) > LABEL_MAX:
            raise NetworkRefused(
                _("The label may have %(most)d characters at most."), code="label", params={"most": LABEL_MAX}
            )
        if each.ends_at and each.ends_at <= timezone.now():
            raise NetworkRefused(_("The end lies in the past."), code="ended")
    return ranges


def _written(each: DraftRange) -> dict[str, Any]:
    return {"cidr": each.cidr, "label": each.label, "ends_at": each.ends_at.isoformat() if each.ends_at else None}


def _read(row: dict[str, Any], evidence: dict[Range, Proposed]) -> DraftRange:
    network = parse_network(row["cidr"])
    ends_at = datetime.fromisoformat(row["ends_at"]) if row["ends_at"] else None
    return DraftRange(network, row["label"], ends_at, evidence.get(network))


def _locked(learning: NetworkLearning) -> NetworkLearning:
    found = learnings_of(learning.organization).select_for_update(no_key=True, of=("self",))
    row = found.filter(pk=learning.pk).first()
    if row is None:
        raise NetworkRefused(_("This learning has ended."), code="ended")
    return row


def _record(
    action: str, learning: NetworkLearning, actor: Actor, values: dict[str, Any], *, subject_id: str = ""
) -> None:
    record_change(
        action,
        organization_id=learning.organization_id,
        actor=actor,
        subject=str(owner_of(learning)),
        subject_id=subject_id or str(learning.pk),
        values=values,
    )
