"""Events at will, and a database whose rows are really committed."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection

from audit import retention
from audit.models import AuthEvent, ChangeChain, ChangeEvent
from audit.record import attempt, record_auth_event

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
COMMITTED = 9_000_001  # the organization of committed rows

MakeEvent = Callable[..., AuthEvent]


@pytest.fixture(autouse=True)
def _no_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """This floor knows no plans, and its organizations are numbers: nothing is hidden by age, unless a test says so."""
    monkeypatch.setattr(retention, "kept_days", [])


@pytest.fixture
def make_event(db: None) -> MakeEvent:
    """Stores one attempt: a refused guess of alice's SMTP user at noon, unless told otherwise."""

    def make(**given: Any) -> AuthEvent:
        values: dict[str, Any] = {
            "at": NOON,
            "result": "refused",
            "reason": "wrong_password",
            "ip": "192.0.2.7",
            "port": 587,
            "worker": "smtpd@test:1",
            "username_given": "app.alice",
            "mechanism": "PLAIN",
            "tls_version": "TLSv1.3",
            "organization_id": 1,
            "smtp_user_id": 11,
        }
        return record_auth_event(attempt(**{**values, **given}))

    return make


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: Any) -> Iterator[int]:
    """An organization's id for rows that threads and other connections must see; they are removed afterwards."""
    with django_db_blocker.unblock():
        try:
            yield COMMITTED
        finally:
            for model in (ChangeEvent, ChangeChain, AuthEvent):
                model._default_manager.filter(organization_id=COMMITTED).delete()
            connection.close()
