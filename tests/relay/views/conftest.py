"""What the customer's pages are tested with.

Shapes  alice_client: alice, signed in and recently identified; bob_client, vera_client (a viewer of alice's) likewise.
        shop: alice's SMTP user shop.alice-works. attempted(reason=…): a sign-in in her auth log.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import AuthEvent, Reason, Result
from audit.record import attempt, record_auth_event
from relay.credentials import create_smtp_user
from relay.models import SmtpUser

Attempts = Callable[..., AuthEvent]


@pytest.fixture
def alice_client(alice: User, alice_org: Organization, client_for: Callable[..., Client]) -> Client:
    return client_for(alice)


@pytest.fixture
def bob_client(bob: User, bob_org: Organization, client_for: Callable[..., Client]) -> Client:
    return client_for(bob)


@pytest.fixture
def vera_client(vera: User, client_for: Callable[..., Client]) -> Client:
    return client_for(vera)


@pytest.fixture
def shop(alice_org: Organization) -> SmtpUser:
    return create_smtp_user(alice_org, name="shop", excess="refuse", actor=SYSTEM)


@pytest.fixture
def attempted(alice_org: Organization) -> Attempts:
    def record(
        *,
        reason: Reason = Reason.OK,
        ip: str = "192.0.2.10",
        username: str = "shop.alice-works",
        at: datetime | None = None,
        organization: Organization | None = None,
        smtp_user: SmtpUser | None = None,
        **columns: Any,
    ) -> AuthEvent:
        return record_auth_event(
            attempt(
                result=Result.ACCEPTED if reason is Reason.OK else Result.REFUSED,
                reason=reason,
                ip=ip,
                port=587,
                worker="smtpd@test:1",
                username_given=username,
                mechanism="PLAIN",
                client_name="client.example",
                tls_version="TLSv1.3",
                organization_id=(organization or alice_org).pk,
                smtp_user_id=smtp_user.pk if smtp_user else None,
                at=at,
                **columns,
            )
        )

    return record
