"""One run of the detection: what is new since the last one is judged, learned, and made into cases.

Shapes  watch() does it all in one transaction: a run that fails leaves nothing, and the next one does it again. The
        first run of all only learns: what happened before somebody watched is no news.
Units   now: aware; the mark is of AuthEvent.stored_at, as that of the rollups.
Errors  Those of the database. Of two runs at once one goes home.
Source  docs/operations.md, Alerts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from audit.anomalies import reading
from audit.anomalies.cases import FROM_OUTSIDE, close_ended, raise_alert
from audit.anomalies.guessing import bursts, guessed, sprays, suspects
from audit.anomalies.habits import unusual_uses
from audit.anomalies.models import Anomaly, Habit, HabitKind, Severity, State
from audit.anomalies.profiles import Profiles
from audit.anomalies.reading import full_hour
from audit.anomalies.rows import Failure, Finding, Known, Use
from audit.anomalies.volume import unusual_volume, usual
from audit.marks import mark_of, next_mark, set_mark
from audit.rollup import roll_up_auth_hours

MARK: Final = "anomalies"
LOCK: Final = 0x6761_7465_0006  # advisory, in the transaction: of runs, and of "this was me"
_LATE: Final = timedelta(minutes=10)  # after an hour, in which it is still looked at
_FEW_MINUTES: Final = timedelta(minutes=5)
_CAUGHT_UP: Final = timedelta(hours=24)  # after a longer pause the hours before are not judged any more
_BATCH: Final = 5_000
_WRITE: Final = """
    INSERT INTO audit_habit (organization_id, smtp_user_id, kind, value, first_at, last_at, days, longest_gap_seconds,
                             doubted, amount)
    SELECT *, 0 FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
                            %s::integer[], %s::bigint[], %s::boolean[])
    ON CONFLICT (organization_id, smtp_user_id, kind, value) DO UPDATE
    SET first_at = excluded.first_at, last_at = excluded.last_at, days = excluded.days,
        longest_gap_seconds = excluded.longest_gap_seconds, doubted = excluded.doubted
"""
KEPT: Final = {HabitKind.NETWORK: 120, HabitKind.CLIENT: 180, HabitKind.TLS: 365, HabitKind.PASSWORD: 730}  # days


@dataclass(frozen=True, slots=True)
class Watched:
    uses: int = 0
    findings: int = 0
    ended: int = 0


def watch(now: datetime | None = None) -> Watched:
    """Judge what is new. The sums of failures and of mail are those of the rollups; the first is brought up to date."""
    now = now or timezone.now()
    roll_up_auth_hours(now)
    with transaction.atomic():
        if not _locked():
            return Watched()
        mark = mark_of(MARK)
        until = next_mark(now)  # before the rows are read
        uses = reading.new_uses(mark)
        failures = reading.failures(now)
        profiles = _profiles(uses, failures)
        if mark is None:
            for use in sorted(uses, key=lambda each: each.first_at):
                profiles.learn(use)
            findings: list[Finding] = []
        else:
            findings = [*_judged(uses, failures, profiles, now=now), *_volumes(mark, now)]
        _write(profiles.changed.values())
        for finding in _worth_telling(findings, now=now):
            _raise(finding, now=now)
        set_mark(MARK, until)
    return Watched(len(uses), len(findings), close_ended(now=now))


def forget_old_habits(*, now: datetime | None = None) -> int:
    """Habits that were not seen for KEPT; what somebody taught stays."""
    now = now or timezone.now()
    old = Q()
    for kind, days in KEPT.items():
        old |= Q(kind=kind, last_at__lt=now - timedelta(days=days))
    return Habit.objects.filter(old, taught_at=None).delete()[0]


def _judged(uses: list[Use], failures: list[Failure], profiles: Profiles, *, now: datetime) -> list[Finding]:
    recent = [each for each in failures if each.last_hour]
    picked = _most_first(suspects(failures) & {each.ip for each in recent}, recent)
    found = guessed(uses, failures, profiles)  # before the uses are learned
    found += sprays(failures, reading.names(picked, now=now), profiles)
    found += bursts(failures, profiles)
    found += unusual_uses(uses, profiles)
    for finding in found:
        for smtp_user_id, kind, value in finding.evidence.get("doubts", ()):
            profiles.doubt(smtp_user_id, HabitKind(kind), value)
    return found


def _most_first(ips: set[str], failures: Iterable[Failure]) -> list[str]:
    counts = dict.fromkeys(ips, 0)
    for each in failures:
        if each.ip in counts:
            counts[each.ip] += each.last_hour
    return sorted(counts, key=lambda ip: (-counts[ip], ip))[: reading.ADDRESSES_MAX]


def _volumes(mark: datetime, now: datetime) -> Iterator[Finding]:
    """The running hour, and those since the last run: the one before is still counted for some minutes."""
    hour = full_hour(max(mark - _LATE, now - _CAUGHT_UP))
    while hour <= now:
        yield from _volumes_of(hour)
        hour += timedelta(hours=1)


def _volumes_of(hour: datetime) -> Iterator[Finding]:
    """Two steps, so that a hundred days are read of few: the same hours of other weeks, then all of those beyond."""
    asked = reading.candidates(hour)
    ids = [each.smtp_user_id for each in asked]
    began_at, same = reading.began(ids, hour=hour), reading.same_hours(ids, hour=hour)
    beyond = [
        each
        for each in asked
        if (began := began_at.get(each.smtp_user_id))
        and each.recipients > usual(hour, same[each.smtp_user_id], began_at=began).bound
    ]
    ids = [each.smtp_user_id for each in beyond]
    histories, taught = reading.histories(ids, hour=hour), reading.taught_volumes(ids)
    for each in beyond:
        finding = unusual_volume(
            organization_id=each.organization_id,
            smtp_user_id=each.smtp_user_id,
            hour=hour,
            recipients=each.recipients,
            history=histories[each.smtp_user_id],
            taught=taught.get(each.smtp_user_id, 0),
        )
        if finding:
            yield finding


def _profiles(uses: Iterable[Use], failures: Iterable[Failure]) -> Profiles:
    concerned = {each.organization_id for each in uses}
    concerned |= {each.organization_id for each in failures if each.organization_id is not None}
    return Profiles(reading.known(concerned))


def _write(changed: Iterable[Known]) -> None:
    for rows in _batched(changed, _BATCH):
        columns = zip(
            *(
                (
                    row.organization_id,
                    row.smtp_user_id,
                    row.kind,
                    row.value,
                    row.first_at,
                    row.last_at,
                    row.days,
                    int(row.longest_gap.total_seconds()),
                    row.doubted,
                )
                for row in rows
            ),
            strict=True,
        )
        with connection.cursor() as cursor:
            cursor.execute(_WRITE, [list(column) for column in columns])


def _worth_telling(findings: list[Finding], *, now: datetime) -> Iterator[Finding]:
    """A flood from outside changes its figures every minute: its open case is brought up to date every few."""
    keys = {each.key for each in findings if each.kind in FROM_OUTSIDE}
    recent = Anomaly.objects.filter(key__in=keys, state=State.OPEN, updated_at__gt=now - _FEW_MINUTES)
    cases = {(each.organization_id, each.key): each for each in recent}
    for finding in findings:
        case = cases.get((finding.organization_id, finding.key))
        if case is None or finding.severity.rank > Severity(case.severity).rank:
            yield finding


def _raise(finding: Finding, *, now: datetime) -> None:
    raise_alert(
        finding.kind,
        organization_id=finding.organization_id,
        key=finding.key,
        severity=finding.severity,
        evidence=finding.evidence,
        smtp_user_ids=finding.smtp_user_ids,
        app_password_ids=finding.app_password_ids,
        first_at=finding.first_at,
        last_at=finding.last_at,
        now=now,
    )


def _batched(rows: Iterable[Known], size: int) -> Iterator[list[Known]]:
    """As itertools.batched, which came with Python 3.12."""
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch


def _locked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])
