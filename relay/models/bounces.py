"""Mail that came back: reports to senders, late bounces, addresses that get no more mail.

Shapes  Report: one row for each thing of one recipient that its sender is told; written_at null: it waits to be told.
        LateBounce: a next hop had taken the mail, and it came back to our return path. Suppression: one address that an
        organization does not send to any more.
Units   due_at, *_at: aware UTC. address: canonical (relay.suppressions.suppression_key).
Source  RFC 3461, RFC 3464; docs/delivery.md, Bounces.
"""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from relay.models.messages import Recipient


class BounceClass(models.TextChoices):
    """Whose trouble it is. The first word of the panel's explanation."""

    RECIPIENT = "recipient", _("Recipient")
    POLICY = "policy", _("Policy")
    REPUTATION = "reputation", _("Reputation")
    INFRASTRUCTURE = "infrastructure", _("Infrastructure")


class Report(models.Model):
    """What a sender is told of one recipient, once for each kind (RFC 3464 2.3.3)."""

    class Kind(models.TextChoices):
        FAILED = "failed", _("Failed")
        DELAYED = "delayed", _("Delayed")
        RELAYED = "relayed", _("Relayed")
        DELIVERED = "delivered", _("Delivered")

    recipient = models.ForeignKey(Recipient, on_delete=models.CASCADE, related_name="reports", db_index=False)
    kind = models.CharField(max_length=9, choices=Kind.choices)
    message_id = models.UUIDField()  # of the mail that it is about
    organization_id = models.BigIntegerField()
    sender = models.CharField(max_length=320)  # who is told: the reverse-path that the client gave
    at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField()
    code = models.IntegerField(null=True)
    enhanced_code = models.CharField(max_length=9, blank=True)
    text = models.CharField(max_length=512, blank=True)
    next_hop = models.CharField(max_length=255, blank=True)
    is_folded = models.BooleanField(default=False)  # its sender has had many: it is told in a summary
    written_at = models.DateTimeField(null=True)
    report_id = models.UUIDField(null=True)  # the message that tells it

    class Meta:
        constraints = [models.UniqueConstraint(fields=["recipient", "kind"], name="report_once")]
        indexes = [
            models.Index(fields=["due_at"], name="report_due", condition=models.Q(written_at=None)),
            models.Index(fields=["message_id"], name="report_waiting", condition=models.Q(written_at=None)),
            models.Index(fields=["sender", "written_at"], name="report_sender"),
            models.Index(fields=["written_at"], name="report_written", condition=models.Q(written_at__isnull=False)),
        ]


class LateBounce(models.Model):
    """What came to the return path of one recipient, in the words of who reported it."""

    recipient = models.ForeignKey(Recipient, on_delete=models.CASCADE, related_name="late_bounces")
    at = models.DateTimeField(default=timezone.now)
    action = models.CharField(max_length=9)  # RFC 3464 2.3.3: failed, delayed, delivered, relayed, expanded
    bounce_class = models.CharField(max_length=14, choices=BounceClass.choices, blank=True)
    is_hard = models.BooleanField(default=False)
    code = models.IntegerField(null=True)
    enhanced_code = models.CharField(max_length=9, blank=True)
    text = models.CharField(max_length=512, blank=True)
    reporter = models.CharField(max_length=255, blank=True)  # Reporting-MTA
    client_ip = models.GenericIPAddressField(null=True)  # who handed it to the bounce port

    class Meta:
        indexes = [models.Index(fields=["at"], name="late_bounce_at")]


class Suppression(models.Model):
    """An address to which an organization sends no more mail, and why."""

    class Source(models.TextChoices):
        BOUNCE = "bounce", _("Hard bounce")
        ADDED = "added", _("Added by hand")
        IMPORTED = "imported", _("Imported")

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="suppressions", db_index=False
    )
    address = models.CharField(max_length=320)
    source = models.CharField(max_length=8, choices=Source.choices)
    reason = models.CharField(max_length=512, blank=True)  # the next hop's words, or a person's note
    reference = models.CharField(max_length=10, blank=True)  # of the message that bounced
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=320, blank=True)  # empty: Gatepost itself

    class Meta:
        # The first one is what RCPT asks by; the second serves the list, newest first.
        constraints = [models.UniqueConstraint(fields=["organization", "address"], name="suppression_once")]
        indexes = [models.Index(fields=["organization", "-id"], name="suppression_newest")]
