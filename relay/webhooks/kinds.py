"""The events that an endpoint can ask for, and one that it cannot: the test.

Shapes  Event: name in the payload's `type`, and words for people. TEST is posted by the button alone.
Source  docs/webhooks.md has each one's data, held by a test.
"""

from typing import Final

from django.db import models
from django.utils.translation import gettext_lazy as _


class Event(models.TextChoices):
    ACCEPTED = "accepted", _("A message was accepted")
    DELIVERED = "delivered", _("A recipient's server took it")
    DEFERRED = "deferred", _("It was put off, and is tried again")
    BOUNCED = "bounced", _("It failed for good, or came back later")
    SUPPRESSED = "suppressed", _("An address was put on the suppression list")
    AUTH_FAILED = "auth.failed", _("Sign-ins were refused")
    ANOMALY = "anomaly", _("An alert was opened, worsened or closed")
    LIMIT_NEAR = "limit.near", _("80 or 90 % of an hourly limit is used")
    LIMIT_REACHED = "limit.reached", _("An hourly limit is reached")


TEST: Final = "webhook.test"
OF_LIMITS: Final = (Event.LIMIT_NEAR, Event.LIMIT_REACHED)
