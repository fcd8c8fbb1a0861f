"""relay/deprecations.py: who still signs in the old way, and what switching it off would have refused."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.logins import roll_up_login_days
from audit.models import Reason, Result
from audit.record import attempt, record_auth_event
from relay.credentials import create_smtp_user, revoke_app_password
from relay.deprecations import CRAM_MD5, LOGIN, OLD_PASSWORD, TLS_1_2, WAYS, Standing, radar, switch_off, switch_on
from relay.models import AppPassword, SmtpUser
from relay.password_life import rotate_app_password
from relay.sign_in_policy import policy_of
from tests.relay.core.conftest import Sender

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
SignIn = Callable[..., None]


@pytest.fixture
def sign_in() -> SignIn:
    def record(user: SmtpUser, password: AppPassword | None = None, *, ago: timedelta = DAY, **given: Any) -> None:
        values = {"ip": "192.0.2.7", "mechanism": "PLAIN", "tls_version": "TLSv1.3", "client_name": "web.example"}
        record_auth_event(
            attempt(
                result=Result.ACCEPTED,
                reason=Reason.OK,
                port=587,
                worker="test",
                organization_id=user.organization_id,
                smtp_user_id=user.pk,
                app_password_id=password.pk if password else None,
                at=timezone.now() - ago,
                **{**values, **given},
            )
        )

    return record


def standings(organization: Organization) -> dict[str, Standing]:
    return {standing.way.key: standing for standing in radar(organization)}


def test_who_uses_what(sender: Sender, alice_org: Organization, sign_in: SignIn) -> None:
    """Each old way with its credentials, addresses and clients, most first, of all sign-ins of thirty days."""
    user, password = sender.smtp_user, sender.app_password
    sign_in(user, password, count=90)
    sign_in(user, password, mechanism="LOGIN", count=3, client_name="printer")
    sign_in(user, password, mechanism="LOGIN", tls_version="TLSv1.2", ip="192.0.2.8", count=5)
    sign_in(user, mechanism="CRAM-MD5", count=2)
    sign_in(user, password, mechanism="LOGIN", ago=40 * DAY)
    roll_up_login_days()
    found = standings(alice_org)
    assert list(found) == list(WAYS)
    login = found[LOGIN]
    assert (login.would_refuse, login.logins, login.credentials, login.days, login.is_off) == (8, 100, 1, 30, False)
    assert [(use.username, use.app_password, use.ip, use.client_name, use.count) for use in login.uses] == [
        ("app.alice-works", "test", "192.0.2.8", "web.example", 5),
        ("app.alice-works", "test", "192.0.2.7", "printer", 3),
    ]
    assert [(use.ip, use.count) for use in found[TLS_1_2].uses] == [("192.0.2.8", 5)]
    assert [(use.app_password, use.count) for use in found[CRAM_MD5].uses] == [("", 2)]
    assert found[OLD_PASSWORD].uses == ()


def test_an_old_password_that_is_still_in_use(sender: Sender, alice_org: Organization, sign_in: SignIn) -> None:
    """From the rotation on, until it has ended; whose replacement was revoked is not old."""
    old = sender.app_password
    sign_in(sender.smtp_user, old, count=4)
    assert standings(alice_org)[OLD_PASSWORD].would_refuse == 0
    new = rotate_app_password(old, ends_at=timezone.now() + 7 * DAY, actor=SYSTEM).app_password
    standing = standings(alice_org)[OLD_PASSWORD]
    assert (standing.would_refuse, standing.left) == (4, 1)
    assert [use.app_password for use in standing.uses] == ["test"]
    revoke_app_password(new, actor=SYSTEM)
    assert standings(alice_org)[OLD_PASSWORD].uses == ()


def test_others_are_not_seen(sender: Sender, bob_org: Organization, sign_in: SignIn) -> None:
    """Bob's radar is his own."""
    sign_in(sender.smtp_user, sender.app_password, mechanism="LOGIN")
    assert all(standing.uses == () and standing.logins == 0 for standing in radar(bob_org))


def test_cram_md5_that_is_only_switched_on(alice_org: Organization) -> None:
    """It is counted although nobody has used it."""
    user = create_smtp_user(alice_org, name="copier", excess="hold", actor=SYSTEM)
    SmtpUser.objects.filter(pk=user.pk).update(cram_md5_enabled_at=timezone.now())
    assert standings(alice_org)[CRAM_MD5].left == 1


@pytest.mark.parametrize("key", [CRAM_MD5, LOGIN, TLS_1_2])
def test_switched_off_and_on(alice_org: Organization, key: str) -> None:
    """The standing says which it is, and the policy is what smtpd reads."""
    switch_off(alice_org, key, actor=SYSTEM)
    assert [key for key, standing in standings(alice_org).items() if standing.is_off] == [key]
    policy = policy_of(alice_org.pk)
    assert (policy.tls_least == "TLSv1.3") == (key == TLS_1_2)
    assert policy.refused_mechanisms == (set() if key == TLS_1_2 else {key.upper()})
    switch_on(alice_org, key, actor=SYSTEM)
    assert not any(standing.is_off for standing in radar(alice_org))


@pytest.mark.parametrize("key", [OLD_PASSWORD, "plain", "", "tls-1.0"])
def test_what_has_no_switch(alice_org: Organization, key: str) -> None:
    """An old app password is ended on its own page; what is not old is not switched off here."""
    for switch in (switch_off, switch_on):
        with pytest.raises(ValueError, match="has no switch"):
            switch(alice_org, key, actor=SYSTEM)
