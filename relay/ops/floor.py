"""The Floor: what goes through the installation now, and who works on it. Counts only, no judgement (see troubles).

Shapes  Floor holds everything the page shows, read in a dozen statements that touch the last day at most.
Units   Counts of accepts, deliveries and failures are recipients; of refused logins, attempts. Ages: seconds.
        STALE_SECONDS: a worker writes its heartbeat every 5 s; silent for longer it is dead or stuck.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Max, Min, Q, Sum
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from audit.models import AuthEvent, Reason, Result
from relay.models import DeliveryAttempt, Message, Recipient, Worker
from relay.ops.asked import FLOOR_PERIODS
from relay.ops.usage import NearLimit, near_limit

STALE_SECONDS = 15
FORGOTTEN = timedelta(minutes=10)  # a worker silent for longer was replaced; its row tells nothing any more
HOPS = 20
KINDS = ("smtpd", "delivery")


@dataclass(frozen=True, slots=True)
class Flow:
    """One kind of event, counted over FLOOR_PERIODS."""

    name: str
    label: str | Promise
    counts: tuple[int, ...]


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
class RefusedReason:
    reason: str
    label: str
    counts: tuple[int, ...]


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

    def flow(self, name: str) -> Flow:
        return next(flow for flow in self.flows if flow.name == name)

    def alive(self, kind: str) -> int:
        return sum(worker.is_alive for worker in self.workers if worker.kind == kind)


def floor_of(*, now: datetime) -> Floor:
    refused, logins = _logins(now=now)
    return Floor(
        at=now,
        flows=[*_mail(now=now), *logins],
        queue=_queue(now=now),
        next_hops=_next_hops(now=now),
        workers=_workers(now=now),
        refused=refused,
        near_limit=near_limit(now=now),
        pending=list(
            Organization.objects.filter(state=Organization.State.PENDING, is_system=False).order_by("created_at")
        ),
    )


def _by_period(what: Callable[[Q], Any], at: str, *, now: datetime) -> dict[str, Any]:
    """Aggregates named p0, p1, p2: `what` over the rows younger than each period."""
    return {f"p{place}": what(Q(**{f"{at}__gte": period.since(now)})) for place, period in enumerate(FLOOR_PERIODS)}


def _counts(found: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(found[f"p{place}"] or 0 for place in range(len(FLOOR_PERIODS)))


def _mail(*, now: datetime) -> Iterable[Flow]:
    longest = FLOOR_PERIODS[-1].since(now)
    accepted = Message.objects.filter(received_at__gte=longest).aggregate(
        **_by_period(lambda young: Sum("recipient_count", filter=young), "received_at", now=now)
    )
    yield Flow("accepted", _("Accepted"), _counts(accepted))
    for state, label in ((Recipient.State.DELIVERED, _("Delivered")), (Recipient.State.FAILED, _("Failed"))):
        settled = Recipient.objects.filter(state=state, settled_at__gte=longest)
        found = settled.aggregate(**_by_period(lambda young: Count("pk", filter=young), "settled_at", now=now))
        yield Flow(state.value, label, _counts(found))


def _logins(*, now: datetime) -> tuple[list[RefusedReason], list[Flow]]:
    """Logins by result, and those that were not accepted by their true reason."""
    rows = AuthEvent.objects.filter(at__gte=FLOOR_PERIODS[-1].since(now)).order_by().values("result", "reason")
    found = list(rows.annotate(**_by_period(lambda young: Sum("count", filter=young), "at", now=now)))
    labels = dict(Reason.choices)
    refused = [
        RefusedReason(row["reason"], str(labels.get(row["reason"], row["reason"])), _counts(row))
        for row in found
        if row["result"] != Result.ACCEPTED
    ]
    refused.sort(key=lambda each: each.counts[::-1], reverse=True)
    flows = [
        Flow("logins", _("Logins accepted"), _added(_counts(row) for row in found if row["result"] == Result.ACCEPTED)),
        Flow("refused", _("Logins refused"), _added(_counts(row) for row in found if row["result"] != Result.ACCEPTED)),
    ]
    return refused, flows


def _added(counts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip((0,) * len(FLOOR_PERIODS), *counts, strict=True)))


def _queue(*, now: datetime) -> Queue:
    queued = Recipient.objects.filter(state=Recipient.State.QUEUED).aggregate(
        queued=Count("pk"),
        due=Count("pk", filter=Q(due_at__lte=now)),
        leased=Count("pk", filter=Q(leased_until__gt=now)),
        oldest=Min("due_at", filter=Q(due_at__lte=now)),
    )
    held = Recipient.objects.filter(state=Recipient.State.HELD).aggregate(
        held=Count("pk"), oldest=Min("message__received_at")
    )
    oldest = queued["oldest"]
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
