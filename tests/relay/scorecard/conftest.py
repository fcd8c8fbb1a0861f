"""An organization that can be brought into every state of its card.

Shapes  signed_in(user, password=None, mechanism=…, tls_version=…, count=…): sign-ins of yesterday, in the sums.
        row(rows, number) -> (state, evidence) of a practice.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.logins import roll_up_login_days
from audit.models import Reason, Result
from audit.record import attempt, record_auth_event
from audit.rollup import roll_up_auth_hours
from relay.credentials import create_app_password, create_smtp_user
from relay.models import AppPassword, SmtpUser
from relay.scorecard.card import Row

DAY = timedelta(days=1)
SignedIn = Callable[..., None]


def record(**given: Any) -> None:
    values: dict[str, Any] = {
        "at": timezone.now() - DAY / 2,
        "result": Result.ACCEPTED,
        "reason": Reason.OK,
        "ip": "192.0.2.7",
        "port": 587,
        "worker": "test",
        "mechanism": "PLAIN",
        "tls_version": "TLSv1.3",
    }
    record_auth_event(attempt(**{**values, **given}))


@pytest.fixture
def shop(alice_org: Organization) -> SmtpUser:
    return create_smtp_user(alice_org, name="shop", excess="refuse", actor=SYSTEM)


@pytest.fixture
def password(shop: SmtpUser) -> AppPassword:
    return create_app_password(shop, name="web-1", actor=SYSTEM).app_password


@pytest.fixture
def signed_in(shop: SmtpUser, password: AppPassword) -> SignedIn:
    def make(**given: Any) -> None:
        ids = {"organization_id": shop.organization_id, "smtp_user_id": shop.pk, "app_password_id": password.pk}
        record(**{**ids, **given})
        roll_up_login_days()
        roll_up_auth_hours()

    return make


def row(rows: list[Row], number: int) -> tuple[str, str]:
    found = rows[number - 1]
    assert found.practice.number == number
    return found.state, found.evidence
