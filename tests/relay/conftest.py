"""Messages for the tests of the relay.

Shapes  queued_message(organization, recipients=(…), content=…, route="sandbox", state="queued", …) -> Message, with its
        content and recipients, as the SMTP door would have stored it. Further keywords are columns of Message.
        make_refusal(smtp_user, reply=NOT_YOURS, ago=…) -> Refusal, as relay.smtp.recorder would have written it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.record import new_reference
from relay.ids import uuid7
from relay.models import Message, MessageData, Recipient, Refusal, SmtpUser
from relay.smtp import replies
from relay.smtp.replies import Reply

CONTENT = (
    b"Received: from app.example by mail.gatepost.example with ESMTPSA id TEST\r\n"
    b"From: App <app@alice.example>\r\nTo: you@example.net\r\nSubject: Hello\r\nMessage-ID: <1@alice.example>\r\n"
    b"\r\nHello.\r\n"
)
NOT_YOURS = replies.NOT_YOUR_SENDER.filled(
    why="shop.alice-works may not send as x@other.example; add it to its senders in the panel"
)


def make_message(
    organization: Organization,
    *,
    recipients: Sequence[str] = ("you@example.net",),
    content: bytes = CONTENT,
    route: str = "sandbox",
    state: str = "queued",
    due_at: datetime | None = None,
    received_at: datetime | None = None,
    **columns: Any,
) -> Message:
    received_at = received_at or timezone.now()
    values = {
        "id": uuid7(now_ns=int(received_at.timestamp() * 1e9)),
        "reference": new_reference(),
        "reverse_path": "app@alice.example",
        "header_from": "app@alice.example",
        "header_message_id": "<1@alice.example>",
        "subject": "Hello",
        **columns,
    }
    message = Message.objects.create(
        organization=organization,
        route=route,
        received_at=received_at,
        size_octets=len(content),
        recipient_count=len(recipients),
        **values,
    )
    MessageData.objects.create(message=message, content=content)
    Recipient.objects.bulk_create(
        Recipient(message=message, address=address, state=state, due_at=due_at or received_at) for address in recipients
    )
    return message


def make_refusal(
    smtp_user: SmtpUser, reply: Reply = NOT_YOURS, *, ago: timedelta = timedelta(0), **columns: Any
) -> Refusal:
    values = {
        "at": timezone.now() - ago,
        "reference": new_reference(),
        "organization_id": smtp_user.organization_id,
        "smtp_user_id": smtp_user.pk,
        "ip": "192.0.2.10",
        "client_name": "client.example",
        "code": reply.code,
        "enhanced_code": reply.enhanced,
        "text": reply.text,
        "about": "x@other.example",
        "reverse_path": "",
        "worker": "smtpd@test:1",
        **columns,
    }
    return Refusal.objects.create(**values)


@pytest.fixture
def queued_message(db: None) -> Callable[..., Message]:
    return make_message
