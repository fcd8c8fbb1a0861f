"""What people answer to a case: "this was me", which is remembered, or "this was not", which forgets the doubtful.

Shapes  dismiss(): closes the case and teaches what it was about: the networks, clients and TLS levels that were new,
        the volume that was odd, the networks that failures come from. revoked(): closes it after the credential was
        ended, and forgets what was doubted, so that the same from there is news again.
Units   A volume taught holds for hours up to half as large again (audit.anomalies.volume.PEAK).
Errors  None: False where the case was closed already.
Source  docs/operations.md, Alerts.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

from audit.anomalies.cases import close
from audit.anomalies.models import Anomaly, Habit, HabitKind, Kind, State
from audit.anomalies.profiles import EVERYONE
from audit.anomalies.rows import narrow_network
from audit.anomalies.watch import LOCK
from audit.changes import Actor, record_change


@transaction.atomic
def dismiss(anomaly: Anomaly, *, actor: Actor, now: datetime | None = None) -> bool:
    """ "This was me": known from now on."""
    now = now or timezone.now()
    _lock()
    if not close(anomaly, state=State.DISMISSED, by=actor.name, now=now):
        return False
    taught = [*_doubted(anomaly), *_sources(anomaly)] if anomaly.organization_id is not None else []
    for smtp_user_id, kind, value in taught:
        _teach(anomaly, smtp_user_id, kind, value, now=now)
    if anomaly.kind == Kind.VOLUME and "recipients" in anomaly.evidence:
        for smtp_user_id in anomaly.smtp_user_ids:
            _teach(anomaly, smtp_user_id, HabitKind.VOLUME, "", now=now, amount=int(anomaly.evidence["recipients"]))
    _record("anomaly.dismissed", anomaly, actor, {"taught": [list(each) for each in taught][:50]})
    return True


@transaction.atomic
def revoked(anomaly: Anomaly, *, actor: Actor, values: Mapping[str, Any], now: datetime | None = None) -> bool:
    """Within the transaction that ended the credential."""
    _lock()
    if not close(anomaly, state=State.REVOKED, by=actor.name, now=now):
        return False
    for smtp_user_id, kind, value in _doubted(anomaly):
        Habit.objects.filter(smtp_user_id=smtp_user_id, kind=kind, value=value, doubted=True).delete()
    _record("anomaly.revoked", anomaly, actor, values)
    return True


def _doubted(anomaly: Anomaly) -> list[tuple[int, str, str]]:
    return [(int(user), str(kind), str(value)) for user, kind, value in anomaly.evidence.get("doubts", ())]


def _sources(anomaly: Anomaly) -> Iterable[tuple[int, str, str]]:
    """Where failures came from: an own device that is set up wrong, a test."""
    if anomaly.organization_id is None or anomaly.kind not in {Kind.FAILURES, Kind.USERNAMES}:
        return []
    ips = [*anomaly.evidence.get("ips", ()), *filter(None, [anomaly.evidence.get("ip")])]
    return [(EVERYONE, HabitKind.FAILURES, network) for network in sorted({narrow_network(ip) for ip in ips})]


def _teach(anomaly: Anomaly, smtp_user_id: int, kind: str, value: str, *, now: datetime, amount: int = 0) -> None:
    assert anomaly.organization_id is not None
    row, made = Habit.objects.get_or_create(
        organization_id=anomaly.organization_id,
        smtp_user_id=smtp_user_id,
        kind=kind,
        value=value,
        defaults={"first_at": anomaly.first_at, "last_at": anomaly.last_at, "taught_at": now, "amount": amount},
    )
    if not made:
        rows = Habit.objects.filter(pk=row.pk)
        rows.update(doubted=False, taught_at=now, amount=Greatest(F("amount"), amount))


def _record(action: str, anomaly: Anomaly, actor: Actor, values: Mapping[str, Any]) -> None:
    record_change(
        action,
        organization_id=anomaly.organization_id or 0,
        actor=actor,
        subject=anomaly.get_kind_display(),
        subject_id=anomaly.pk,
        values={"key": anomaly.key, **values},
    )


def _lock() -> None:
    """A run of the watch writes habits that it read before: nothing may be taught in between."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
