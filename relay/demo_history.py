"""A little history for the demo's pages: three messages in the queue, and logins of the last two days.

Shapes  The messages are queued and debited as if they had come in by SMTP just now; the delivery loop captures them.
        The logins are what a web shop and the background noise of the internet leave behind, with their true reasons.
Source  Addresses of RFC 5737 and RFC 3849, names of RFC 2606: nobody is meant.
"""

from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from django.conf import settings
from django.db import connection
from django.utils import timezone

from audit.models import Reason, Result
from audit.record import attempt, new_reference, record_auth_event
from relay import limits
from relay.ids import uuid7
from relay.models import Message, MessageData, Recipient, SmtpUser
from relay.models.messages import Route

SHOP_IP = "192.0.2.10"
SHOP_NAME = "shop.demo.example"
WORKER = "demo"
TLS_VERSION, TLS_CIPHER = "TLSv1.3", "TLS_AES_256_GCM_SHA384"

MAILS = (
    ("shop@demo.example", ("orders@customer.example",), "Your order 10431 is on its way"),
    ("accounts@demo.example", ("office@customer.example",), "Reset your password"),
    ("billing@demo.example", ("office@partner.example", "archive@partner.example"), "Invoice 2207"),
)

# hours ago, reason, username, address, client, encrypted, attempts
LOGINS = (
    (47, Reason.WRONG_PASSWORD, "app.demo", SHOP_IP, SHOP_NAME, True, 2),
    (46, Reason.OK, "app.demo", SHOP_IP, SHOP_NAME, True, 1),
    (22, Reason.OK, "app.demo", SHOP_IP, SHOP_NAME, True, 1),
    (9, Reason.UNKNOWN_USER, "newsletter.demo", "2001:db8::25", "cms.demo.example", True, 1),
    (8, Reason.PANEL_PASSWORD, "customer@demo.example", "192.0.2.77", "laptop", True, 1),
    (6, Reason.UNKNOWN_USER, "admin", "198.51.100.66", "User", True, 38),
    (5, Reason.CLEAR_TEXT, "app.demo", "192.0.2.90", "scanner-2nd-floor", False, 1),
    (2, Reason.OK, "app.demo", SHOP_IP, SHOP_NAME, True, 1),
)


def make_history(smtp_user: SmtpUser, *, now: datetime | None = None) -> None:
    """To be called once, in the transaction that makes the demo."""
    now = now or timezone.now()
    for sender, recipients, subject in MAILS:
        _queue(smtp_user, sender=sender, recipients=recipients, subject=subject, now=now)
    _debit(smtp_user, count=sum(len(recipients) for _sender, recipients, _subject in MAILS), now=now)
    for hours, reason, username, ip, client, encrypted, count in LOGINS:
        ours = username.endswith(".demo")
        at = now - timedelta(hours=hours)
        record_auth_event(
            attempt(
                at=at,
                last_at=at + timedelta(seconds=count - 1),
                result=Result.ACCEPTED if reason is Reason.OK else Result.REFUSED,
                reason=reason,
                username_given=username,
                mechanism="PLAIN",
                ip=ip,
                port=settings.GATEPOST_SMTP_PORT,
                worker=WORKER,
                client_name=client,
                organization_id=smtp_user.organization_id if ours else None,
                smtp_user_id=smtp_user.pk if username == smtp_user.username else None,
                count=count,
                samples=("admin", "test", "info", "postmaster") if count > 10 else (),
                tls_version=TLS_VERSION if encrypted else "",
                tls_cipher=TLS_CIPHER if encrypted else "",
            )
        )


def _queue(smtp_user: SmtpUser, *, sender: str, recipients: tuple[str, ...], subject: str, now: datetime) -> None:
    reference = new_reference()
    content = _content(sender, recipients, subject=subject, reference=reference, now=now)
    message = Message.objects.create(
        id=uuid7(now_ns=int(now.timestamp() * 1e9)),
        reference=reference,
        organization_id=smtp_user.organization_id,
        smtp_user=smtp_user,
        reverse_path=sender,
        header_from=sender,
        header_message_id=f"<{reference.lower()}@{SHOP_NAME}>",
        subject=subject,
        size_octets=len(content),
        recipient_count=len(recipients),
        route=Route.SANDBOX,
        received_at=now,
        client_ip=SHOP_IP,
        client_name=SHOP_NAME,
        mechanism="PLAIN",
        port=settings.GATEPOST_SMTP_PORT,
        worker=WORKER,
        tls_version=TLS_VERSION,
        tls_cipher=TLS_CIPHER,
    )
    MessageData.objects.create(message=message, content=content)
    Recipient.objects.bulk_create(Recipient(message=message, address=each, due_at=now) for each in recipients)


def _content(sender: str, recipients: tuple[str, ...], *, subject: str, reference: str, now: datetime) -> bytes:
    mail = EmailMessage(policy=SMTP)
    mail["From"] = f"Demo Company <{sender}>"
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = subject
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{reference.lower()}@{SHOP_NAME}>"
    mail.set_content(f"{subject}.\n\nThis mail belongs to the demo. It stays in Gatepost's sandbox.\n")
    received = (
        f"Received: from {SHOP_NAME} ([{SHOP_IP}])\r\n"
        f"\tby {settings.GATEPOST_HOSTNAME} with ESMTPSA id {reference};\r\n"
        f"\t{format_datetime(now)}\r\n"
    )
    return received.encode() + mail.as_bytes()


def _debit(smtp_user: SmtpUser, *, count: int, now: datetime) -> None:
    """Against the plan, like every accept, so that the page's figures agree with its list."""
    key = limits.Key(limits.ORGANIZATION, smtp_user.organization_id)
    plan = smtp_user.organization.subscription.plan
    arrays = limits.key_arrays([key])
    with connection.cursor() as cursor:
        cursor.execute(limits.MAKE_ROWS, arrays)
        cursor.execute(limits.LOCK_ROWS, arrays)
        rows = limits.rows_from(cursor.fetchall())
        over = limits.decide(limits.Need(((key, plan.recipients_per_hour),), count), rows, now=now.timestamp())
        assert over is None, "an organization made a moment ago has room"
        cursor.execute(limits.SAVE_ROWS, limits.save_arrays(rows))
