"""relay.sending: every accepted recipient is counted once, in its hour."""

from collections.abc import Callable
from datetime import timedelta

from django.utils import timezone

from accounts.models import Organization
from audit.anomalies.models import SendingHour
from audit.anomalies.reading import full_hour
from relay.models import Message, SmtpUser
from relay.sending import KEPT, count_sending_hours, forget_old_hours

MINUTE = timedelta(minutes=1)


def sums() -> list[tuple[int, int, int]]:
    return list(SendingHour.objects.order_by("hour").values_list("smtp_user_id", "recipients", "messages"))


def test_counted_once_by_hour(alice_org: Organization, shop: SmtpUser, queued_message: Callable[..., Message]) -> None:
    """Two hours, two rows; a second run adds nothing, a later message is added to its hour."""
    now = full_hour(timezone.now()) + 30 * MINUTE
    for minutes, recipients in ((90, ("a@x.example",)), (20, ("a@x.example", "b@x.example")), (1, ("c@x.example",))):
        queued_message(alice_org, smtp_user=shop, recipients=recipients, received_at=now - minutes * MINUTE)
    queued_message(alice_org, received_at=now - 20 * MINUTE)  # Gatepost's own: of no SMTP user
    until = count_sending_hours(now)
    assert sums() == [(shop.pk, 1, 1), (shop.pk, 2, 1)]
    assert until is not None and until <= now - 3 * MINUTE
    count_sending_hours(now)
    assert sums() == [(shop.pk, 1, 1), (shop.pk, 2, 1)]
    count_sending_hours(now + 5 * MINUTE)
    assert sums() in ([(shop.pk, 1, 1), (shop.pk, 3, 2)], [(shop.pk, 1, 1), (shop.pk, 2, 1)])  # by PostgreSQL's clock


def test_old_hours_are_forgotten(alice_org: Organization, shop: SmtpUser) -> None:
    """What the detection does not look back to is deleted."""
    now = timezone.now()
    for ago in (KEPT - timedelta(days=1), KEPT + timedelta(days=1)):
        hour = full_hour(now - ago)
        SendingHour.objects.create(
            hour=hour, organization_id=alice_org.pk, smtp_user_id=shop.pk, recipients=1, messages=1
        )
    assert forget_old_hours(now) == 1
