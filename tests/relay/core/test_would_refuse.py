"""relay.networks.would_refuse: who a list would have shut out, from the sums and the newest events."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import Reason, Result
from audit.record import attempt, record_auth_event
from audit.rollup import roll_up_auth_hours
from relay.credentials import create_smtp_user
from relay.models import SmtpUser
from relay.networks import RefusedLogin, would_refuse


@pytest.fixture
def app(alice_org: Organization) -> SmtpUser:
    return create_smtp_user(alice_org, name="app", excess="hold", actor=SYSTEM)


def sign_in(user: SmtpUser, ip: str, *, ago: timedelta, reason: Reason = Reason.OK, count: int = 1) -> datetime:
    at = timezone.now() - ago
    record_auth_event(
        attempt(
            result=Result.ACCEPTED if reason is Reason.OK else Result.REFUSED,
            reason=reason,
            ip=ip,
            port=587,
            worker="test",
            username_given=user.username.upper(),
            organization_id=user.organization_id,
            smtp_user_id=user.pk,
            at=at,
            count=count,
        )
    )
    return at


DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def test_logins_from_outside_are_named(alice_org: Organization, app: SmtpUser) -> None:
    """By SMTP user and address with their number, most first; those inside, refused or too old are not."""
    other = create_smtp_user(alice_org, name="other", excess="hold", actor=SYSTEM)
    sign_in(app, "198.51.100.1", ago=2 * DAY, count=3)
    last = sign_in(app, "198.51.100.1", ago=DAY, count=4)
    single = sign_in(other, "2001:db8::1", ago=DAY)
    sign_in(app, "192.0.2.7", ago=DAY)
    sign_in(app, "::ffff:192.0.2.8", ago=DAY)
    sign_in(app, "198.51.100.2", ago=DAY, reason=Reason.WRONG_PASSWORD)
    sign_in(app, "198.51.100.3", ago=8 * DAY)
    roll_up_auth_hours()
    assert would_refuse(alice_org, networks=["192.0.2.0/24"]) == [
        RefusedLogin("app.alice-works", "198.51.100.1", 7, last),
        RefusedLogin("other.alice-works", "2001:db8::1", 1, single),
    ]
    assert [each.username for each in would_refuse(alice_org, smtp_user=other, networks=["192.0.2.0/24"])] == [
        "other.alice-works"
    ]
    assert len(would_refuse(alice_org, networks=["192.0.2.0/24"], days=9)) == 3


def test_a_login_of_just_now_is_named_before_any_sum(alice_org: Organization, app: SmtpUser) -> None:
    """Whoever tries a client and then sets its list is warned, once, sums or not."""
    at = sign_in(app, "198.51.100.1", ago=MINUTE)
    expected = [RefusedLogin("app.alice-works", "198.51.100.1", 1, at)]
    assert would_refuse(alice_org, networks=["192.0.2.0/24"]) == expected
    roll_up_auth_hours()
    assert would_refuse(alice_org, networks=["192.0.2.0/24"]) == expected


def test_no_list_refuses_nobody(alice_org: Organization, app: SmtpUser) -> None:
    """An empty one allows any address."""
    sign_in(app, "198.51.100.1", ago=MINUTE)
    assert would_refuse(alice_org, networks=[]) == []


def test_others_logins_are_not_seen(alice_org: Organization, bob_org: Organization, app: SmtpUser) -> None:
    """Only the organization's own."""
    sign_in(app, "198.51.100.1", ago=MINUTE)
    assert would_refuse(bob_org, networks=["192.0.2.0/24"]) == []
