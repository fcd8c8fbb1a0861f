"""relay.views.plan: the tiers, the usage, and the change from one to another."""

from collections.abc import Callable

from django.test import Client
from django.utils import timezone

from accounts.models import Membership, Organization, Plan, Role, Subscription
from audit.models import ChangeEvent
from relay.models import Message
from tests.conftest import make_user


def _plan_of(organization: Organization) -> str:
    return Subscription.objects.get(organization=organization).plan.code


def test_four_tiers_with_the_present_one_marked(alice_client: Client) -> None:
    """Prices and limits are the guide's; there is no button for the plan one has."""
    page = alice_client.get("/plan/").content.decode()
    for text in ("$50", "1,000", "$145", "1,500", "$185", "3,000", "$225", "5,000", "Your plan"):
        assert text in page
    assert "/plan/change/trial/" not in page


def test_change_is_previewed_then_made_and_recorded(alice_client: Client, alice_org: Organization) -> None:
    """Opening the address changes nothing; the question names both prices; the log names who did it."""
    page = alice_client.get("/plan/change/premium/").content.decode()
    assert "$50" in page
    assert "$185" in page
    assert _plan_of(alice_org) == "trial"
    alice_client.post("/plan/change/premium/")
    assert _plan_of(alice_org) == "premium"
    assert ChangeEvent.objects.get(action="plan.changed").actor == "alice@alice.example"


def test_viewer_sees_and_may_not_change(vera_client: Client, alice_org: Organization) -> None:
    """403, and the plan stays."""
    assert "/plan/change/" not in vera_client.get("/plan/").content.decode()
    assert vera_client.post("/plan/change/premium/").status_code == 403
    assert _plan_of(alice_org) == "trial"


def test_billing_may_change(alice_org: Organization, client_for: Callable[..., Client]) -> None:
    """Whoever pays decides, without seeing any mail."""
    payer = make_user("payer@alice.example")
    Membership.objects.create(user=payer, organization=alice_org, role=Role.BILLING)
    client_for(payer).post("/plan/change/standard/")
    assert _plan_of(alice_org) == "standard"


def test_hidden_plan_is_not_for_sale(alice_client: Client, alice_org: Organization) -> None:
    """Operators give it; nobody takes it."""
    Plan.objects.create(code="secret", name="Secret", price_cents=0, recipients_per_hour=10**9, is_visible=False)
    assert alice_client.post("/plan/change/secret/").status_code == 404
    assert _plan_of(alice_org) == "trial"


def test_days_count_emails_and_the_fullest_hour(
    alice_client: Client, alice_org: Organization, queued_message: Callable[..., Message]
) -> None:
    """What was sent today stands in today's row."""
    now = timezone.now()
    queued_message(alice_org, recipients=("a@x.example", "b@x.example"), received_at=now)
    queued_message(alice_org, received_at=now)
    ((_start, _end, total, most),) = alice_client.get("/plan/").context["days"]
    assert (total, most) == (3, 3)


def test_billing_gets_numbers_without_links_to_mail(
    alice_org: Organization, client_for: Callable[..., Client], queued_message: Callable[..., Message]
) -> None:
    """A number links to its rows only for those who may see the rows."""
    payer = make_user("payer@alice.example")
    Membership.objects.create(user=payer, organization=alice_org, role=Role.BILLING)
    queued_message(alice_org)
    assert "/messages/" not in client_for(payer).get("/plan/").content.decode()
