"""What was done to accepted mail while it waited: the part of a message's timeline that no attempt tells."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from relay.models.messages import Message, Recipient


class MessageEvent(models.Model):
    """One thing done to a message, or to one of its recipients. Mail that nobody touches has none."""

    class Kind(models.TextChoices):
        HELD = "held", _("Held")
        RELEASED = "released", _("Released")
        RETRIED = "retried", _("Next attempt at once")
        CANCELLED = "cancelled", _("Cancelled")

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="events")
    recipient = models.ForeignKey(Recipient, on_delete=models.CASCADE, null=True, related_name="+")
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=9, choices=Kind.choices)
    actor = models.CharField(max_length=320, blank=True)  # empty: Gatepost itself, as the hourly limit has room
    note = models.CharField(max_length=512, blank=True)  # why, in the actor's words
