"""Posting again: one delivery, or all that failed since a time.

Shapes  replay(delivery) and replay_failed(endpoint, since=…): they wait again, with all their tries before them, under
        the same event id. Whoever must not act twice on one event looks at it.
Errors  ReplayRefused (a ValidationError): the endpoint is disabled, or the delivery is being posted at this moment.
"""

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.changes import Actor, record_change
from relay.webhooks.models import Delivery, Endpoint


class ReplayRefused(ValidationError):
    """It cannot be posted again now."""


@transaction.atomic
def replay(delivery: Delivery, *, actor: Actor) -> None:
    """A delivery that waits for its next try gets it at once."""
    if not _again(delivery.endpoint, Delivery.objects.filter(pk=delivery.pk)):
        raise ReplayRefused(_("It is being posted at this moment."), code="changed")
    _record(delivery.endpoint, actor, {"event": str(delivery.event_id)})


@transaction.atomic
def replay_failed(endpoint: Endpoint, *, since: datetime, actor: Actor) -> int:
    """How many."""
    failed = Delivery.objects.filter(endpoint=endpoint, state=Delivery.State.FAILED, created_at__gte=since)
    count = _again(endpoint, failed)
    if count:
        _record(endpoint, actor, {"since": since.isoformat(), "count": count})
    return count


def _again(endpoint: Endpoint, deliveries: QuerySet[Delivery]) -> int:
    if endpoint.disabled_at is not None:
        raise ReplayRefused(_("The endpoint is disabled. Enable it first."), code="disabled")
    now = timezone.now()
    return deliveries.filter(lease=None).update(
        state=Delivery.State.WAITING, due_at=now, attempts=0, settled_at=None, created_at=now
    )


def _record(endpoint: Endpoint, actor: Actor, values: dict[str, object]) -> None:
    record_change(
        "webhook.replayed",
        organization_id=endpoint.organization_id,
        actor=actor,
        subject=endpoint.url.partition("?")[0][:320],
        subject_id=endpoint.pk,
        values=values,
    )
