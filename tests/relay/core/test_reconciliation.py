"""The window that binds the limit against the messages that were accepted."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from django.utils import timezone

from accounts.models import Organization
from relay.database import connect
from relay.limits import ORGANIZATION, release_held
from relay.models import LimitWindow, Message, Recipient
from relay.reconciliation import Account, accounts, differences
from tests.relay.core.conftest import Sender, accepted, set_plan


def release() -> int:
    async def run() -> int:
        async with await connect(application_name="test") as conn:
            return await release_held(conn)

    return asyncio.run(run())


def window_of(organization: Organization) -> LimitWindow:
    return LimitWindow.objects.get(scope=ORGANIZATION, owner_id=organization.pk)


def test_they_agree_through_accepts_refusals_holds_and_releases(
    alice_org: Organization, bob_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """What was refused or waits counts in neither, what was released in both; one number, not a span."""
    set_plan(alice_org, 10)
    alice, bob = sender_of(alice_org, excess="hold"), sender_of(bob_org)
    accepted([alice.submission(recipients=8), alice.submission(recipients=5), bob.submission(recipients=3)])
    assert accounts() == [Account(alice_org.pk, 8, 8, 8), Account(bob_org.pk, 3, 3, 3)]
    set_plan(alice_org, 20)
    assert release() == 5
    Recipient.objects.update(state="delivered")
    assert accounts()[0] == Account(alice_org.pk, 13, 13, 13)
    assert differences() == []


def test_one_email_too_many_or_too_few_is_found(sender: Sender, alice_org: Organization) -> None:
    """Whichever of the two is wrong."""
    accepted([sender.submission(recipients=4)])
    window = window_of(alice_org)
    place = window.minute % 61
    for wrong in (3, 5):
        window.buckets[place] = wrong
        window.save()
        assert differences() == [Account(alice_org.pk, wrong, 4, 4)]
    LimitWindow.objects.all().delete()
    assert differences() == [Account(alice_org.pk, 0, 4, 4)]


def test_what_has_left_the_window_does_not_count(sender: Sender, alice_org: Organization) -> None:
    """Neither old buckets nor old messages; a message at the border may be in either."""
    accepted([sender.submission(recipients=4)])
    window = window_of(alice_org)
    window.minute -= 61
    window.save()
    now = timezone.now()
    Message.objects.update(received_at=now - timedelta(minutes=64))
    assert accounts() == []
    Message.objects.update(received_at=now - timedelta(minutes=60, seconds=45))
    assert accounts() == [Account(alice_org.pk, 0, 0, 4)]
    assert differences() == []
