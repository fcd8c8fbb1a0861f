"""What is written of posts together, and what operators see of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from audit.changes import SYSTEM
from relay.webhooks import endpoints, outbox, queue
from relay.webhooks.figures import figures
from relay.webhooks.models import Delivery, Endpoint
from relay.webhooks.posting import Outcome
from tests.relay.outside_server import OutsideServer
from tests.relay.webhooks.running import Quiet, post_all, queue_room

pytestmark = pytest.mark.django_db
Make = Callable[..., Endpoint]


def test_operators_see_endpoints_by_state_and_whether_posts_come(hook: OutsideServer, endpoint: Make) -> None:
    """What waits for one that fails is not late, what waits for one that works is."""
    good, failing = endpoint(), endpoint()
    endpoints.disable_endpoint(endpoint(), actor=SYSTEM)
    endpoints.delete_endpoint(endpoint(), actor=SYSTEM)
    Endpoint.objects.filter(pk=failing.pk).update(failing_since=timezone.now(), failures=1)
    now = timezone.now()
    for row, seconds in ((failing, 500), (good, 90), (good, 30)):
        written = outbox.write_test(row)
        Delivery.objects.filter(pk=written.pk).update(due_at=now - timedelta(seconds=seconds))
    found = figures(now)
    assert found.endpoints == {"active": 1, "failing": 1, "disabled": 1}
    assert found.late_seconds == 90
    post_all()
    assert figures(timezone.now()).late_seconds == 0


def test_results_of_every_kind_are_written_together(
    hook: OutsideServer, endpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken, put off, busy, unanswered and gone in one batch; one that the database refuses costs no other."""
    rows = [endpoint() for _number in range(5)]
    for row in rows:
        outbox.write_test(row)
    lease, jobs = queue.claim(queue_room())
    statuses = dict(zip([row.pk for row in rows], [200, 500, 429, None, 410], strict=True))
    now = timezone.now()
    done = [
        queue.Done(
            job,
            lease,
            Outcome(now, 0.1, statuses[job.endpoint_id], "" if statuses[job.endpoint_id] == 200 else "No.", "", 60),
        )
        for job in jobs
    ]
    broken = replace(done[0], outcome=replace(done[0].outcome, status=2**40))
    sender = Quiet()
    sender._done = [broken, *done[1:]]
    sender._write()
    assert sender._done == []
    assert Delivery.objects.filter(lease=None, attempts=1).count() == 4
    queue.settle(done[:1])
    states = {each.endpoint_id: each.state for each in Delivery.objects.all()}
    assert [states[row.pk] for row in rows] == ["delivered", "waiting", "waiting", "waiting", "failed"]
    sender._finish()
