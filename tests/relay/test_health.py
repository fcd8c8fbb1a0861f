"""Health addresses and the metrics."""

import json
from datetime import timedelta
from unittest import mock

import pytest
from django.db import OperationalError, connection
from django.test import RequestFactory
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from audit.models import AuthHour
from relay import metrics
from relay.models import LimitWindow, Worker
from relay.views import health


def figures(rf: RequestFactory) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = health.metrics(rf.get("/metrics")).content.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_live_needs_no_database(rf: RequestFactory) -> None:
    """Without the db mark any query would fail the test; the answer is 200 ok."""
    response = health.live(rf.get("/healthz/live"))
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert "no-store" in response["Cache-Control"]


def test_only_reading_methods(rf: RequestFactory) -> None:
    """POST is 405 at each of the three."""
    for view in (health.live, health.ready, health.metrics):
        assert view(rf.post("/")).status_code == 405


@pytest.mark.django_db
def test_ready_names_what_it_asked(rf: RequestFactory) -> None:
    """With all in place: 200, every check ok."""
    response = health.ready(rf.get("/healthz/ready"))
    body = json.loads(response.content)
    assert response.status_code == 200
    assert body["status"] == "ready"
    assert {name: check["state"] for name, check in body["checks"].items()} == {
        "database": "ok",
        "migrations": "ok",
        "redis": "ok",
    }


@pytest.mark.django_db
def test_ready_is_503_without_the_database(rf: RequestFactory) -> None:
    """The database away: 503 with the cause, and no words of the server."""
    with mock.patch.object(connection, "cursor", side_effect=OperationalError("secret host name")):
        response = health.ready(rf.get("/healthz/ready"))
    assert response.status_code == 503
    assert json.loads(response.content)["checks"]["database"]["state"] == "fail"
    assert b"secret host name" not in response.content


@pytest.mark.django_db
def test_ready_is_503_while_migrations_are_missing(rf: RequestFactory, monkeypatch) -> None:
    """A process whose tables are not there yet takes no requests."""
    monkeypatch.setattr(health, "_migrated", False)
    monkeypatch.setattr("django.db.migrations.executor.MigrationExecutor.migration_plan", lambda *_: [object()])
    response = health.ready(rf.get("/healthz/ready"))
    assert response.status_code == 503
    assert "manage.py migrate" in json.loads(response.content)["checks"]["migrations"]["detail"]


@pytest.mark.django_db
def test_redis_away_is_a_warning(rf: RequestFactory, settings) -> None:
    """Mail flows without Redis, so readiness does too."""
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    response = health.ready(rf.get("/healthz/ready"))
    assert response.status_code == 200
    assert json.loads(response.content)["checks"]["redis"]["state"] == "warn"


@pytest.mark.django_db
def test_metrics_through_a_proxy_are_not_found(rf: RequestFactory) -> None:
    """What carries a forwarding header came from outside."""
    assert health.metrics(rf.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"})).status_code == 404
    assert health.metrics(rf.get("/metrics", headers={"Forwarded": "for=192.0.2.1"})).status_code == 404


@pytest.mark.django_db
def test_accepted_counts_the_running_hour_only(rf: RequestFactory) -> None:
    """Buckets older than an hour, and rows of SMTP users, do not count."""
    minute = int(timezone.now().timestamp()) // 60
    buckets = [0] * 61
    buckets[minute % 61], buckets[(minute - 30) % 61], buckets[(minute - 60) % 61] = 5, 7, 100
    scope = LimitWindow.Scope
    LimitWindow.objects.create(scope=scope.ORGANIZATION, owner_id=1, minute=minute, buckets=buckets)
    LimitWindow.objects.create(scope=scope.ORGANIZATION, owner_id=2, minute=minute - 300, buckets=[9] * 61)
    LimitWindow.objects.create(scope=scope.SMTP_USER, owner_id=1, minute=minute, buckets=[1] * 61)
    assert figures(rf)["gatepost_accepted_recipients_last_hour", ()] == 12


@pytest.mark.django_db
def test_auth_by_result_and_reason(rf: RequestFactory) -> None:
    """Sums of the last day; older hours do not count."""
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    for hours, count in ((0, 3), (5, 4), (30, 100)):
        hour = now - timedelta(hours=hours)
        AuthHour.objects.create(
            hour=hour, ip="192.0.2.1", result="refused", reason="revoked", count=count, first_at=hour, last_at=hour
        )
    key = ("gatepost_auth_attempts_last_day", (("reason", "revoked"), ("result", "refused")))
    assert figures(rf)[key] == 7


@pytest.mark.django_db
def test_workers_alive_and_their_figures(rf: RequestFactory) -> None:
    """A heartbeat older than 30 s is no worker; words among the figures are left out."""
    now = timezone.now()
    Worker.objects.create(
        name="smtpd@a:1",
        kind="smtpd",
        started_at=now,
        seen_at=now,
        figures={"accepted": 3, "state": "up", "refused": {"451": 2}},
    )
    Worker.objects.create(name="smtpd@a:2", kind="smtpd", started_at=now, seen_at=now - timedelta(seconds=31))
    found = figures(rf)
    assert found["gatepost_workers_alive", (("kind", "smtpd"),)] == 1
    assert found["gatepost_workers_alive", (("kind", "delivery"),)] == 0
    own = {key[1]: value for key, value in found.items() if key[0] == "gatepost_worker_figure"}
    assert own == {
        (("figure", "accepted"), ("kind", "smtpd"), ("worker", "smtpd@a:1")): 3,
        (("figure", "refused.451"), ("kind", "smtpd"), ("worker", "smtpd@a:1")): 2,
    }


@pytest.mark.django_db
def test_metrics_answer_while_the_database_is_away(rf: RequestFactory, monkeypatch) -> None:
    """A scrape of a broken installation says so instead of failing."""

    def away(now: object) -> None:
        raise OperationalError

    monkeypatch.setattr(metrics, "_from_database", away)
    found = figures(rf)
    assert found["gatepost_database_up", ()] == 0
    assert found["gatepost_redis_up", ()] == 1
