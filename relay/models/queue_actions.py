"""What people do to mail that waits: holds by hand, and actions on many recipients at once.

Shapes  Hold: one recipient that somebody put aside; its state is then held, and its due_at never. QueueAction 1-n
        QueueActionItem: the recipients that are still to be done. QueueSummary: one row, the queue in figures.
Units   as_of: what was accepted later is not touched.
Source  docs/delivery.md, The queue.
"""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from relay.models.messages import Recipient


class Hold(models.Model):
    """Without such a row, what is held waits for the hourly limit alone."""

    recipient = models.OneToOneField(Recipient, on_delete=models.CASCADE, primary_key=True, related_name="hold")
    by_operator = models.BooleanField()  # then only an operator releases it
    was_debited = models.BooleanField()  # else the limit has the last word after the release
    at = models.DateTimeField(default=timezone.now)


class QueueAction(models.Model):
    """One thing done to many recipients, in batches, by whichever worker is free."""

    class Verb(models.TextChoices):
        RETRY = "retry", _("Retry now")
        HOLD = "hold", _("Hold")
        RELEASE = "release", _("Release")
        CANCEL = "cancel", _("Cancel")
        WAKE = "wake", _("Follow the changed routes")

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        STOPPED = "stopped", _("Stopped")

    verb = models.CharField(max_length=8, choices=Verb.choices)
    organization = models.ForeignKey(  # a customer's own; none: an operator's
        Organization, on_delete=models.CASCADE, null=True, related_name="queue_actions"
    )
    filters = models.JSONField(default=dict)
    as_of = models.DateTimeField(default=timezone.now)
    note = models.CharField(max_length=255, blank=True)
    actor = models.CharField(max_length=320)
    actor_id = models.BigIntegerField(null=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    total = models.BigIntegerField(null=True)  # None: not collected yet
    changed = models.BigIntegerField(default=0)
    skipped = models.JSONField(default=dict)  # why -> how many
    created_at = models.DateTimeField(default=timezone.now)
    next_at = models.DateTimeField(default=timezone.now)  # when the next batch may be done
    cursor = models.BigIntegerField(default=0)  # the last item looked at in this pass
    passes = models.PositiveSmallIntegerField(default=0)  # that met recipients being delivered
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["next_at"], name="queue_action_open", condition=models.Q(finished_at__isnull=True)),
        ]


class QueueActionItem(models.Model):
    """A recipient that an action has not done yet. No foreign key: a million of them are inserted at once."""

    action = models.ForeignKey(QueueAction, on_delete=models.CASCADE, db_index=False)
    recipient_id = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["action", "recipient_id"], name="queue_action_item_once")]


class QueueSummary(models.Model):
    """The queue in figures, where it is too long to be counted for every look at it."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    at = models.DateTimeField()
    seconds = models.FloatField()
    figures = models.JSONField()
