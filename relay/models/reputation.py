"""What the world thinks of the addresses from which mail leaves: blocklists, names, and since when it is so.

Shapes  ReputationSpan: one check of one address for as long as it found the same; ended_at null: how it is now.
Units   began_at: first found so. last_at: last found so. Both and ended_at: aware UTC.
Source  docs/operations.md, Reputation; relay/reputation.
"""

from django.db import models
from django.utils.translation import gettext_lazy as _


class ReputationSpan(models.Model):
    class Check(models.TextChoices):
        BLOCKLIST = "blocklist", _("Blocklist")
        PTR = "ptr", _("Name of the address (PTR)")
        HELO = "helo", _("Host name (HELO)")

    class State(models.TextChoices):
        GOOD = "good", _("Good")
        LISTED = "listed", _("Listed")
        BAD = "bad", _("Not as it should be")
        REFUSED = "refused", _("The list does not answer us")
        BROKEN = "broken", _("No working list")
        UNKNOWN = "unknown", _("Could not be looked up")

    check_kind = models.CharField(max_length=9, choices=Check.choices)
    address = models.GenericIPAddressField()
    zone = models.CharField(max_length=253, blank=True)  # of a blocklist
    state = models.CharField(max_length=8, choices=State.choices)
    detail = models.CharField(max_length=500, blank=True)
    began_at = models.DateTimeField()
    last_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["check_kind", "address", "zone"], condition=models.Q(ended_at=None), name="reputation_now"
            )
        ]
        indexes = [models.Index(fields=["-began_at"], name="reputation_began")]


class SelfCheck(models.Model):
    """One run of the self-check that was kept: by the clock, or because an operator asked."""

    at = models.DateTimeField()
    took_ms = models.IntegerField()
    state = models.CharField(max_length=4)  # the worst of its findings: ok, warn, fail
    findings = models.JSONField(default=list)  # of relay.doctor.Finding, in their order
    version = models.CharField(max_length=32)
    asked_by = models.CharField(max_length=320, blank=True)  # empty: the clock

    class Meta:
        indexes = [models.Index(fields=["-at"], name="self_check_at")]
