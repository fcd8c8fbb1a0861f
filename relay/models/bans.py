"""Bans of addresses that guess, and the ranges that are never banned.

Shapes  Ban: one address, /24 or /64, from `began_at` to `ends_at` unless it was lifted before. Rows stay as history.
Units   `*_at`: aware UTC, by PostgreSQL's clock. turn: which ban of this range within a month it is; each lasts longer.
Source  relay/guessing/; docs/security.md, Guessing.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from relay.models.fields import CidrField


class Ban(models.Model):
    """An address, or a neighbourhood, whose connections are answered with 421 at the greeting."""

    cidr = CidrField()
    began_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField()
    turn = models.PositiveIntegerField(default=1)
    evidence = models.JSONField(default=dict)  # what relay.guessing.model.Evidence holds
    exempt = ArrayField(models.GenericIPAddressField(), default=list, blank=True)  # a customer's own addresses
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.CharField(max_length=320, blank=True)
    worker = models.CharField(max_length=64)

    class Meta:
        indexes = [
            models.Index(fields=["-began_at"], name="ban_began"),
            models.Index(fields=["ends_at"], name="ban_ends"),
            models.Index(fields=["lifted_at"], name="ban_lifted"),
            models.Index(fields=["cidr", "-began_at"], name="ban_cidr"),
        ]

    def __str__(self) -> str:
        return str(self.cidr)


class ProtectedRange(models.Model):
    """A range that the operator never wants banned: offices, monitoring, a customer's gateway."""

    cidr = CidrField(unique=True)
    label = models.CharField(_("Label"), max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=320)

    def __str__(self) -> str:
        return str(self.cidr)
