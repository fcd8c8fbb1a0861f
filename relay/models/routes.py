"""Named routes, kept by operators, and whose mail takes which.

Shapes  NamedRoute 1-n RouteChoice, each of one sending domain, one organization or one plan. Without a choice mail
        takes the built-in route of the settings.
Units   hosts: [[host, port], ...] in the order in which they are tried.
Source  docs/delivery.md, Routes; relay/named_routes.py for who takes what.
"""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization, Plan
from relay.models.domains import SendingDomain
from relay.models.messages import Route


class NamedRoute(models.Model):
    """Where mail goes next, under a name that operators gave it."""

    class Tls(models.TextChoices):
        """What a smarthost must offer; the words are those of relay.smtp.next_hop."""

        VERIFIED = "starttls", _("STARTTLS, certificate verified")
        IMPLICIT = "implicit", _("TLS from the first octet (port 465), certificate verified")
        REQUIRED = "encrypted", _("STARTTLS, any certificate")
        NONE = "none", _("None: in clear")

    name = models.CharField(max_length=64, unique=True)
    kind = models.CharField(max_length=16, choices=Route.choices)
    hosts = models.JSONField(default=list, blank=True)  # of a smarthost; none: the installation's GATEPOST_SMARTHOST
    tls = models.CharField(max_length=16, choices=Tls.choices, default=Tls.VERIFIED)
    ca_pem = models.TextField(blank=True)  # our own authorities; empty: the system's
    username = models.CharField(max_length=255, blank=True)
    password_sealed = models.TextField(blank=True)  # relay.sealed
    source_ipv4 = models.GenericIPAddressField(protocol="IPv4", null=True, blank=True)
    source_ipv6 = models.GenericIPAddressField(protocol="IPv6", null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class RouteChoice(models.Model):
    """One thing's route. A domain's goes before its organization's, that before the plan's."""

    route = models.ForeignKey(NamedRoute, on_delete=models.PROTECT, related_name="choices")
    domain = models.OneToOneField(SendingDomain, on_delete=models.CASCADE, null=True, related_name="route_choice")
    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, null=True, related_name="route_choice")
    plan = models.OneToOneField(Plan, on_delete=models.CASCADE, null=True, related_name="route_choice")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(domain__isnull=False, organization__isnull=True, plan__isnull=True)
                | Q(domain__isnull=True, organization__isnull=False, plan__isnull=True)
                | Q(domain__isnull=True, organization__isnull=True, plan__isnull=False),
                name="route_choice_of_one_thing",
            )
        ]


class RouteTrial(models.Model):
    """The last time an operator tried a route: connections without mail, made where mail is delivered from."""

    route = models.OneToOneField(NamedRoute, on_delete=models.CASCADE, primary_key=True, related_name="trial")
    destination = models.CharField(max_length=253, blank=True)  # of route mx
    asked_at = models.DateTimeField(default=timezone.now)
    began_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    found = models.JSONField(default=list)  # relay.route_trials.Found, one for each server
