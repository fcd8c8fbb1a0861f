"""Sending domains: who may put a domain into From."""

from django.db import models
from django.utils import timezone

from accounts.models import Organization, User


class SendingDomain(models.Model):
    """A domain that an organization added. Several may add it, only one can hold it verified."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="domains")
    name = models.CharField(max_length=253)  # lower-case A-labels, exact: no subdomain is implied
    verified_at = models.DateTimeField(null=True, blank=True)
    verified_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="domain_once_an_organization"),
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(verified_at__isnull=False), name="domain_verified_once"
            ),
        ]

    def __str__(self) -> str:
        return self.name
