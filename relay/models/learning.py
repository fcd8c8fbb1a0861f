"""Allowlists that are being learned from real sign-ins, and what an organization refuses of old ways to sign in.

Shapes  NetworkLearning: at most one for each list (organization, SMTP user or app password); deleted when its ranges
        are enforced or it is given up, which the change log keeps. SignInPolicy: at most one row for each
        organization; without one nothing is refused.
Units   since, started_at, planned_until: aware UTC. draft: list of {"cidr", "label", "ends_at"}, as the page saved it.
Source  docs/data.md.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from relay.models.smtp_users import AppPassword, SmtpUser


class NetworkLearning(models.Model):
    """Sign-ins from `since` on count as use of the list; nothing is refused or allowed by it."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="learnings")
    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.CASCADE, null=True, blank=True, related_name="learnings")
    app_password = models.ForeignKey(
        AppPassword, on_delete=models.CASCADE, null=True, blank=True, related_name="learnings"
    )
    since = models.DateTimeField()  # may lie before started_at: what the log holds already counts as well
    started_at = models.DateTimeField(default=timezone.now)
    planned_until = models.DateTimeField()
    started_by = models.CharField(max_length=320)
    draft = models.JSONField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "smtp_user", "app_password"], name="network_learning_once", nulls_distinct=False
            )
        ]


class SignInPolicy(models.Model):
    """What an organization refuses although the app password is right."""

    class Tls(models.TextChoices):
        V12 = "TLSv1.2", _("TLS 1.2 or newer")
        V13 = "TLSv1.3", _("TLS 1.3 only")

    organization = models.OneToOneField(
        Organization, on_delete=models.CASCADE, primary_key=True, related_name="sign_in_policy"
    )
    tls_least = models.CharField(max_length=8, choices=Tls.choices, default=Tls.V12)
    refused_mechanisms = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    changed_at = models.DateTimeField(default=timezone.now)
