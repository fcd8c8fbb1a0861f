"""Next hops that could not be used lately, as all workers know them.

Shapes  lane: what mail shares a fate because it goes the same way: a destination's domain, or a smarthost.
Units   blocked_until: nothing is tried before; afterwards one message is, until one has gone.
Source  docs/delivery.md, The queue.
"""

from django.db import models
from django.utils import timezone


class NextHopTrouble(models.Model):
    """One row while it lasts: the first message that goes removes it."""

    lane = models.CharField(max_length=400, primary_key=True)
    failures = models.IntegerField(default=1)  # one after the other; those of one moment count as one
    blocked_until = models.DateTimeField()
    since = models.DateTimeField(default=timezone.now)
    last_reply = models.CharField(max_length=512, blank=True)
