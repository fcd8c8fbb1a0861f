"""Cases: one row for as long as something goes on."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from audit.anomalies.cases import KEPT, close, close_ended, forget_old_cases, raise_alert
from audit.anomalies.hooks import AnomalyEvent, on_anomaly
from audit.anomalies.models import Anomaly, Kind, Severity, State

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def canary(**given: Any) -> Anomaly:
    values: dict[str, Any] = {
        "organization_id": 1,
        "key": "canary:7",
        "severity": Severity.CRITICAL,
        "evidence": {"ip": "203.0.113.9"},
        "app_password_ids": [7],
        "last_at": NOON,
        "now": NOON,
    }
    return raise_alert(given.pop("kind", Kind.CANARY), **{**values, **given})


@pytest.fixture
def told() -> Iterator[list[tuple[str, str]]]:
    """What hooks are told, in order: (what, key)."""
    seen: list[tuple[str, str]] = []

    def hook(event: AnomalyEvent) -> None:
        seen.append((event.what, event.anomaly.key))

    before = on_anomaly[:]
    on_anomaly[:] = [hook]
    yield seen
    on_anomaly[:] = before


@pytest.mark.django_db
def test_the_same_case_is_one_row(told: list[tuple[str, str]]) -> None:
    """The same key again updates the open row: later end, more passwords, newer evidence; nobody is told twice."""
    first = canary()
    again = canary(last_at=NOON + HOUR, app_password_ids=[8], evidence={"ip": "203.0.113.10"}, now=NOON + HOUR)
    assert again.pk == first.pk
    row = Anomaly.objects.get()
    assert (row.first_at, row.last_at, row.opened_at) == (NOON, NOON + HOUR, NOON)
    assert (row.app_password_ids, row.evidence) == ([7, 8], {"ip": "203.0.113.10"})
    assert told == [("opened", "canary:7")]


@pytest.mark.django_db
def test_a_graver_turn_is_told_and_never_taken_back(told: list[tuple[str, str]]) -> None:
    """A rise in severity is told; a fall changes nothing."""
    for severity in (Severity.NOTICE, Severity.CRITICAL, Severity.WARNING):
        canary(severity=severity)
    assert Anomaly.objects.get().severity == Severity.CRITICAL
    assert [what for what, _key in told] == ["opened", "worsened"]


@pytest.mark.django_db
def test_organizations_do_not_share_cases() -> None:
    """The same key of two organizations, or of none, is as many cases."""
    assert len({canary(organization_id=each).pk for each in (1, 2, None)}) == 3
    assert canary(organization_id=None).organization_id is None
    assert Anomaly.objects.count() == 3


@pytest.mark.django_db
def test_a_closed_case_happens_anew(told: list[tuple[str, str]]) -> None:
    """After it was closed, a canary that is tried again is a new case; closing twice changes nothing."""
    with transaction.atomic():
        assert close(canary(), state=State.DISMISSED, by="alice@example.com")
        assert not close(Anomaly.objects.get(), state=State.REVOKED, by="bob@example.com")
    canary(last_at=NOON + HOUR)
    assert list(Anomaly.objects.order_by("pk").values_list("state", flat=True)) == ["dismissed", "open"]
    assert [what for what, _key in told] == ["opened", "closed", "opened"]


@pytest.mark.django_db
def test_an_answered_attack_from_outside_is_not_told_again() -> None:
    """A burst that goes on after its case was closed moves last_at alone; a day later it is a new case."""
    burst = {"kind": Kind.FAILURES, "key": "failures:1"}
    with transaction.atomic():
        close(canary(**burst), state=State.DISMISSED, by="alice@example.com")
    canary(**burst, last_at=NOON + HOUR)
    row = Anomaly.objects.get()
    assert (row.state, row.last_at) == (State.DISMISSED, NOON + HOUR)
    canary(**burst, last_at=NOON + 30 * HOUR)
    assert Anomaly.objects.count() == 2


@pytest.mark.django_db
def test_cases_end_by_themselves() -> None:
    """A burst ends after a day of quiet, a new network after fourteen."""
    canary(kind=Kind.FAILURES, key="failures:1")
    canary(kind=Kind.NETWORK, key="network:1")
    assert close_ended(now=NOON + 23 * HOUR) == 0
    assert close_ended(now=NOON + 25 * HOUR) == 1
    assert Anomaly.objects.get(state=State.ENDED).kind == Kind.FAILURES
    assert close_ended(now=NOON + timedelta(days=15)) == 1


@pytest.mark.django_db
def test_hostile_evidence_is_stored_printable() -> None:
    """NUL, lone surrogates, escapes, secrets and ten kilobytes neither fail the row nor stay in it."""
    evil = "\x00\x1b[31m\ud800<script>gp_4fZk9QmB1xW7cT0aLrYv2N0JhUe5Pq " + "x" * 10_000
    row = canary(key=evil, evidence={"username": evil, "usernames": [evil], "at": NOON})
    row.refresh_from_db()
    assert row.key.isprintable() and len(row.key) <= 200
    text = row.evidence["username"]
    assert text.isprintable() and len(text) == 255 and "9QmB" not in text
    assert row.evidence["usernames"] == [text] and row.evidence["at"] == "2026-03-10T12:00:00+00:00"
    assert canary(key=evil).pk == row.pk and canary(key=evil + "y").pk != row.pk


@pytest.mark.django_db(transaction=True)
def test_two_processes_open_one_case() -> None:
    """Eight threads that raise the same alarm at once make one row."""
    start = threading.Barrier(8)

    def raise_one() -> None:
        try:
            start.wait(10)
            canary()
        finally:
            connection.close()

    threads = [threading.Thread(target=raise_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Anomaly.objects.count() == 1


@pytest.mark.django_db
def test_old_cases_are_forgotten() -> None:
    """Closed ones after their time; an open one stays, however old."""
    with transaction.atomic():
        close(canary(), state=State.DISMISSED, by="alice@example.com", now=NOON)
    canary(key="canary:8")
    assert forget_old_cases(now=NOON + KEPT) == 0
    assert forget_old_cases(now=NOON + KEPT + HOUR) == 1
    assert Anomaly.objects.get().key == "canary:8"
