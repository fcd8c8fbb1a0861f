"""A sender that posts what is due, in the test's own thread and transaction."""

import sys
import time
from datetime import timedelta
from typing import Any

from django.utils import timezone

from relay.webhooks.lanes import Lanes, Room
from relay.webhooks.models import Delivery, Endpoint
from relay.webhooks.sender import Pace, Sender

NEVER = 1e9
QUICK = Pace(claim=0.02, gather=0.01, accepted=NEVER, auth=NEVER, limits=NEVER, recover=NEVER, retry=0.05)


class Quiet(Sender):
    """Without the sweeps, which have tests of their own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"pace": QUICK, **options})
        self._due = dict.fromkeys(("accepted", "auth", "limits", "recover", "lines"), float("inf"))

    def _recover_from_error(self) -> None:
        raise AssertionError from sys.exception()


def post_all(*, seconds: float = 2.0, lanes: Lanes[Any] | None = None, within: float = 20) -> None:
    """Until nothing is due that may be posted now."""
    sender, ends_at = Quiet(seconds=seconds, lanes=lanes), time.monotonic() + within
    try:
        while sender._running or sender._done or due().exists():
            assert time.monotonic() < ends_at, "posts take too long"
            sender._round()
    finally:
        sender._finish()


def due() -> Any:
    now = timezone.now()
    open_ones = Endpoint.objects.filter(disabled_at=None, deleted_at=None).exclude(paused_until__gt=now)
    return Delivery.objects.filter(state="waiting", lease=None, due_at__lte=now, endpoint__in=open_ones)


def make_due() -> None:
    """As if the wait for the next try, and the endpoint's pause, were over."""
    earlier = timezone.now() - timedelta(seconds=1)
    Delivery.objects.filter(state="waiting").update(due_at=earlier)
    Endpoint.objects.update(paused_until=None)


def queue_room() -> Room:
    """As of a worker that has just begun."""
    return Lanes[Any]().room()
