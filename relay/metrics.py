"""What Prometheus reads at /metrics: figures from the database, asked for at each scrape.

Shapes  One collector in a registry of our own: the web process has no counters, so any number of them tells the same.
        Figures that a worker counts itself come from its heartbeat (relay.models.Worker.figures).
Units   `_seconds`, `_recipients`; "last hour" is the rolling hour of the limits. Names: docs/operations.md.
Errors  With the database away only gatepost_database_up 0 and gatepost_redis_up remain; a scrape never fails.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Count, Q, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from audit.models import AuthHour
from relay.models import LimitWindow, Message, NextHopTrouble, Recipient, ReputationSpan, SelfCheck, Worker
from relay.queue import oldest_due_at
from relay.webhooks.figures import figures

ALIVE_SECONDS = 30
AUTH_HOURS = 24
REDIS_TIMEOUT_SECONDS = 1.0

# A bucket of minute m stands at m modulo 61 (relay.windows); rows of the idle still hold minutes long past.
ACCEPTED_SQL = """
    SELECT coalesce(sum(buckets[(m %% 61) + 1]), 0)
    FROM relay_limitwindow, generate_series(greatest(minute - 60, %s - 59), least(minute, %s)) AS m
    WHERE scope = %s
"""


class GatepostCollector(Collector):
    """Asks PostgreSQL and Redis what is true now."""

    def collect(self) -> Iterator[Metric]:
        yield _gauge("gatepost_redis_up", "1 if Redis answers", float(redis_answers()))
        info = GaugeMetricFamily("gatepost_build_info", "The version that runs, always 1", labels=["version"])
        info.add_metric([settings.GATEPOST_VERSION], 1)
        yield info
        try:
            families = list(_from_database(timezone.now()))
        except (OperationalError, InterfaceError):
            yield _gauge("gatepost_database_up", "1 if PostgreSQL answers", 0)
            return
        yield _gauge("gatepost_database_up", "1 if PostgreSQL answers", 1)
        yield from families


def registry() -> CollectorRegistry:
    made = CollectorRegistry(auto_describe=False)
    made.register(GatepostCollector())
    return made


def redis_answers() -> bool:
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=REDIS_TIMEOUT_SECONDS, socket_timeout=REDIS_TIMEOUT_SECONDS
    )
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def _from_database(now: datetime) -> Iterator[Metric]:
    yield _gauge(
        "gatepost_accepted_recipients_last_hour",
        "Recipients accepted against the plans in the last 60 minutes",
        _accepted_last_hour(now),
    )
    yield from _queue(now)
    yield _auth(now)
    yield from _reputation(now)
    yield from _self_check(now)
    yield from _webhooks(now)
    yield from _workers(now)


def _accepted_last_hour(now: datetime) -> int:
    minute = int(now.timestamp()) // 60
    with connection.cursor() as cursor:
        cursor.execute(ACCEPTED_SQL, [minute, minute, LimitWindow.Scope.ORGANIZATION])
        row = cursor.fetchone()
    return int(row[0])


def _queue(now: datetime) -> Iterator[Metric]:
    """Only states with an index of their own: counting what was ever delivered would read the whole table."""
    counts = GaugeMetricFamily("gatepost_queue_recipients", "Recipients that wait, by state", labels=["state"])
    ages = GaugeMetricFamily("gatepost_queue_oldest_seconds", "Age of the oldest message that waits", labels=["state"])
    found = Recipient.objects.filter(state=Recipient.State.QUEUED).aggregate(
        queued=Count("pk"),
        due=Count("pk", filter=Q(due_at__lte=now, lease__isnull=True)),
        leased=Count("pk", filter=Q(lease__isnull=False)),
    )
    found["held"] = Recipient.objects.filter(state=Recipient.State.HELD).count()
    for state in (Recipient.State.QUEUED, Recipient.State.HELD):
        counts.add_metric([state.value], found[state.value])
        ages.add_metric([state.value], _age(_oldest(state), now=now))
    yield from (counts, ages)
    yield _gauge("gatepost_queue_due_recipients", "Recipients that wait for a worker now", found["due"])
    yield _gauge("gatepost_queue_in_hand_recipients", "Recipients that a worker has", found["leased"])
    late = _age(oldest_due_at(), now=now)
    yield _gauge("gatepost_queue_late_seconds", "How long the recipient that is due first waits", late)
    blocked = NextHopTrouble.objects.filter(blocked_until__gt=now).count()
    yield _gauge("gatepost_next_hops_blocked", "Next hops to which nothing is tried now", blocked)


def _oldest(state: Recipient.State) -> datetime | None:
    """Message ids are UUIDv7: their order is the order of arrival, and the index has it."""
    row = Recipient.objects.filter(state=state).order_by("message_id").values_list("message_id", flat=True).first()
    return None if row is None else Message.objects.values_list("received_at", flat=True).get(id=row)


def _age(at: datetime | None, *, now: datetime) -> float:
    return 0.0 if at is None else max(0.0, (now - at).total_seconds())


def _auth(now: datetime) -> Metric:
    """From the hourly sums, so up to a minute behind."""
    family = GaugeMetricFamily(
        "gatepost_auth_attempts_last_day", "Logins tried in the last 24 hours", labels=["result", "reason"]
    )
    since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=AUTH_HOURS)
    sums = AuthHour.objects.filter(hour__gt=since).values_list("result", "reason").annotate(attempts=Sum("count"))
    for result, reason, attempts in sums.order_by("result", "reason"):
        family.add_metric([result, reason], attempts)
    return family


def _webhooks(now: datetime) -> Iterable[Metric]:
    found = figures(now)
    counts = GaugeMetricFamily("gatepost_webhook_endpoints", "Webhook endpoints by state", labels=["state"])
    for state, count in found.endpoints.items():
        counts.add_metric([state], count)
    late = _gauge("gatepost_webhook_late_seconds", "How long the event that is due first waits", found.late_seconds)
    return [counts, late]


def _workers(now: datetime) -> Iterable[Metric]:
    alive = Worker.objects.filter(seen_at__gte=now - timedelta(seconds=ALIVE_SECONDS))
    counts = GaugeMetricFamily("gatepost_workers_alive", "Processes with a fresh heartbeat", labels=["kind"])
    found = dict(alive.values_list("kind").annotate(number=Count("name")))
    for kind in sorted({"smtpd", "delivery", *found}):
        counts.add_metric([kind], found.get(kind, 0))
    family = GaugeMetricFamily(
        "gatepost_worker_figure", "What a worker counts itself since its start", labels=["kind", "worker", "figure"]
    )
    for worker in alive.order_by("name"):
        for name, value in sorted(_flat(worker.figures)):
            family.add_metric([worker.kind, worker.name, name], value)
    return [counts, family]


def _reputation(now: datetime) -> Iterable[Metric]:
    """As the last look found it: nothing is asked here."""
    listed = GaugeMetricFamily(
        "gatepost_address_listed", "1 if a blocklist names an address that mail leaves from", labels=["address", "list"]
    )
    names = GaugeMetricFamily(
        "gatepost_address_name_fits", "1 if the address has a name that fits", labels=["address", "check"]
    )
    looked = ReputationSpan.objects.filter(ended_at=None).order_by("address", "zone", "check_kind")
    for span in looked:
        if span.check_kind != ReputationSpan.Check.BLOCKLIST:
            names.add_metric([span.address, span.check_kind], span.state == ReputationSpan.State.GOOD)
        elif span.state in {ReputationSpan.State.GOOD, ReputationSpan.State.LISTED}:
            listed.add_metric([span.address, span.zone], span.state == ReputationSpan.State.LISTED)
    last = max((span.last_at for span in looked), default=None)
    age = _gauge("gatepost_reputation_age_seconds", "Since the addresses were looked at", _age(last, now=now))
    return [listed, names, age] if last else [listed, names]


def _self_check(now: datetime) -> Iterable[Metric]:
    last = SelfCheck.objects.order_by("-at").first()
    if last is None:
        return []
    states = [finding["state"] for finding in last.findings]
    counts = GaugeMetricFamily("gatepost_self_check_findings", "Of the last self-check", labels=["state"])
    for state in ("ok", "warn", "fail"):
        counts.add_metric([state], states.count(state))
    return [counts, _gauge("gatepost_self_check_age_seconds", "Since the last self-check", _age(last.at, now=now))]


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by name, those of a table as table.name; words are left out."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)
