"""Rows as the SMTP door and the delivery loop leave them, for the operator's pages to read."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import AuthEvent
from audit.record import attempt, new_reference, record_auth_event
from relay.credentials import create_smtp_user
from relay.ids import uuid7
from relay.models import DeliveryAttempt, LimitWindow, Message, Recipient, SmtpUser, Worker
from relay.windows import Window


def make_smtp_user(organization: Organization, name: str = "app") -> SmtpUser:
    return create_smtp_user(organization, name=name, excess="refuse", actor=SYSTEM)


def make_event(*, ago: timedelta = timedelta(minutes=1), **values: Any) -> AuthEvent:
    """A refused login of nobody, unless told otherwise."""
    defaults: dict[str, Any] = {
        "at": timezone.now() - ago,
        "result": "refused",
        "reason": "unknown_user",
        "ip": "203.0.113.9",
        "port": 2587,
        "worker": "smtpd@test:1",
        "username_given": "guess.nobody",
        "mechanism": "PLAIN",
        "tls_version": "TLSv1.3",
    }
    return record_auth_event(attempt(**{**defaults, **values}))


def make_message(organization: Organization, *, ago: timedelta = timedelta(minutes=1), **values: Any) -> Message:
    defaults: dict[str, Any] = {
        "id": uuid7(),
        "reference": new_reference(),
        "reverse_path": "news@alice.example",
        "header_from": "news@alice.example",
        "subject": "The secret subject",
        "size_octets": 1234,
        "recipient_count": 1,
        "route": "sandbox",
        "received_at": timezone.now() - ago,
    }
    return Message.objects.create(organization=organization, **{**defaults, **values})


def make_recipient(message: Message, address: str = "to@example.net", **values: Any) -> Recipient:
    return Recipient.objects.create(message=message, address=address, **values)


def make_attempt(recipient: Recipient, outcome: str, *, ago: timedelta = timedelta(minutes=1), **values: Any) -> Any:
    defaults: dict[str, Any] = {
        "number": 1,
        "started_at": timezone.now() - ago,
        "route": "smarthost",
        "next_hop": "mx.example.net",
    }
    return DeliveryAttempt.objects.create(recipient=recipient, outcome=outcome, **{**defaults, **values})


def make_worker(kind: str, *, silent: timedelta = timedelta(0), name: str = "") -> Worker:
    now = timezone.now()
    return Worker.objects.create(
        name=name or f"{kind}@test:1", kind=kind, started_at=now - timedelta(hours=1), seen_at=now - silent
    )


def use_hour(organization: Organization, count: int, *, now: datetime | None = None) -> None:
    """As if `count` recipients had been accepted this minute."""
    window = Window(int((now or timezone.now()).timestamp() // 60))
    window.add(count)
    LimitWindow.objects.create(
        scope=LimitWindow.Scope.ORGANIZATION, owner_id=organization.pk, minute=window.minute, buckets=window.buckets
    )
