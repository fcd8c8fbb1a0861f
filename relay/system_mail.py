"""Django's mail, into our own queue: what Gatepost itself has to say leaves like a customer's mail.

Shapes  Message, MessageData and Recipients of the system organization, in the caller's transaction if there is one:
        no confirmation leaves for a sign-up that was rolled back. Nothing is debited: it is not a customer's.
        email_message.gatepost_message_id names the message, so that the demo can link to it.
Errors  As Django's backends: none, where fail_silently.
Source  RFC 5322; docs/flow.md, Gatepost's own mail.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime, parseaddr
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import sanitize_address
from django.db import transaction
from django.utils import timezone

from accounts.organizations import system_organization
from audit.record import new_reference, printable
from relay.ids import uuid7
from relay.models import Message, MessageData, Recipient

HEAD_START = timedelta(hours=1)  # a password reset goes before what customers have sent until now: the oldest is first


class EmailBackend(BaseEmailBackend):
    """settings.EMAIL_BACKEND."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        sent = 0
        for email_message in email_messages:
            if not email_message.recipients():
                continue
            try:
                message_id = enqueue(email_message)
            except Exception:
                if not self.fail_silently:
                    raise
                continue
            email_message.gatepost_message_id = message_id  # type: ignore[attr-defined]
            sent += 1
        return sent


def enqueue(email_message: EmailMessage) -> UUID:
    """Stores one message as accepted from Gatepost itself, and returns its id."""
    now = timezone.now()
    reference = new_reference()
    whole = email_message.message()
    content = _content(whole.as_bytes(), reference, now)
    encoding = email_message.encoding or settings.DEFAULT_CHARSET
    reverse_path, *recipients = (
        parseaddr(sanitize_address(address, encoding))[1]
        for address in (email_message.from_email, *email_message.recipients())
    )
    with transaction.atomic():
        message = Message.objects.create(
            id=uuid7(),
            reference=reference,
            organization=system_organization(),
            reverse_path=reverse_path,
            header_from=printable(reverse_path, 320),
            header_message_id=printable(str(whole["Message-ID"]), 255),
            subject=printable(str(email_message.subject), 255),
            size_octets=len(content),
            recipient_count=len(recipients),
            route=settings.GATEPOST_DEFAULT_ROUTE,
            smtputf8=not "".join((reverse_path, *recipients)).isascii(),
            body_8bit=not content.isascii(),
            received_at=now,
            client_name="Gatepost",
        )
        MessageData.objects.create(message=message, content=content)
        due_at = now - HEAD_START
        Recipient.objects.bulk_create(
            Recipient(message=message, address=address, due_at=due_at) for address in recipients
        )
    return message.id


def _content(mail: bytes, reference: str, now: datetime) -> bytes:
    """With a trace header as any accepted mail has (RFC 5321 4.4), and CRLF line ends throughout."""
    trace = f"Received: by {settings.GATEPOST_HOSTNAME} (Gatepost) id {reference};\r\n\t{format_datetime(now)}\r\n"
    lines = mail.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return trace.encode() + (lines if lines.endswith(b"\r\n") else lines + b"\r\n")
