"""relay.views.overview: the hour, what became of mail, what needs doing, the first-run checklist."""

from collections.abc import Callable
from datetime import timedelta

from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import Reason
from audit.rollup import roll_up_auth_hours
from relay.credentials import create_app_password
from relay.domains import add_domain
from relay.models import Message, SmtpUser
from relay.networks import add_network
from tests.relay.conftest import make_refusal


def test_fresh_organization_sees_the_way_to_the_first_mail(alice_client: Client) -> None:
    """Before the first delivery there is a checklist, and it starts with an SMTP user."""
    response = alice_client.get("/")
    assert [step.done for step in response.context["steps"]] == [False] * 6
    assert "/smtp-users/new/" in response.content.decode()


def test_checklist_goes_with_the_first_delivered_mail(
    alice_client: Client, alice_org: Organization, queued_message: Callable[..., Message]
) -> None:
    """Once a mail was delivered nobody needs it any more."""
    queued_message(alice_org, state="delivered")
    assert alice_client.get("/").context["steps"] == []


def test_numbers_count_recipients_by_period_and_link_to_rows(
    alice_client: Client, alice_org: Organization, bob_org: Organization, queued_message: Callable[..., Message]
) -> None:
    """An email is a recipient; each period holds the shorter ones; another organization's mail does not count."""
    queued_message(alice_org, recipients=("a@x.example", "b@x.example"), state="delivered")
    queued_message(alice_org, state="failed", received_at=timezone.now() - timedelta(days=3))
    queued_message(bob_org, state="delivered")
    response = alice_client.get("/")
    day, week, _month = response.context["outcomes"]
    assert (day.accepted, day.delivered, day.failed) == (2, 2, 0)
    assert (week.accepted, week.delivered, week.failed) == (3, 2, 1)
    assert "/messages/?q=status:failed+after:7d" in response.content.decode()


def test_refused_sign_ins_come_from_the_hourly_sums(alice_client: Client, attempted: Callable[..., object]) -> None:
    """Folded attempts count in full."""
    attempted(reason=Reason.WRONG_PASSWORD, count=41)
    attempted(reason=Reason.OK)
    roll_up_auth_hours()
    assert alice_client.get("/").context["outcomes"][0].refused == 41


def test_refusals_at_the_door_are_counted_by_period(
    alice_client: Client, alice_org: Organization, bob_org: Organization, shop: SmtpUser
) -> None:
    """Each number leads to its list; another organization's do not count."""
    for hours in (1, 23, 25, 24 * 6, 24 * 8, 24 * 31):
        make_refusal(shop, ago=timedelta(hours=hours))
    make_refusal(shop, organization_id=bob_org.pk)
    response = alice_client.get("/")
    assert [row.refused_at_door for row in response.context["outcomes"]] == [2, 4, 5]
    assert 'href="/why/?since=7d">4</a>' in response.content.decode()
    assert len(alice_client.get("/why/?since=7d").context["rows"]) == 4


def test_what_needs_doing_names_the_thing(alice_client: Client, alice_org: Organization, shop: SmtpUser) -> None:
    """An unverified domain, a password that expires within 14 days, an SMTP user open to every address."""
    add_domain(alice_org, name="alice.example", actor=SYSTEM)
    soon, late = timezone.now() + timedelta(days=13), timezone.now() + timedelta(days=15)
    create_app_password(shop, name="expires soon", expires_at=soon, actor=SYSTEM)
    create_app_password(shop, name="expires late", expires_at=late, actor=SYSTEM)
    texts = " ".join(duty.text for duty in alice_client.get("/").context["duties"])
    assert "alice.example is not verified" in texts
    assert "expires soon" in texts
    assert "expires late" not in texts
    assert "shop.alice-works may sign in from any address" in texts


def test_allowed_network_ends_that_duty(alice_client: Client, alice_org: Organization, shop: SmtpUser) -> None:
    """With a list of the organization no SMTP user is open to all."""
    add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM)
    assert not alice_client.get("/").context["duties"]


def test_pending_organization_is_told_what_that_means(alice_client: Client, alice_org: Organization) -> None:
    """Mail of an organization that waits is captured, and the page says so."""
    alice_org.state = Organization.State.PENDING
    alice_org.save()
    assert "waits for the operator" in alice_client.get("/").content.decode()
