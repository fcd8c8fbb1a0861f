"""relay.waiting.forecast: when the limit releases what it holds."""

from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from accounts.models import Organization, Plan
from relay import limits
from relay.database import connect
from relay.models import LimitWindow, Recipient
from relay.waiting.forecast import forecast
from tests.relay.delivery.conftest import async_orm
from tests.relay.ops.builders import make_message, use_hour
from tests.relay.waiting.rows import waiting

__all__ = ["async_orm"]


def held(organization: Organization, number: int, *, ago: int) -> None:
    message = make_message(organization, recipient_count=number, ago=timedelta(minutes=ago))
    Recipient.objects.bulk_create(
        Recipient(message=message, address=f"r{each}@example.net", state="held") for each in range(number)
    )


@pytest.mark.django_db
def test_the_windows_played_forward(alice_org: Organization, bob_org: Organization) -> None:
    """Oldest first, none before its room, none overtaken; what never fits holds nobody up; hand-held is not here."""
    Plan.objects.filter(code="trial").update(recipients_per_hour=10)
    now = timezone.now().replace(second=0, microsecond=0)
    minute = now.timestamp() // 60
    use_hour(alice_org, 7, now=now - timedelta(minutes=30))
    for number, ago in ((2, 50), (11, 45), (4, 40), (6, 35), (1, 30)):
        held(alice_org, number, ago=ago)
    waiting(alice_org, "customer")
    waiting(bob_org, "limit")
    found = forecast(alice_org, now=now)
    after = [row.release_at and (row.release_at.timestamp() // 60) - minute for row in found.rows]
    # 7 of 10 are used until minute 31 from now; 2 fit, then 4 and 4 more; 6 wait for room, and 1 behind them.
    assert [row.recipients for row in found.rows] == [2, 11, 4, 6, 1]
    assert after[:3] == [0, None, 31] and after[3] == 61 and after[4] is not None and after[4] >= 61
    assert (found.messages, found.recipients, found.more) == (5, 24, 0)
    assert forecast(alice_org, limit=2, now=now).more == 3


@pytest.mark.parametrize("used", [0, 8])
async def test_it_is_what_the_release_does(
    alice_org: Organization, transactional_db: None, async_orm: None, used: int
) -> None:
    """What is foreseen for now is what release_held() releases now, and nothing else: what hands hold stays."""
    await Plan.objects.filter(code="trial").aupdate(recipients_per_hour=10)
    if used:
        await sync_to_async(use_hour)(alice_org, used)
    for number, ago in ((3, 50), (4, 40), (2, 30)):
        await sync_to_async(held)(alice_org, number, ago=ago)
    await sync_to_async(waiting)(alice_org, "operator undebited")
    now = timezone.now()
    found = await sync_to_async(forecast)(alice_org, now=now)
    foreseen = sum(row.recipients for row in found.rows if row.release_at and row.release_at <= now)
    async with await connect(application_name="test") as connection:
        assert await limits.release_held(connection) == foreseen == (9 if not used else 0)
    assert await Recipient.objects.filter(state="held", hold__isnull=False).acount() == 1
    window = await LimitWindow.objects.aget(owner_id=alice_org.pk)
    assert sum(window.buckets) == used + foreseen
