"""Accepted mail: messages, their content, recipients and attempts.

Shapes  Message 1-n Recipient 1-n DeliveryAttempt; Message 1-1 MessageData.
Units   size_octets: as relayed, after dot-unstuffing. due_at, leased_until: aware UTC.
Source  RFC 5321 4.5.4.1 (retry), 6.1 (duty after 250).
"""

from datetime import datetime

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from relay.models.smtp_users import AppPassword, SmtpUser

# What is due then is never due: mail of route hold, and what somebody holds by hand.
NEVER = datetime.fromisoformat("9999-01-01T00:00:00+00:00")


# A message that was sent with REQUIRETLS has this as its dsn_ret. RFC 8689 5: its reports never hold the content,
# whatever RET said, so HDRS in lower case, which means HDRS to everybody else, needs no column of its own.
REQUIRETLS = "hdrs"


class Route(models.TextChoices):
    """Where mail goes next. MX is each recipient's own mail server. HOLD keeps it in the queue."""

    SANDBOX = "sandbox", _("Sandbox")
    SMARTHOST = "smarthost", _("Smarthost")
    MX = "mx", _("Recipients' mail servers (MX)")
    HOLD = "hold", _("Hold")


class Message(models.Model):
    """One accepted message: its envelope, and the trace of who sent it from where."""

    id = models.UUIDField(primary_key=True)  # UUIDv7, made by smtpd before the commit
    reference = models.CharField(max_length=10)
    # Every index is paid for by every accept: none that begins another one, none for rows that are never deleted.
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="messages", db_index=False)
    smtp_user = models.ForeignKey(
        SmtpUser, on_delete=models.PROTECT, null=True, related_name="messages", db_index=False
    )
    app_password = models.ForeignKey(AppPassword, on_delete=models.PROTECT, null=True, db_index=False)
    reverse_path = models.CharField(max_length=320, blank=True)  # empty: the null reverse-path <>
    header_from = models.CharField(max_length=320, blank=True)
    header_message_id = models.CharField(max_length=255, blank=True)
    subject = models.CharField(max_length=255, blank=True)  # decoded, for lists
    size_octets = models.BigIntegerField()
    recipient_count = models.IntegerField()
    route = models.CharField(max_length=16, choices=Route.choices)
    smtputf8 = models.BooleanField(default=False)
    body_8bit = models.BooleanField(default=False)
    dsn_ret = models.CharField(max_length=4, blank=True)
    dsn_envid = models.CharField(max_length=100, blank=True)
    received_at = models.DateTimeField()
    client_ip = models.GenericIPAddressField(null=True)
    client_name = models.CharField(max_length=255, blank=True)
    tls_version = models.CharField(max_length=16, blank=True)
    tls_cipher = models.CharField(max_length=64, blank=True)
    mechanism = models.CharField(max_length=32, blank=True)
    port = models.IntegerField(null=True)
    worker = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["reference"], name="message_reference")]  # no index for LIKE
        indexes = [
            models.Index(fields=["organization", "-received_at"], name="message_organization"),
            models.Index(fields=["smtp_user", "-received_at"], name="message_smtp_user"),
            # The operator's counts read the last minutes of all customers; a block range index costs an accept nothing.
            BrinIndex(fields=["received_at"], name="message_received", autosummarize=True),
        ]


class MessageData(models.Model):
    """The content as it will be relayed, trace header included; a table of its own, so that lists never read it."""

    message = models.OneToOneField(Message, on_delete=models.CASCADE, primary_key=True, related_name="data")
    content = models.BinaryField()


class Recipient(models.Model):
    """One address of a message's envelope, and its way through the queue."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        HELD = "held", _("Held")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="recipients", db_index=False)
    address = models.CharField(max_length=320)
    state = models.CharField(max_length=9, choices=State.choices, default=State.QUEUED)
    due_at = models.DateTimeField(default=timezone.now)
    attempts = models.IntegerField(default=0)
    lease = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    possibly_delivered = models.BooleanField(default=False)  # the last worker died after the final dot
    reply = models.CharField(max_length=512, blank=True)  # the last word of the next hop, or our own reason
    dsn_notify = models.CharField(max_length=32, blank=True)
    dsn_orcpt = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["due_at"], name="recipient_due", condition=models.Q(state="queued")),
            models.Index(fields=["message"], name="recipient_message"),
            models.Index(fields=["address"], name="recipient_address"),
            # Only what waits for the hourly limit: a release looks for it every two seconds.
            models.Index(fields=["message"], name="recipient_held", condition=models.Q(state="held", due_at__lt=NEVER)),
            models.Index(fields=["lease"], name="recipient_leased", condition=models.Q(lease__isnull=False)),
            models.Index(fields=["settled_at"], name="recipient_settled", condition=models.Q(settled_at__isnull=False)),
        ]


class DeliveryAttempt(models.Model):
    """One try to hand one recipient to a next hop."""

    class Outcome(models.TextChoices):
        DELIVERED = "delivered", _("Delivered")
        DEFERRED = "deferred", _("Deferred")
        FAILED = "failed", _("Failed")
        LOST = "lost", _("The worker died during the attempt")

    recipient = models.ForeignKey(Recipient, on_delete=models.CASCADE, related_name="attempt_rows")
    number = models.IntegerField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=9, choices=Outcome.choices, blank=True)
    route = models.CharField(max_length=16)
    next_hop = models.CharField(max_length=255, blank=True)
    next_hop_ip = models.GenericIPAddressField(null=True)
    tls_version = models.CharField(max_length=16, blank=True)
    reached_final_dot = models.BooleanField(default=False)
    code = models.IntegerField(null=True)
    enhanced_code = models.CharField(max_length=9, blank=True)
    text = models.CharField(max_length=512, blank=True)
    worker = models.CharField(max_length=64, blank=True)
    conversation = models.TextField(blank=True, default="", db_default="")  # relay.smtp.transcript

    class Meta:
        indexes = [BrinIndex(fields=["started_at"], name="attempt_started", autosummarize=True)]
