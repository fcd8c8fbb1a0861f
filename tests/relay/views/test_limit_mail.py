"""Mail at 80, 90 and 100 % of the hour."""

from django.core.mail import EmailMessage
from django.utils import timezone

from accounts.billing.profiles import save_profile
from accounts.models import Organization
from audit.changes import SYSTEM
from relay.models import LimitWindow
from relay.webhooks import limits


def use(organization: Organization, used: int) -> None:
    minute = int(timezone.now().timestamp() // 60)
    buckets = [0] * 61
    buckets[minute % 61] = used
    values = {"minute": minute, "buckets": buckets}
    LimitWindow.objects.update_or_create(scope=1, owner_id=organization.pk, ip=None, defaults=values)


def test_each_level_is_mailed_once_and_can_be_switched_off(
    alice_org: Organization, bob_org: Organization, mailoutbox: list[EmailMessage]
) -> None:
    """To who does the billing, without any webhook; not to who switched it off."""
    save_profile(bob_org, values={"limit_mails": False}, actor=SYSTEM)
    for used in (790, 800, 850, 950, 1000, 1000):
        use(alice_org, used)
        use(bob_org, used)
        limits.look()
    assert [(mail.to, mail.subject) for mail in mailoutbox] == [
        (["alice@alice.example"], f"{percent} % of this hour's emails are used: Alice Works")
        for percent in (80, 90, 100)
    ]
    assert "1,000 of the 1,000 emails" in mailoutbox[-1].body
    assert "put off with 451" in mailoutbox[-1].body
