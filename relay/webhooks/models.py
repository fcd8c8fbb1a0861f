"""Endpoints of organizations, what is posted to them, and which limits they have been told of.

Shapes  Endpoint 1-n Delivery: one event for one endpoint, its outbox and its log in one row. LimitTold: an owner and
        a level, with when it was last told.
Units   `*_at`: aware UTC. tries: {"at", "seconds", "status", "words", "response"}, the newest TRIES_KEPT.
Source  docs/data.md, docs/webhooks.md.
"""

from typing import Any
from uuid import uuid4

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization, User
from relay.webhooks.kinds import TEST, Event

TRIES_KEPT = 20


class Endpoint(models.Model):
    """Where events go. A deleted one stays until its log is cleared away."""

    class Why(models.TextChoices):
        MEMBER = "member", _("Disabled by a member")
        GONE = "gone", _("Disabled: it answered 410 Gone")
        FAILING = "failing", _("Disabled: nothing was taken for three days")

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="webhook_endpoints")
    url = models.CharField(_("Address"), max_length=1000)
    description = models.CharField(_("Description"), max_length=200, blank=True)
    events = ArrayField(models.CharField(max_length=16, choices=Event.choices))
    smtp_user_ids = ArrayField(models.BigIntegerField(), default=list, blank=True)  # empty: of all, and of none
    secret = models.BinaryField()  # sealed
    previous_secret = models.BinaryField(null=True)  # sealed; signs as well until its end
    previous_secret_until = models.DateTimeField(null=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    enabled_at = models.DateTimeField(default=timezone.now)  # what happened before is not posted
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_why = models.CharField(max_length=8, choices=Why.choices, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    failures = models.IntegerField(default=0)  # one after the other, since the last success
    failing_since = models.DateTimeField(null=True, blank=True)
    paused_until = models.DateTimeField(null=True, blank=True)  # after failures: nothing is posted before
    last_problem = models.CharField(max_length=255, blank=True)
    last_success_at = models.DateTimeField(null=True, blank=True)  # written once a minute at most

    class Meta:
        db_table = "webhook_endpoint"

    def __str__(self) -> str:
        return self.url

    @property
    def state(self) -> str:
        if self.disabled_at is not None:
            return "disabled"
        return "failing" if self.failing_since is not None else "active"


class Delivery(models.Model):
    """One event for one endpoint."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Failed")

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    organization_id = models.BigIntegerField()
    event_id = models.UUIDField(default=uuid4)  # the same for every endpoint and every try
    type = models.CharField(max_length=16, choices=[*Event.choices, (TEST, _("Test"))])
    occurred_at = models.DateTimeField(default=timezone.now)
    data: Any = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=9, choices=State.choices, default=State.WAITING)
    due_at = models.DateTimeField(default=timezone.now)
    attempts = models.IntegerField(default=0)  # since it was written or replayed
    lease = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    last_status = models.SmallIntegerField(null=True)
    tries: Any = models.JSONField(default=list)

    class Meta:
        db_table = "webhook_delivery"
        constraints = [models.UniqueConstraint(fields=["event_id", "endpoint"], name="webhook_delivery_event")]
        indexes = [
            models.Index(
                fields=["endpoint", "due_at"],
                name="webhook_delivery_due",
                condition=models.Q(state="waiting", lease__isnull=True),
            ),
            models.Index(fields=["endpoint", "-id"], name="webhook_delivery_log"),
            models.Index(
                fields=["endpoint", "-id"], name="webhook_delivery_failed", condition=models.Q(state="failed")
            ),
            models.Index(
                fields=["leased_until"], name="webhook_delivery_leased", condition=models.Q(lease__isnull=False)
            ),
            BrinIndex(fields=["created_at"], name="webhook_delivery_created", autosummarize=True),
        ]

    @property
    def about(self) -> str:
        """For lists: whom or what it tells of."""
        names = ("recipient", "title", "smtp_user", "ip", "scope")
        return str(next((self.data[name] for name in names if self.data.get(name)), ""))


class LimitTold(models.Model):
    """That somebody's use of a limit was told, at which level. smtp_user_id 0: the organization's own limit."""

    organization_id = models.BigIntegerField()
    smtp_user_id = models.BigIntegerField(default=0)
    percent = models.SmallIntegerField()
    told_at = models.DateTimeField()

    class Meta:
        db_table = "webhook_limit_told"
        constraints = [
            models.UniqueConstraint(fields=["organization_id", "smtp_user_id", "percent"], name="webhook_limit_once")
        ]
