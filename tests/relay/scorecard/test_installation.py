"""The card of the whole installation: every check in each of its states."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import Membership, Organization, Plan, Role, Subscription, User
from audit.changes import SYSTEM
from audit.models import Reason, Result, RollupMark
from relay.models import AppPassword, SmtpUser
from relay.networks import add_network
from relay.scorecard.installation import installation_scorecard
from tests.relay.scorecard.conftest import SignedIn, row

pytestmark = pytest.mark.django_db


def verdict(number: int) -> tuple[str, str]:
    return row(installation_scorecard(), number)


def test_a_fresh_installation_claims_nothing_of_what_has_not_happened() -> None:
    """No customer, no operator, no sign-in: only settings are evidence."""
    states = {each.practice.number: str(each.state) for each in installation_scorecard()}
    assert {number for number, state in states.items() if state == "fulfilled"} <= {1, 6, 9, 12}
    assert list(states) == list(range(1, 14))


def test_strong_mechanisms(settings: Any, shop: SmtpUser, signed_in: SignedIn) -> None:
    """Not while CRAM-MD5 is on for anybody, or was used."""
    signed_in(count=1200)
    settings.GATEPOST_CRAM_MD5 = False
    assert verdict(1) == ("fulfilled", "CRAM-MD5 is not offered. Sign-ins in 2 days: 1,200 PLAIN.")
    settings.GATEPOST_CRAM_MD5 = True
    assert verdict(1) == ("fulfilled", "CRAM-MD5 is allowed, but on for nobody. Sign-ins in 2 days: 1,200 PLAIN.")
    SmtpUser.objects.update(cram_md5_enabled_at=timezone.now())
    assert verdict(1) == (
        "not", "SMTP users for which CRAM-MD5 is on: 1. Sign-ins in 2 days that used it: 0 of 1,200.",
    )  # fmt: skip


def test_tls_always(signed_in: SignedIn) -> None:
    """By every sign-in of two days."""
    assert verdict(2)[0] == "unmeasured"
    signed_in()
    assert verdict(2)[0] == "fulfilled"
    signed_in(tls_version="TLSv1.1")
    assert verdict(2)[0] == "not"


def test_known_networks(shop: SmtpUser, password: AppPassword) -> None:
    """How many of all SMTP users are bound."""
    assert verdict(3) == ("not", "SMTP users that may sign in from any address: 1 of 1.")
    add_network(shop.organization, cidr="192.0.2.0/24", actor=SYSTEM)
    assert verdict(3)[0] == "fulfilled"
    AppPassword.objects.update(revoked_at=timezone.now())
    assert verdict(3)[0] == "unmeasured"


def test_second_factor(carol: User, alice_org: Organization) -> None:
    """Of operators."""
    assert verdict(4) == (
        "fulfilled", "Operators with a second factor: 1 of 1. Customers that require one: 0 of 1.",
    )  # fmt: skip
    TOTPDevice.objects.all().delete()
    state, evidence = verdict(4)
    assert state == "not" and "carol@gatepost.example" in evidence
    User.objects.update(is_operator=False)
    assert verdict(4)[0] == "unmeasured"


def test_app_passwords_only(signed_in: SignedIn) -> None:
    """What was taken, and how often people's addresses were tried in vain."""
    assert verdict(5)[0] == "unmeasured"
    signed_in()
    signed_in(
        result=Result.REFUSED, reason=Reason.PANEL_PASSWORD, organization_id=None, smtp_user_id=None,
        app_password_id=None, username_given="alice@alice.example", count=5,
    )  # fmt: skip
    state, evidence = verdict(5)
    assert state == "fulfilled" and "were tried 5 times in 24 hours" in evidence
    signed_in(app_password_id=None)
    assert verdict(5)[0] == "not"


def test_panel_passwords(settings: Any) -> None:
    """Fulfilled by the validators in force; without one, it is named."""
    assert verdict(6)[0] == "fulfilled"
    settings.AUTH_PASSWORD_VALIDATORS = settings.AUTH_PASSWORD_VALIDATORS[:2]
    assert verdict(6) == ("not", "Panel passwords are not checked by StrengthValidator.")


def test_everything_is_recorded(signed_in: SignedIn) -> None:
    """Fulfilled while attempts come in and the sums follow."""
    assert verdict(7)[0] == "unmeasured"
    signed_in()
    assert verdict(7) == ("fulfilled", "Attempts of 24 hours in the auth log: 1, of which accepted: 1.")
    RollupMark.objects.update(done_until=timezone.now() - timedelta(days=1, hours=1))
    state, evidence = verdict(7)
    assert state == "not" and "1,500 minutes behind" in evidence


def test_dedicated_accounts(carol: User, alice_org: Organization) -> None:
    """An operator who is a customer's member has SMTP by the back door."""
    assert verdict(8) == ("fulfilled", "Operators who belong to a customer, and so reach SMTP: none of 1.")
    Membership.objects.create(user=carol, organization=alice_org, role=Role.ADMIN)
    state, evidence = verdict(8)
    assert state == "not" and "carol@gatepost.example" in evidence
    User.objects.update(is_operator=False)
    assert verdict(8)[0] == "unmeasured"


def test_limits(alice_org: Organization) -> None:
    """The system's own organization, whose mail is ours, does not count."""
    assert verdict(10) == ("fulfilled", "Customers: 1, each with a plan that has a limit.")
    Subscription.objects.filter(organization=alice_org).update(plan=Plan.objects.get(code="internal"))
    assert verdict(10) == ("not", "Customers whose plan sets no real limit: 1 of 1.")


def test_secrets(settings: Any, tmp_path: Path) -> None:
    """The self-check's finding: a file that others may read, and one that only its owner may."""
    key = tmp_path / "key.pem"
    key.write_text("x")
    settings.GATEPOST_TLS_KEY = str(key)
    key.chmod(0o644)
    state, evidence = verdict(12)
    assert state == "not" and str(key) in evidence
    key.chmod(0o600)
    assert verdict(12)[0] == "fulfilled"


def test_a_check_that_breaks_is_not_fulfilled(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card is shown all the same, and the row says so."""
    del settings.GATEPOST_CRAM_MD5
    state, evidence = verdict(1)
    assert state == "unmeasured" and evidence.startswith("The check itself failed")


def test_the_card_is_cheap(alice_org: Organization, django_assert_max_num_queries: Any) -> None:
    """A dozen queries, whatever there is."""
    with django_assert_max_num_queries(14):
        installation_scorecard()
