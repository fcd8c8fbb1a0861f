"""Cases: opened once, kept up to date while they go on, closed by a person or by time.

Shapes  raise_alert() is the one door: for the watch's findings, and for alarms that other modules raise. The same key
        again while a case is open updates its row and tells nobody twice. A case about somebody outside (failures,
        usernames, bans, blocklists) that was closed and goes on stays closed, only its last_at moves: closing it was
        the answer.
Units   first_at, last_at: when it happened.
Errors  None of a value's making: texts are cleaned, keys capped.
Source  docs/data.md, Anomaly.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from audit.anomalies.hooks import tell
from audit.anomalies.models import Anomaly, Kind, Severity, State
from audit.anomalies.rows import joined
from audit.record import printable

IDS_MAX: Final = 100
TEXT_MAX: Final = 255
FROM_OUTSIDE: Final = frozenset({Kind.FAILURES, Kind.USERNAMES, Kind.BANNED, Kind.LISTED})
_GOES_ON: Final = timedelta(hours=24)
QUIET: Final[Mapping[str, timedelta]] = {  # an open case of which nothing was seen for so long has ended by itself
    Kind.FAILURES: timedelta(hours=24),
    Kind.USERNAMES: timedelta(hours=24),
    Kind.BANNED: timedelta(hours=24),
    Kind.VOLUME: timedelta(hours=48),
    Kind.UNLISTED: timedelta(hours=24),
}
QUIET_ELSE: Final = timedelta(days=14)
KEPT: Final = timedelta(days=400)  # after it was closed


def raise_alert(
    kind: Kind,
    *,
    organization_id: int | None,
    key: str,
    severity: Severity,
    evidence: Mapping[str, Any],
    smtp_user_ids: Iterable[int] = (),
    app_password_ids: Iterable[int] = (),
    first_at: datetime | None = None,
    last_at: datetime | None = None,
    now: datetime | None = None,
) -> Anomaly:
    """Open the case, or bring the one that is open for this (organization, key) up to date.

    `key` says what makes two alarms the same case: f"canary:{app_password.pk}". `evidence` is JSON, facts by name:
    ip, ips, network, username, usernames, count, client, where, and so on (audit.anomalies.words tells them);
    `filters` is a list of auth log filters that show it. May be called in a transaction or outside one.
    """
    now = now or timezone.now()
    seen = first_at or last_at or now
    fresh = Anomaly(
        organization_id=organization_id,
        kind=Kind(kind),
        severity=Severity(severity),
        key=_capped(key),
        smtp_user_ids=sorted(set(smtp_user_ids))[:IDS_MAX],
        app_password_ids=sorted(set(app_password_ids))[:IDS_MAX],
        evidence=plain(evidence),
        first_at=seen,
        last_at=max(seen, last_at or seen),
        opened_at=now,
        updated_at=now,
    )
    with transaction.atomic():
        _lock(fresh)
        return _went_on(fresh) or _updated(fresh) or _opened(fresh)


def close(anomaly: Anomaly, *, state: State, by: str, now: datetime | None = None) -> bool:
    """Within the caller's transaction. False if it was closed already: then nothing is changed, and nobody told."""
    row = Anomaly.objects.select_for_update(no_key=True).get(pk=anomaly.pk)
    if not row.is_open:
        return False
    row.state, row.closed_at, row.closed_by = state, now or timezone.now(), printable(by, 320)
    row.save(update_fields=["state", "closed_at", "closed_by"])
    tell(row, "closed")
    return True


def close_ended(*, now: datetime) -> int:
    """Open cases of which nothing was seen for their time of quiet. How many."""
    ended = 0
    for anomaly in Anomaly.objects.filter(state=State.OPEN, last_at__lt=now - min(QUIET.values())).iterator():
        if anomaly.last_at < now - QUIET.get(anomaly.kind, QUIET_ELSE):
            with transaction.atomic():
                ended += close(anomaly, state=State.ENDED, by="", now=now)
    return ended


def forget_old_cases(*, now: datetime | None = None) -> int:
    """How many, their mails not counted."""
    _rows, of_model = Anomaly.objects.filter(closed_at__lt=(now or timezone.now()) - KEPT).delete()
    return of_model.get("audit.Anomaly", 0)


def plain(value: Any) -> Any:
    """The value as JSON, every text in it printable and capped."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(each) for each in value), key=str)
    return printable(value.isoformat() if isinstance(value, datetime) else str(value), TEXT_MAX)


def _lock(fresh: Anomaly) -> None:
    """Two processes may raise the same at once: the second waits, and finds the first one's row."""
    name = f"{fresh.organization_id}:{fresh.key}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_number(name)])


def _went_on(fresh: Anomaly) -> Anomaly | None:
    if fresh.kind not in FROM_OUTSIDE:
        return None
    closed = _same(fresh).exclude(state__in=[State.OPEN, State.ENDED])
    row = closed.filter(last_at__gte=fresh.last_at - _GOES_ON).order_by("-last_at").first()
    if row is not None and not _same(fresh).filter(state=State.OPEN).exists():
        row.last_at, row.updated_at = max(row.last_at, fresh.last_at), fresh.updated_at
        row.save(update_fields=["last_at", "updated_at"])
        return row
    return None


def _updated(fresh: Anomaly) -> Anomaly | None:
    row = _same(fresh).filter(state=State.OPEN).select_for_update(no_key=True).first()
    if row is None:
        return None
    worsened = Severity(fresh.severity).rank > Severity(row.severity).rank
    row.severity = fresh.severity if worsened else row.severity
    row.smtp_user_ids = sorted({*row.smtp_user_ids, *fresh.smtp_user_ids})[:IDS_MAX]
    row.app_password_ids = sorted({*row.app_password_ids, *fresh.app_password_ids})[:IDS_MAX]
    row.evidence = joined(row.evidence, fresh.evidence)
    row.first_at, row.last_at = min(row.first_at, fresh.first_at), max(row.last_at, fresh.last_at)
    row.updated_at = fresh.updated_at
    row.save()
    if worsened:
        tell(row, "worsened")
    return row


def _opened(fresh: Anomaly) -> Anomaly:
    fresh.save(force_insert=True)
    tell(fresh, "opened")
    return fresh


def _same(fresh: Anomaly) -> QuerySet[Anomaly]:
    return Anomaly.objects.filter(organization_id=fresh.organization_id, key=fresh.key)


def _capped(key: str) -> str:
    clean = printable(key, 300)
    if len(clean) <= 200:
        return clean
    return f"{clean[:150]}…{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def _number(name: str) -> int:
    return int.from_bytes(sha256(f"anomaly:{name}".encode()).digest()[:8], "big", signed=True)
