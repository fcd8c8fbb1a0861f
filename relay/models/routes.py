"""Which route an organization's mail takes, where it is not the installation's default."""

from django.db import models

from accounts.models import Organization
from relay.models.messages import Route


class OrganizationRoute(models.Model):
    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, primary_key=True, related_name="route")
    route = models.CharField(max_length=16, choices=Route.choices)
    smarthost = models.CharField(max_length=253, blank=True)  # empty: the installation's GATEPOST_SMARTHOST
    smarthost_port = models.PositiveIntegerField(null=True, blank=True)
