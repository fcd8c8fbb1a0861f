"""A month of ordinary life for one SMTP user, and what is found after it.

Shapes  ordinary: app 7 of SMTP user 11 (organization 1) signed in from HOME on each of thirty days, and the watch has
        learned it. found() runs the watch and gives the open cases by kind.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.anomalies.models import Anomaly, State
from audit.anomalies.watch import watch
from tests.audit.conftest import MakeEvent

HOME, AWAY = "192.0.2.7", "203.0.113.9"
CLIENT = "web1.shop.example"
SignIn = Callable[..., Any]
Found = Callable[[], dict[str, Anomaly]]


@pytest.fixture
def sign_in(make_event: MakeEvent) -> SignIn:
    def make(at: datetime, **given: Any) -> Any:
        values = {"result": "accepted", "reason": "ok", "ip": HOME, "client_name": CLIENT, "app_password_id": 7}
        return make_event(at=at, last_at=at, **{**values, **given})

    return make


@pytest.fixture
def ordinary(sign_in: SignIn) -> datetime:
    """The present moment, after the month."""
    now = timezone.now()
    for day in range(30, 0, -1):
        sign_in(now - timedelta(days=day))
    watch()
    assert not Anomaly.objects.exists()
    return now


@pytest.fixture
def found(ordinary: datetime) -> Found:
    def run() -> dict[str, Anomaly]:
        watch()
        return {each.kind: each for each in Anomaly.objects.filter(state=State.OPEN)}

    return run
