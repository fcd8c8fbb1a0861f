"""Alerts of alice's, for pages, mails and the API.

Shapes  alert(kind=…, …): an open case about shop.alice-works, whose app password is `password`.
"""

from collections.abc import Callable
from typing import Any

import pytest

from accounts.models import Organization
from audit.anomalies.cases import raise_alert
from audit.anomalies.models import Anomaly, Kind, Severity
from audit.changes import SYSTEM
from relay.credentials import create_app_password
from relay.models import AppPassword, SmtpUser
from tests.relay.views.conftest import alice_client, bob_client, shop, vera_client  # noqa: F401  # fixtures

AWAY = "203.0.113.9"
MakeAlert = Callable[..., Anomaly]


@pytest.fixture
def password(shop: SmtpUser) -> AppPassword:  # noqa: F811
    return create_app_password(shop, name="web-1", actor=SYSTEM).app_password


@pytest.fixture
def alert(alice_org: Organization, shop: SmtpUser, password: AppPassword) -> MakeAlert:  # noqa: F811
    def make(kind: Kind = Kind.NETWORK, **given: Any) -> Anomaly:
        values: dict[str, Any] = {
            "organization_id": alice_org.pk,
            "key": f"{kind}:test",
            "severity": Severity.WARNING,
            "evidence": {
                "ip": AWAY,
                "network": "203.0.113.0/24",
                "client": "kali",
                "known_networks": ["192.0.2.0/24"],
                "filters": [{"ip": AWAY, "result": "accepted"}],
                "doubts": [[shop.pk, "network", "203.0.113.0/24"]],
            },
            "smtp_user_ids": [shop.pk],
            "app_password_ids": [password.pk],
        }
        return raise_alert(kind, **{**values, **given})

    return make
