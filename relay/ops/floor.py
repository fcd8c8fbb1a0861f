"""The Floor: what goes through the installation now, and who works on it. Counts only, no judgement (see troubles).

Shapes  Floor holds everything the page shows, read in a dozen statements that touch the last day at most.
Units   Counts of accepts, deliveries and failures are recipients; of refused logins, attempts. Ages: seconds.
        STALE_SECONDS: a worker writes its heartbeat every 5 s; silent for longer it is dead or stuck.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Max, Min, Q

from accounts.models import Organization
from audit.anomalies.models import Anomaly, Severity, State
from relay.models import DeliveryAttempt, Recipient, Worker
from relay.ops.flow import Flow, RefusedReason, flow_of
from relay.ops.usage import NearLimit, near_limit
from relay.queue import oldest_due_at

STALE_SECONDS = 15
FORGOTTEN = timedelta(minutes=10)  # a worker silent for longer was replaced; its row tells nothing any more
HOPS = 20
KINDS = ("smtpd", "delivery")


@dataclass(frozen=True, slots=True)
class Queue:
    queued: int
    due: int
    leased: int
    held: int
    oldest_due_seconds: int | None
    oldest_held_at: datetime | None


@dataclass(frozen=True, slots=True)
class NextHop:
    """A server that took less than everything in the last hour."""

    name: str
    delivered: int
    deferred: int
    failed: int
    lost: int  # the worker died meanwhile
    last_reply: str
    last_at: datetime

    @property
    def bad(self) -> int:
        return self.deferred + self.failed + self.lost

    @property
    def takes_nothing(self) -> bool:
        return self.delivered == 0

    @property
    def outcomes(self) -> list[tuple[DeliveryAttempt.Outcome, int]]:
        """In the order of the page's columns."""
        outcome = DeliveryAttempt.Outcome
        return [
            (outcome.DELIVERED, self.delivered),
            (outcome.DEFERRED, self.deferred),
            (outcome.FAILED, self.failed),
            (outcome.LOST, self.lost),
        ]


@dataclass(frozen=True, slots=True)
class WorkerState:
    name: str
    kind: str
    started_at: datetime
    seen_at: datetime
    silent_seconds: int
    figures: dict[str, Any]

    @property
    def is_alive(self) -> bool:
        return self.silent_seconds <= STALE_SECONDS


@dataclass(frozen=True, slots=True)
class Floor:
    at: datetime
    flows: list[Flow]
    queue: Queue
    next_hops: list[NextHop]
    workers: list[WorkerState]
    refused: list[RefusedReason]
    near_limit: list[NearLimit]
    pending: list[Organization]
    critical_alerts: int = 0  # open ones, of all customers and the installation

    def flow(self, name: str) -> Flow:
        return next(flow for flow in self.flows if flow.name == name)

    def alive(self, kind: str) -> int:
        return sum(worker.is_alive for worker in self.workers if worker.kind == kind)


def floor_of(*, now: datetime) -> Floor:
    flows, refused = flow_of(now=now)
    return Floor(
        at=now,
        flows=flows,
        queue=_queue(now=now),
        next_hops=_next_hops(now=now),
        workers=_workers(now=now),
        refused=refused,
        near_limit=near_limit(now=now),
        pending=list(
            Organization.objects.filter(state=Organization.State.PENDING, is_system=False).order_by("created_at")
        ),
        critical_alerts=Anomaly.objects.filter(state=State.OPEN, severity=Severity.CRITICAL).count(),
    )


def _queue(*, now: datetime) -> Queue:
    queued = Recipient.objects.filter(state=Recipient.State.QUEUED).aggregate(
        queued=Count("pk"),
        due=Count("pk", filter=Q(due_at__lte=now)),
        leased=Count("pk", filter=Q(leased_until__gt=now)),
    )
    held = Recipient.objects.filter(state=Recipient.State.HELD).aggregate(
        held=Count("pk"), oldest=Min("message__received_at")
    )
    oldest = oldest_due_at(leased=True)
    return Queue(
        queued=queued["queued"],
        due=queued["due"],
        leased=queued["leased"],
        held=held["held"],
        oldest_due_seconds=None if oldest is None else int((now - oldest).total_seconds()),
        oldest_held_at=held["oldest"],
    )


def _next_hops(*, now: datetime) -> list[NextHop]:
    """Where attempts did not succeed in the last hour, the worst first, with the last thing the server said."""
    outcome = DeliveryAttempt.Outcome
    tried = DeliveryAttempt.objects.filter(started_at__gte=now - timedelta(hours=1)).exclude(outcome="")
    bad = ~Q(outcome=outcome.DELIVERED)
    hops = (
        tried.values("next_hop")
        .annotate(
            delivered=Count("pk", filter=Q(outcome=outcome.DELIVERED)),
            deferred=Count("pk", filter=Q(outcome=outcome.DEFERRED)),
            lost=Count("pk", filter=Q(outcome=outcome.LOST)),
            failed=Count("pk", filter=Q(outcome=outcome.FAILED)),
            last=Max("pk", filter=bad),
        )
        .filter(last__isnull=False)
        .order_by(-(F("deferred") + F("failed") + F("lost")), "next_hop")[:HOPS]
    )
    rows = list(hops)
    last = DeliveryAttempt.objects.in_bulk([row["last"] for row in rows])
    return [_next_hop(row, last[row["last"]]) for row in rows]


def _next_hop(row: Mapping[str, Any], last: DeliveryAttempt) -> NextHop:
    reply = " ".join(str(part) for part in (last.code, last.enhanced_code, last.text) if part)
    return NextHop(
        name=row["next_hop"],
        delivered=row["delivered"],
        deferred=row["deferred"],
        failed=row["failed"],
        lost=row["lost"],
        last_reply=reply,
        last_at=last.started_at,
    )


def _workers(*, now: datetime) -> list[WorkerState]:
    rows = Worker.objects.filter(seen_at__gte=now - FORGOTTEN).order_by("-kind", "name")
    return [
        WorkerState(
            name=row.name,
            kind=row.kind,
            started_at=row.started_at,
            seen_at=row.seen_at,
            silent_seconds=max(0, int((now - row.seen_at).total_seconds())),
            figures=row.figures,
        )
        for row in rows
    ]
