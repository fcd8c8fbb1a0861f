"""SMTP users and messages for the tests of the core, and what its transactions left behind.

Shapes  sender_of(organization, name="app", excess="refuse", ...) -> Sender; sender.submission(recipients=3, ...).
        accepted(batch) -> outcomes, by an Acceptor and a connection of its own. window(scope, owner) -> its use.
        at_once([function, ...]) -> results or exceptions, each in a thread with a connection of its own.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.record import new_reference
from relay.accept import Acceptor
from relay.credentials import create_app_password, create_smtp_user
from relay.database import connect
from relay.ids import uuid7
from relay.models import AppPassword, LimitWindow, SmtpUser
from relay.submission import Envelope, Outcome, Submission

CONTENT = b"From: <news@alice.example>\r\nSubject: Hello\r\n\r\nHello\r\n"


@dataclass
class Sender:
    """An SMTP user with a live app password."""

    smtp_user: SmtpUser
    app_password: AppPassword
    secret: str

    def submission(self, *, recipients: int = 1, **fields: Any) -> Submission:
        values: dict[str, Any] = {
            "id": uuid7(),
            "reference": new_reference(),
            "organization_id": self.smtp_user.organization_id,
            "smtp_user_id": self.smtp_user.pk,
            "app_password_id": self.app_password.pk,
            "reverse_path": "news@alice.example",
            "recipients": tuple(Envelope(f"to{number}@dest.example") for number in range(recipients)),
            "content": CONTENT,
            "route": "sandbox",
            "client_ip": "192.0.2.1",
        }
        return Submission(**(values | fields))


def make_sender(organization: Organization, *, name: str = "app", excess: str = "refuse", **fields: Any) -> Sender:
    smtp_user = create_smtp_user(organization, name=name, excess=excess, actor=SYSTEM, **fields)
    made = create_app_password(smtp_user, name="test", actor=SYSTEM)
    return Sender(smtp_user, made.app_password, made.secret)


@pytest.fixture
def sender_of(transactional_db: None) -> Callable[..., Sender]:
    return make_sender


@pytest.fixture
def sender(alice_org: Organization, sender_of: Callable[..., Sender]) -> Sender:
    return sender_of(alice_org)


def set_plan(organization: Organization, recipients_per_hour: int) -> None:
    plan = organization.subscription.plan
    plan.recipients_per_hour = recipients_per_hour
    plan.save()


def accepted(batch: Sequence[Submission]) -> list[Outcome]:
    async def run() -> list[Outcome]:
        async with await connect(application_name="test") as conn:
            return await Acceptor().accept(conn, batch)

    return asyncio.run(run())


def used(scope: int, owner_id: int, ip: str | None = None) -> int:
    row = LimitWindow.objects.filter(scope=scope, owner_id=owner_id, ip=ip).first()
    return sum(row.buckets) if row else 0


def at_once(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Starts them together; the results in order, an exception in the place of its result."""
    barrier = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)

    def run(number: int, function: Callable[[], Any]) -> None:
        try:
            barrier.wait(20)
            results[number] = function()
        except Exception as error:
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results
