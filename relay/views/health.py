"""Addresses for machines: is the process alive, can it serve, what are the figures.

Shapes  live: text. ready: JSON {"status", "checks": {name: {"state", "detail"}}}. metrics: Prometheus' text format.
Errors  ready answers 503 while PostgreSQL is away or migrations are missing; Redis is a warning, mail flows without it.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from django.db import InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from relay.logs import get_logger
from relay.metrics import redis_answers, registry

log = get_logger(__name__)
AWAY = (OperationalError, InterfaceError)
_migrated = False  # what has been applied stays applied for the code that this process runs


@dataclass(frozen=True, slots=True)
class Check:
    state: str  # ok, warn, fail
    detail: str


@require_safe
@never_cache
def live(request: HttpRequest) -> HttpResponse:
    """The process answers; nothing else is asked, so that a database outage restarts nobody."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """200 if this process can serve people; 503 and the cause if not."""
    checks = {name: check() for name, check in CHECKS.items()}
    failed = any(check.state == "fail" for check in checks.values())
    body = {
        "status": "not ready" if failed else "ready",
        "checks": {name: asdict(check) for name, check in checks.items()},
    }
    return JsonResponse(body, status=503 if failed else 200)


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Only for those who ask this process directly: what came through a proxy came from the world."""
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return HttpResponseNotFound("Ask the web process itself, not the proxy.\n", content_type="text/plain")
    return HttpResponse(generate_latest(registry()), content_type=CONTENT_TYPE_LATEST)


def _database() -> Check:
    started = time.monotonic()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except AWAY as error:
        log.warning("database_unreachable", error=str(error))
        connection.close()
        return Check("fail", "PostgreSQL does not answer.")
    return Check("ok", f"PostgreSQL answered in {(time.monotonic() - started) * 1000:.1f} ms.")


def _migrations() -> Check:
    global _migrated  # noqa: PLW0603  # reading the graph costs 50 ms, and the answer cannot turn back
    if _migrated:
        return Check("ok", "All migrations are applied.")
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except AWAY:
        return Check("fail", "Not known: PostgreSQL does not answer.")
    if missing:
        return Check("fail", f"{len(missing)} migrations are missing: run manage.py migrate.")
    _migrated = True
    return Check("ok", "All migrations are applied.")


def _redis() -> Check:
    if redis_answers():
        return Check("ok", "Redis answers.")
    return Check("warn", "Redis does not answer: mail flows, but beat's sweeps wait.")


CHECKS: dict[str, Callable[[], Check]] = {"database": _database, "migrations": _migrations, "redis": _redis}
