"""Anchors: heads of the chains of changes, noted where whoever can edit the database cannot reach.

Shapes  take_anchors() -> the Anchor of each chain that has grown since its last one; relay/anchors.py tells them to the
        world (log and mail). The rows of ChangeAnchor only remember what was told: the proof is the copy outside.
        anchors_in(text) -> every anchor in a mail or a log that somebody pastes.
        verify_all() checks every chain that there is a trace of: events, a head, or an anchor.
Errors  None: text without an anchor has none.
Source  docs/security.md; audit/changes.py, whose chain they end.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import F, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from audit.changes import Anchor, ChainReport, verify_chain
from audit.models import ChangeAnchor, ChangeChain, ChangeEvent

_ANCHOR: Final = re.compile(r"gatepost-anchor:(\d{1,18}):(\d{1,18}):([0-9a-fA-F]{64})")


def take_anchors(now: datetime | None = None) -> list[Anchor]:
    """To be called in a transaction with what tells of them: an anchor that nobody was told of proves nothing."""
    latest = ChangeAnchor.objects.filter(organization_id=OuterRef("organization_id")).order_by("-sequence")
    grown = ChangeChain.objects.alias(told=Coalesce(Subquery(latest.values("sequence")[:1]), 0)).filter(
        sequence__gt=F("told")
    )
    with transaction.atomic():
        rows = [
            ChangeAnchor(
                organization_id=head.organization_id, sequence=head.sequence, link=head.link, at=now or timezone.now()
            )
            for head in grown.order_by("organization_id")
        ]
        ChangeAnchor.objects.bulk_create(rows, ignore_conflicts=True)  # of two runs at once both may tell
    return [_anchor(row) for row in rows]


def anchors_of(organization_id: int) -> list[Anchor]:
    """Those that the database remembers, newest first."""
    return [_anchor(row) for row in ChangeAnchor.objects.filter(organization_id=organization_id).order_by("-sequence")]


def anchors_in(text: str) -> list[Anchor]:
    return [Anchor(int(m[1]), int(m[2]), m[3].lower()) for m in _ANCHOR.finditer("".join(text.split()))]


def verify(organization_id: int, *, given: Sequence[Anchor] = ()) -> ChainReport:
    """Against the anchors that the database remembers, and those that somebody kept elsewhere."""
    return verify_chain(organization_id, anchors=[*anchors_of(organization_id), *given])


def verify_all(*, given: Sequence[Anchor] = ()) -> Iterator[ChainReport]:
    traces = {each.organization_id for each in given}
    for model in (ChangeChain, ChangeEvent, ChangeAnchor):
        traces |= set(model._default_manager.values_list("organization_id", flat=True).distinct())
    for organization_id in sorted(traces):
        yield verify(organization_id, given=given)


def _anchor(row: ChangeAnchor) -> Anchor:
    return Anchor(row.organization_id, row.sequence, bytes(row.link).hex())
