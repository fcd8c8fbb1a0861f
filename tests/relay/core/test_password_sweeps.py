"""What the clock does with app passwords: warnings before an end, notices of disuse, sleep."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.credentials import create_app_password, disable_smtp_user, revoke_app_password
from relay.models import AppPassword, PasswordPolicy
from relay.password_life import rotate_app_password
from relay.password_policy import Policy, set_policy
from relay.password_sweeps import put_unused_to_sleep, tell_of_disuse, warn_of_ends
from tests.relay.core.conftest import Sender, at_once
from tests.relay.core.test_password_life import sign_in

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def rotating(sender: Sender, *, overlap: timedelta, used: bool = True) -> datetime:
    """Its end; used: a client has signed in with the old one since."""
    ends_at = timezone.now() + overlap
    rotate_app_password(sender.app_password, name="web-2", ends_at=ends_at, actor=SYSTEM)
    if used:
        use(sender)
    return ends_at


def use(sender: Sender, *, at: datetime | None = None) -> None:
    at = at or timezone.now() + timedelta(seconds=1)
    mine = AppPassword.objects.filter(pk=sender.app_password.pk)
    mine.update(last_used_at=at, last_used_ip="192.0.2.7", last_used_client="old.example")
    sign_in(sender, ip="192.0.2.7", client="old.example", ago=timezone.now() - at)


def test_who_still_uses_the_old_one_is_warned_of(sender: Sender) -> None:
    """A day before the end: to whom it matters, with address and client, what takes over, and where its page is."""
    ends_at = rotating(sender, overlap=7 * DAY)
    assert warn_of_ends(now=ends_at - 2 * DAY) == 0
    assert warn_of_ends(now=ends_at - DAY + HOUR) == 1
    (written,) = mail.outbox
    assert written.to == ["alice@alice.example"]
    for text in (
        "192.0.2.7 old.example",
        "web-2",
        sender.smtp_user.username,
        f"/app-passwords/{sender.app_password.pk}/",
    ):
        assert text in str(written.body), text


def test_each_step_is_told_once(sender: Sender) -> None:
    """A week, a day and an hour before the end of a long overlap, however often the sweep runs."""
    ends_at = rotating(sender, overlap=30 * DAY)
    for left in (8 * DAY, 6 * DAY, 5 * DAY, 23 * HOUR, 20 * HOUR, HOUR / 2, HOUR / 3):
        warn_of_ends(now=ends_at - left)
        warn_of_ends(now=ends_at - left)
    assert len(mail.outbox) == 3


def test_a_step_as_long_as_the_overlap_is_left_out(sender: Sender) -> None:
    """Who chose a day knows it: the warning comes an hour before."""
    ends_at = rotating(sender, overlap=DAY)
    assert warn_of_ends(now=ends_at - 20 * HOUR) == 0
    assert warn_of_ends(now=ends_at - HOUR / 2) == 1


def test_what_nothing_uses_any_more_ends_in_silence(sender: Sender) -> None:
    """Its last use lies before the rotation."""
    use(sender, at=timezone.now() - HOUR)
    ends_at = rotating(sender, overlap=7 * DAY, used=False)
    assert warn_of_ends(now=ends_at - HOUR) == 0


def test_an_end_without_a_replacement_is_warned_of_too(sender: Sender) -> None:
    """Made with an end, used within the last month."""
    ends_at = timezone.now() + 30 * DAY
    AppPassword.objects.update(expires_at=ends_at)
    use(sender)
    assert warn_of_ends(now=ends_at - 6 * DAY) == 1
    assert "Nothing takes over yet" in str(mail.outbox[0].body)


@pytest.mark.parametrize("what", ["revoked", "asleep", "disabled", "suspended"])
def test_what_works_no_more_is_not_warned_of(sender: Sender, what: str) -> None:
    """It has ended, sleeps, or nothing of its customer may sign in."""
    ends_at = rotating(sender, overlap=7 * DAY)
    if what == "revoked":
        revoke_app_password(sender.app_password, actor=SYSTEM)
    elif what == "asleep":
        AppPassword.objects.update(slept_at=timezone.now())
    elif what == "disabled":
        disable_smtp_user(sender.smtp_user, actor=SYSTEM)
    else:
        Organization.objects.filter(pk=sender.smtp_user.organization_id).update(state="suspended")
    assert warn_of_ends(now=ends_at - HOUR) == 0


def test_several_of_one_customer_are_one_mail(sender: Sender) -> None:
    """A policy ends many on one day."""
    ends_at = timezone.now() + 30 * DAY
    for number in range(40):
        create_app_password(sender.smtp_user, name=f"app {number}", actor=SYSTEM)
    AppPassword.objects.update(expires_at=ends_at, last_used_at=timezone.now())
    assert warn_of_ends(now=ends_at - 6 * DAY) == 41
    assert len(mail.outbox) == 1 and "41" in mail.outbox[0].subject


def test_sweeps_at_once_write_one_mail(sender: Sender) -> None:
    """Four at the same moment."""
    ends_at = rotating(sender, overlap=7 * DAY)
    told = at_once([lambda: warn_of_ends(now=ends_at - 2 * HOUR)] * 4)
    assert sorted(told) == [0, 0, 0, 1]
    assert len(mail.outbox) == 1


def idle(sender: Sender, days: int, **policy: Any) -> None:
    AppPassword.objects.filter(pk=sender.app_password.pk).update(created_at=timezone.now() - days * DAY)
    if policy:
        set_policy(sender.smtp_user.organization, policy=Policy(**policy), actor=SYSTEM)
        mail.outbox.clear()


def test_disuse_is_told_after_90_days(sender: Sender) -> None:
    """Once for each time of disuse; a sign-in begins another."""
    idle(sender, 89)
    assert tell_of_disuse() == 0
    idle(sender, 91)
    assert [tell_of_disuse(), tell_of_disuse()] == [1, 0]
    assert "never used" in str(mail.outbox[0].body)
    use(sender, at=timezone.now() - 90 * DAY - HOUR)
    assert tell_of_disuse() == 1
    assert put_unused_to_sleep(now=timezone.now() + 365 * DAY) == 0


def test_a_policy_can_ask_for_no_notice(sender: Sender) -> None:
    """Nothing is written, and nothing sleeps."""
    idle(sender, 500, unused_notice_days=None)
    assert tell_of_disuse() == 0


def test_sleep_is_announced_a_week_before(sender: Sender) -> None:
    """The mail names the day; on it, and not before, the password falls asleep."""
    now = timezone.now()
    idle(sender, 30, unused_notice_days=None, sleep_days=35)
    assert tell_of_disuse(now=now) == 1
    assert f"{now + 7 * DAY:%Y-%m-%d}" in str(mail.outbox[0].body)
    assert put_unused_to_sleep(now=now + 6 * DAY) == 0
    assert put_unused_to_sleep(now=now + 7 * DAY + HOUR) == 1
    sender.app_password.refresh_from_db()
    assert sender.app_password.slept_at is not None
    assert ChangeEvent.objects.filter(action="app_password.slept").count() == 1
    assert put_unused_to_sleep(now=now + 8 * DAY) == 0


def test_what_was_unused_for_ever_is_announced_first(sender: Sender) -> None:
    """Who switches sleep on ends nothing silently: a notice and a week, though it has been unused for a year."""
    now = timezone.now()
    idle(sender, 365, sleep_days=90)
    assert put_unused_to_sleep(now=now) == 0
    assert tell_of_disuse(now=now) == 1
    assert put_unused_to_sleep(now=now + 6 * DAY) == 0
    assert put_unused_to_sleep(now=now + 7 * DAY + HOUR) == 1


def test_a_use_after_the_announcement_keeps_it_awake(sender: Sender) -> None:
    """The announcement was of another time of disuse."""
    now = timezone.now()
    idle(sender, 100, sleep_days=90)
    tell_of_disuse(now=now)
    use(sender, at=now)
    assert put_unused_to_sleep(now=now + 8 * DAY) == 0
    assert put_unused_to_sleep(now=now + 99 * DAY) == 0  # unused again, and not announced again


def test_a_canary_never_sleeps(sender: Sender) -> None:
    """Nobody is to use it."""
    canary = create_app_password(sender.smtp_user, name="wiki", kind="canary", actor=SYSTEM).app_password
    AppPassword.objects.filter(pk=canary.pk).update(created_at=timezone.now() - 500 * DAY)
    revoke_app_password(sender.app_password, actor=SYSTEM)
    PasswordPolicy.objects.create(organization=sender.smtp_user.organization, sleep_days=90)
    assert tell_of_disuse() == 0
    assert put_unused_to_sleep(now=timezone.now() + 30 * DAY) == 0
