"""A customer's own test of the way in: what was watched, and how it ended."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from relay.models.smtp_users import SmtpUser


class ConnectionTest(models.Model):
    """Begun on the page "Test my connection"; what comes in for its SMTP user from then on belongs to it."""

    class Outcome(models.TextChoices):
        SIGNED_IN = "signed_in", _("Signed in")
        ACCEPTED = "accepted", _("A message was accepted")

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="connection_tests", db_index=False
    )
    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.CASCADE, related_name="connection_tests")
    ip = models.GenericIPAddressField()  # from where the client is said to come
    started_at = models.DateTimeField(default=timezone.now)
    started_by = models.CharField(max_length=320)
    outcome = models.CharField(max_length=9, choices=Outcome.choices, blank=True)  # the best that was seen
    ended_at = models.DateTimeField(null=True)  # when that was

    class Meta:
        indexes = [models.Index(fields=["organization", "-started_at"], name="connection_test_newest")]
