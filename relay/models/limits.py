"""Rolling windows of accepted recipients: a row for each thing that has a limit.

Shapes  buckets: sixty-one counts, bucket of minute m at m modulo 61; minute: the last minute written (Unix time / 60).
Source  relay/limits.py.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class LimitWindow(models.Model):
    class Scope(models.IntegerChoices):
        """Also the order in which rows are locked."""

        ORGANIZATION = 1
        SMTP_USER = 2
        IP = 3

    scope = models.SmallIntegerField(choices=Scope.choices)
    owner_id = models.BigIntegerField()  # organization (scope 1) or SMTP user (2 and 3)
    ip = models.GenericIPAddressField(null=True)
    minute = models.BigIntegerField()
    buckets = ArrayField(models.IntegerField(), size=61)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["scope", "owner_id", "ip"], name="limit_window_owner", nulls_distinct=False)
        ]
