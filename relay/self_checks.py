"""Runs of the self-check that are kept: once a day by the clock, and whenever an operator asks for one.

Shapes  run_self_check() -> SelfCheck. latest() is the last one; is_late() whether the clock has missed its time.
Units   KEPT: how long runs stay. LATE: after so long without one, something of beat or its worker does not run.
Errors  Those of the database, where nothing can be kept. Of every other trouble relay.doctor makes a finding.
Source  docs/operations.md, The self-check.
"""

import time
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.utils import timezone

from relay.doctor import examine
from relay.models import SelfCheck

KEPT: Final = timedelta(days=400)
LATE: Final = timedelta(hours=26)
STATES: Final = ("ok", "warn", "fail")


def run_self_check(*, asked_by: str = "") -> SelfCheck:
    at, began = timezone.now(), time.monotonic()
    findings = examine()
    return SelfCheck.objects.create(
        at=at,
        took_ms=int((time.monotonic() - began) * 1000),
        state=max((finding.state for finding in findings), key=STATES.index, default="ok"),
        findings=[asdict(finding) for finding in findings],
        version=settings.GATEPOST_VERSION,
        asked_by=asked_by,
    )


def latest() -> SelfCheck | None:
    return SelfCheck.objects.order_by("-at").first()


def is_late(last: SelfCheck | None, *, now: datetime | None = None) -> bool:
    return last is None or last.at < (now or timezone.now()) - LATE


def forget_old_runs(*, now: datetime | None = None) -> int:
    deleted, _tables = SelfCheck.objects.filter(at__lt=(now or timezone.now()) - KEPT).delete()
    return deleted
