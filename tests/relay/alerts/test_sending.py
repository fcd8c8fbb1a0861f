"""relay.sending: every accepted recipient is counted once, in its hour."""

from collections.abc import Callable
from datetime import datetime, timedelta

from django.utils import timezone

from accounts.models import Organization
from audit.anomalies.models import SendingHour
from audit.anomalies.reading import full_hour
from audit.models import RollupMark
from relay.models import Message, SmtpUser
from relay.sending import KEPT, MARK, count_sending_hours, forget_old_hours

MINUTE = timedelta(minutes=1)


def sums() -> dict[datetime, tuple[int, int, int]]:
    rows = SendingHour.objects.values_list("hour", "smtp_user_id", "recipients", "messages")
    return {hour: (user, recipients, messages) for hour, user, recipients, messages in rows}


def test_counted_once_by_hour(alice_org: Organization, shop: SmtpUser, queued_message: Callable[..., Message]) -> None:
    """Each message in the hour of its receipt; a second run adds nothing, and what came since is added."""
    now = timezone.now()
    early, late = now - 120 * MINUTE, now - 12 * MINUTE
    queued_message(alice_org, smtp_user=shop, received_at=early)
    queued_message(alice_org, smtp_user=shop, recipients=("a@x.example", "b@x.example"), received_at=late)
    queued_message(alice_org, received_at=early)  # Gatepost's own: of no SMTP user
    until = count_sending_hours(now - 10 * MINUTE)
    assert until is not None and until <= now - 13 * MINUTE
    assert sums() == {full_hour(early): (shop.pk, 1, 1)}
    count_sending_hours(now)
    count_sending_hours(now)
    assert sums() == {full_hour(early): (shop.pk, 1, 1), full_hour(late): (shop.pk, 2, 1)}


def test_what_comes_later_is_added_to_its_hour(
    alice_org: Organization, shop: SmtpUser, queued_message: Callable[..., Message]
) -> None:
    """An hour that was counted in part grows."""
    now = timezone.now()
    hour = full_hour(now - 60 * MINUTE)
    queued_message(alice_org, smtp_user=shop, received_at=hour + 10 * MINUTE)
    queued_message(alice_org, smtp_user=shop, received_at=hour + 40 * MINUTE)
    count_sending_hours(hour + 30 * MINUTE)
    assert sums() == {hour: (shop.pk, 1, 1)}
    RollupMark.objects.filter(name=MARK).update(done_until=hour + 30 * MINUTE)
    count_sending_hours(hour + 50 * MINUTE)
    assert sums() == {hour: (shop.pk, 2, 2)}


def test_old_hours_are_forgotten(alice_org: Organization, shop: SmtpUser) -> None:
    """What the detection does not look back to is deleted."""
    now = timezone.now()
    for ago in (KEPT - timedelta(days=1), KEPT + timedelta(days=1)):
        hour = full_hour(now - ago)
        SendingHour.objects.create(
            hour=hour, organization_id=alice_org.pk, smtp_user_id=shop.pk, recipients=1, messages=1
        )
    assert forget_old_hours(now) == 1
