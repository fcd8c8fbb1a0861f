"""What an organization asks of the life of its app passwords."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts.models import Membership, Organization, Role, User
from audit.changes import SYSTEM, verify_chain
from audit.models import ChangeEvent
from relay.credentials import create_app_password
from relay.models import AppPassword
from relay.password_life import rotate_app_password
from relay.password_policy import NOTICE_DAYS, Policy, new_ends, policy_of, set_policy
from tests.relay.core.conftest import Sender, at_once

DAY = timedelta(days=1)


def bounded(sender: Sender, days: int) -> None:
    set_policy(sender.smtp_user.organization, policy=Policy(max_days=days), actor=SYSTEM)


def made(sender: Sender, **fields: Any) -> AppPassword:
    values = {"name": "web", "actor": SYSTEM} | fields
    return create_app_password(sender.smtp_user, **values).app_password


def test_without_a_policy_there_is_a_notice_alone(alice_org: Organization) -> None:
    """Nothing ends and nothing sleeps that nobody asked for."""
    assert policy_of(alice_org.pk) == Policy(max_days=None, unused_notice_days=90, sleep_days=None)


def test_what_is_made_without_an_end_gets_the_latest(sender: Sender) -> None:
    """As many days as the policy has, from now."""
    bounded(sender, 30)
    expires_at = made(sender).expires_at
    assert expires_at is not None
    assert abs(expires_at - timezone.now() - 30 * DAY) < timedelta(minutes=1)


def test_an_end_beyond_it_is_refused(sender: Sender) -> None:
    """With the day until which it may live; an earlier one is as good as ever."""
    bounded(sender, 30)
    with pytest.raises(ValidationError, match=f"{timezone.now() + 30 * DAY:%Y-%m-%d}"):
        made(sender, expires_at=timezone.now() + 31 * DAY)
    wanted = timezone.now() + 29 * DAY
    assert made(sender, expires_at=wanted).expires_at == wanted


def test_a_rotation_obeys_it(sender: Sender) -> None:
    """The new one is made like any other."""
    bounded(sender, 30)
    new = rotate_app_password(sender.app_password, ends_at=timezone.now() + DAY, actor=SYSTEM).app_password
    assert new.expires_at is not None


def test_a_canary_has_no_end(sender: Sender) -> None:
    """It waits for as long as it takes."""
    bounded(sender, 30)
    assert made(sender, kind="canary", expires_at=timezone.now() + DAY).expires_at is None


@pytest.mark.parametrize(
    ("age", "expires_in", "left"),
    [
        (0, None, 90),  # young: its whole life
        (60, None, 30),  # counted from its making
        (400, None, NOTICE_DAYS),  # older than it may be: the notice, never at once
        (400, 5, 5),  # it ends sooner anyway
        (0, 200, 90),
    ],
)
def test_those_that_exist_get_an_end(sender: Sender, age: int, expires_in: int | None, left: int) -> None:
    """From their making on, never sooner than after the notice, never later than before."""
    now = timezone.now()
    expires_at = now + expires_in * DAY if expires_in is not None else None
    AppPassword.objects.filter(pk=sender.app_password.pk).update(created_at=now - age * DAY, expires_at=expires_at)
    previewed = new_ends(sender.smtp_user.organization_id, max_days=90)
    bounded(sender, 90)
    sender.app_password.refresh_from_db()
    assert sender.app_password.expires_at is not None
    assert abs(sender.app_password.expires_at - now - left * DAY) < timedelta(minutes=1)
    assert len(previewed) == (0 if expires_in == 5 else 1)


def test_owners_hear_which_got_an_end(sender: Sender, vera: User) -> None:
    """One mail for each who answers for it, in the same transaction; a viewer gets none."""
    admin = User.objects.create_user("adam@alice.example", email_confirmed_at=timezone.now())
    Membership.objects.create(user=admin, organization=sender.smtp_user.organization, role=Role.ADMIN)
    bounded(sender, 90)
    assert sorted(written.to[0] for written in mail.outbox) == ["adam@alice.example", "alice@alice.example"]
    content = str(mail.outbox[0].body)
    assert sender.smtp_user.username in content and sender.app_password.hint in content
    assert sender.secret not in content


def test_a_looser_policy_changes_no_end(sender: Sender) -> None:
    """What was given an end keeps it, and nobody is written to."""
    bounded(sender, 90)
    before, mails = AppPassword.objects.get().expires_at, len(mail.outbox)
    bounded(sender, 365)
    assert AppPassword.objects.get().expires_at == before
    assert len(mail.outbox) == mails


def test_it_is_recorded_with_every_new_end(sender: Sender) -> None:
    """What changed, and the end of each before and after."""
    bounded(sender, 90)
    changed = ChangeEvent.objects.get(action="password_policy.changed")
    assert changed.values == {"max_days": [None, 90]}
    ends = ChangeEvent.objects.get(action="app_password.ends_set").values
    sender.app_password.refresh_from_db()
    assert ends == {str(sender.app_password.pk): [None, sender.app_password.expires_at.isoformat()]}  # type: ignore[union-attr]
    assert verify_chain(sender.smtp_user.organization_id).ok


def test_none_slips_through_while_it_is_set(sender: Sender) -> None:
    """Of those made at the same moment each has an end afterwards, whichever came first."""
    at_once([lambda: bounded(sender, 30), *[lambda: made(sender) for _ in range(8)]])
    assert AppPassword.objects.count() == 9
    assert not AppPassword.objects.filter(expires_at=None).exists()


@pytest.mark.parametrize(
    "policy",
    [
        Policy(max_days=0),
        Policy(max_days=100_000),
        Policy(unused_notice_days=0),
        Policy(sleep_days=-1),
        Policy(unused_notice_days=60, sleep_days=30),
    ],
)
def test_numbers_that_make_no_sense_are_refused(alice_org: Organization, policy: Policy) -> None:
    """None of a policy is kept then."""
    with pytest.raises(ValidationError):
        set_policy(alice_org, policy=policy, actor=SYSTEM)
    assert policy_of(alice_org.pk) == Policy()


def test_another_organization_is_not_touched(sender: Sender, bob_org: Organization) -> None:
    """A policy binds its own alone."""
    set_policy(bob_org, policy=Policy(max_days=1), actor=SYSTEM)
    assert AppPassword.objects.get().expires_at is None
    assert made(sender).expires_at is None
