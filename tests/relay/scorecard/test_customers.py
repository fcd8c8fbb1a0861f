"""The card of one organization: every check in each of its states, with the figures it tells."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import Organization, Plan, User
from audit.changes import SYSTEM
from audit.models import Reason, Result, RollupMark
from relay.credentials import create_app_password, create_smtp_user, disable_smtp_user, revoke_app_password
from relay.models import AppPassword, CredentialAlarm, LeakReport, SmtpUser
from relay.networks import add_network
from relay.scorecard.customers import customer_scorecard
from relay.sign_in_policy import refuse_mechanism
from tests.relay.scorecard.conftest import DAY, SignedIn, record, row

pytestmark = pytest.mark.django_db


def verdict(organization: Organization, number: int) -> tuple[str, str]:
    return row(customer_scorecard(organization), number)


def test_an_empty_organization_is_never_fulfilled_without_evidence(bob_org: Organization) -> None:
    """Nothing has happened: all is unmeasured but what its member and its plan tell."""
    states = {each.practice.number: str(each.state) for each in customer_scorecard(bob_org)}
    assert list(states) == list(range(1, 14))
    del states[9]  # of the service, not of the organization
    assert {number: state for number, state in states.items() if state != "unmeasured"} == {4: "not", 10: "fulfilled"}


def test_strong_mechanisms(alice_org: Organization, shop: SmtpUser, signed_in: SignedIn) -> None:
    """Fulfilled without CRAM-MD5; not while it is on, nor was used; what the policy refuses counts as off."""
    signed_in(count=4000)
    signed_in(mechanism="SCRAM-SHA-256", count=2)
    assert verdict(alice_org, 1) == (
        "fulfilled", "CRAM-MD5 is off. Sign-ins in 30 days: 4,000 PLAIN, 2 SCRAM-SHA-256.",
    )  # fmt: skip
    SmtpUser.objects.filter(pk=shop.pk).update(cram_md5_enabled_at=timezone.now())
    assert verdict(alice_org, 1) == (
        "not", "CRAM-MD5 is on for shop.alice-works. It was used by 0 of 4,002 sign-ins in 30 days.",
    )  # fmt: skip
    refuse_mechanism(alice_org, "CRAM-MD5", actor=SYSTEM)
    assert verdict(alice_org, 1)[0] == "fulfilled"
    signed_in(mechanism="CRAM-MD5")
    assert verdict(alice_org, 1) == ("not", "CRAM-MD5 is off now, but 1 of 4,003 sign-ins in 30 days used it.")


def test_tls_always(alice_org: Organization, signed_in: SignedIn) -> None:
    """By what every sign-in had; nothing is known before the first one."""
    assert verdict(alice_org, 2) == ("unmeasured", "Nobody has signed in for 30 days.")
    signed_in(count=3)
    signed_in(tls_version="TLSv1.2")
    assert verdict(alice_org, 2) == (
        "fulfilled", "All sign-ins in 30 days had TLS 1.2 or newer: 3 TLSv1.3, 1 TLSv1.2.",
    )  # fmt: skip
    signed_in(tls_version="")
    state, evidence = verdict(alice_org, 2)
    assert state == "not" and "1 without TLS" in evidence


def test_known_networks(alice_org: Organization, shop: SmtpUser, password: AppPassword) -> None:
    """A list of the organization, the SMTP user, or of each of its app passwords binds it."""
    assert verdict(alice_org, 3) == (
        "not", "SMTP users that may sign in from any address: 1 of 1 (shop.alice-works).",
    )  # fmt: skip
    bound = add_network(alice_org, cidr="192.0.2.0/24", smtp_user=shop, app_password=password, actor=SYSTEM)
    assert verdict(alice_org, 3) == ("fulfilled", "SMTP users that can sign in: 1, all bound to networks.")
    second = create_app_password(shop, name="web-2", actor=SYSTEM).app_password
    assert verdict(alice_org, 3)[0] == "not"
    revoke_app_password(second, actor=SYSTEM)
    assert verdict(alice_org, 3)[0] == "fulfilled"
    bound.delete()
    add_network(alice_org, cidr="192.0.2.0/24", smtp_user=shop, actor=SYSTEM)
    assert verdict(alice_org, 3)[0] == "fulfilled"
    create_app_password(create_smtp_user(alice_org, name="b", excess="hold", actor=SYSTEM), name="x", actor=SYSTEM)
    assert verdict(alice_org, 3)[1].endswith(": 1 of 2 (b.alice-works).")
    add_network(alice_org, cidr="198.51.100.0/24", actor=SYSTEM)
    assert verdict(alice_org, 3)[0] == "fulfilled"


def test_networks_of_those_who_cannot_sign_in_do_not_matter(
    alice_org: Organization, shop: SmtpUser, password: AppPassword
) -> None:
    """Disabled, or without a live app password: nothing to bind."""
    disable_smtp_user(shop, actor=SYSTEM)
    assert verdict(alice_org, 3)[0] == "unmeasured"


def test_second_factor(alice_org: Organization, alice: User, vera: User) -> None:
    """Every member; those without are named, up to three."""
    TOTPDevice.objects.create(user=alice, confirmed=True)
    TOTPDevice.objects.create(user=vera, confirmed=False)
    assert verdict(alice_org, 4) == ("not", "Members without a second factor: 1 of 2 (vera@alice.example).")
    TOTPDevice.objects.filter(user=vera).update(confirmed=True)
    assert verdict(alice_org, 4) == ("fulfilled", "Members with a second factor: 2 of 2. It is not required.")
    alice_org.mfa_required = True
    assert verdict(alice_org, 4)[1].endswith("2 of 2. It is required.")


def test_app_passwords_only(alice_org: Organization, signed_in: SignedIn) -> None:
    """Not when a member's address was tried, nor if anything else than an app password or token had ever been taken."""
    assert verdict(alice_org, 5)[0] == "unmeasured"
    signed_in(count=7)
    signed_in(app_password_id=None, mechanism="XOAUTH2")
    assert verdict(alice_org, 5) == (
        "fulfilled",
        "Sign-ins in 30 days: 8, all by app password or token. No member's address was tried.",
    )
    record(
        result=Result.REFUSED, reason=Reason.PANEL_PASSWORD, username_given="alice@alice.example", count=14,
        app_password_id=None,
    )  # fmt: skip
    state, evidence = verdict(alice_org, 5)
    assert state == "not" and "tried on SMTP 14 times in 30 days" in evidence
    signed_in(app_password_id=None)
    assert verdict(alice_org, 5) == ("not", "Sign-ins with neither an app password nor a token: 1.")


def test_passwords_end(alice_org: Organization, shop: SmtpUser, password: AppPassword) -> None:
    """One that never ends may be a year old; canaries do not count."""
    in_a_month = timezone.now() + 30 * DAY
    create_app_password(shop, name="ends", expires_at=in_a_month, actor=SYSTEM)
    assert verdict(alice_org, 6) == (
        "fulfilled", "App passwords that end by themselves: 1 of 2. No other is older than a year.",
    )  # fmt: skip
    AppPassword.objects.filter(pk=password.pk).update(created_at=timezone.now() - 366 * DAY)
    assert verdict(alice_org, 6) == (
        "not", "App passwords that are older than a year and never end: 1 of 2 (shop.alice-works: web-1).",
    )  # fmt: skip
    AppPassword.objects.update(kind=AppPassword.Kind.CANARY)
    assert verdict(alice_org, 6)[0] == "unmeasured"


def test_everything_is_recorded(alice_org: Organization, signed_in: SignedIn) -> None:
    """Attempts and changes are counted; sums that lag are told, with how much."""
    assert verdict(alice_org, 7)[0] == "unmeasured"
    signed_in(count=3)
    signed_in(result=Result.REFUSED, reason=Reason.REVOKED)
    state, evidence = verdict(alice_org, 7)
    assert state == "fulfilled"
    assert evidence.startswith(
        "Attempts of 30 days in the auth log: 4, of which accepted: 3. Changes in the chained log: 2"
    )
    RollupMark.objects.update(done_until=timezone.now() - timedelta(hours=3))
    state, evidence = verdict(alice_org, 7)
    assert state == "not" and evidence.startswith("The sums of the auth log are 180 minutes behind")


def test_dedicated_accounts(alice_org: Organization, shop: SmtpUser) -> None:
    """An SMTP user that is called like a member is a person's."""
    assert verdict(alice_org, 8)[0] == "fulfilled"
    create_smtp_user(alice_org, name="alice", excess="hold", actor=SYSTEM)
    assert verdict(alice_org, 8) == ("not", "SMTP users that bear a member's name: 1 of 2 (alice.alice-works).")


def test_limits(alice_org: Organization, shop: SmtpUser) -> None:
    """By the plan, and how many have a lower one of their own; a plan without a real limit is none."""
    SmtpUser.objects.filter(pk=shop.pk).update(recipients_per_hour=10)
    assert verdict(alice_org, 10) == (
        "fulfilled", "At most 1,000 emails an hour (Trial). SMTP users with a limit of their own: 1 of 1.",
    )  # fmt: skip
    alice_org.subscription.plan = Plan.objects.get(code="internal")
    assert verdict(alice_org, 10) == ("not", "The plan Internal sets no real limit.")


def alarm(password: AppPassword) -> None:
    CredentialAlarm.objects.create(kind="seen", app_password=password, place="client_name", ip="192.0.2.7")


def report(password: AppPassword) -> None:
    LeakReport.objects.create(digests=[b"x"], hint="gp_4fZk…", reporter="test", app_password=password)


@pytest.mark.parametrize("happens", [alarm, report])
def test_no_hard_coded_secrets(
    alice_org: Organization, shop: SmtpUser, password: AppPassword, happens: Callable[[AppPassword], None]
) -> None:
    """A canary that stays quiet is evidence; a live secret that was seen is the contrary; neither: nothing is known."""
    assert verdict(alice_org, 12)[0] == "unmeasured"
    create_app_password(shop, name="bait", kind="canary", actor=SYSTEM)
    assert verdict(alice_org, 12) == (
        "fulfilled", "Canaries laid out: 1. None was tried, and no live secret was seen, in 90 days.",
    )  # fmt: skip
    happens(password)
    assert verdict(alice_org, 12) == (
        "not", "Tried or seen where no secret belongs, and still live: shop.alice-works: web-1.",
    )  # fmt: skip
    revoke_app_password(password, actor=SYSTEM)
    assert verdict(alice_org, 12)[0] == "fulfilled"


def test_others_do_not_count(alice_org: Organization, bob_org: Organization, signed_in: SignedIn) -> None:
    """Bob's card knows nothing of alice's sign-ins, SMTP users and members."""
    signed_in(mechanism="CRAM-MD5", tls_version="")
    states = {each.practice.number: str(each.state) for each in customer_scorecard(bob_org)}
    assert (states[1], states[2], states[3], states[5], states[7]) == ("unmeasured",) * 5


def test_the_card_is_cheap(alice_org: Organization, django_assert_max_num_queries: Any) -> None:
    """However many SMTP users there are."""
    for number in range(20):
        user = create_smtp_user(alice_org, name=f"app-{number}", excess="hold", actor=SYSTEM)
        create_app_password(user, name="x", actor=SYSTEM)
    with django_assert_max_num_queries(19):
        customer_scorecard(Organization.objects.get(pk=alice_org.pk))
