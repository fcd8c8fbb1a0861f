"""Rotation, sleep and waking of app passwords, and who uses them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM, verify_chain
from audit.models import ChangeEvent, Reason, Result
from audit.record import attempt, record_auth_event
from relay import password_life
from relay.credentials import create_app_password, revoke_app_password
from relay.models import AppPassword, CredentialChange, Message, Network
from relay.networks import add_network
from relay.submission import Accepted, Ended
from tests.relay.core.conftest import Sender, accepted, at_once

DAY = timedelta(days=1)


def rotated(sender: Sender, **fields: Any) -> AppPassword:
    values = {"ends_at": timezone.now() + 7 * DAY, "actor": SYSTEM} | fields
    return password_life.rotate_app_password(sender.app_password, **values).app_password


def test_both_accept_during_the_overlap(sender: Sender) -> None:
    """What the old one accepts until its end, the new one accepts from the start."""
    new = rotated(sender)
    outcomes = accepted([sender.submission(), sender.submission(app_password_id=new.pk)])
    assert [type(each) for each in outcomes] == [Accepted, Accepted]
    assert new.replaces_id == sender.app_password.pk


def test_the_old_one_ends_at_the_chosen_time(sender: Sender) -> None:
    """Its end is the chosen one, in the transaction that accepts too."""
    ends_at = timezone.now() + 3 * DAY
    rotated(sender, ends_at=ends_at)
    sender.app_password.refresh_from_db()
    assert sender.app_password.expires_at == ends_at
    AppPassword.objects.filter(pk=sender.app_password.pk).update(expires_at=timezone.now())
    assert accepted([sender.submission()]) == [Ended(Reason.EXPIRED)]


def test_a_rotation_never_lengthens_a_life(sender: Sender) -> None:
    """An end that is nearer than the chosen one stays."""
    near = timezone.now() + DAY
    AppPassword.objects.filter(pk=sender.app_password.pk).update(expires_at=near)
    rotated(sender, ends_at=timezone.now() + 30 * DAY)
    sender.app_password.refresh_from_db()
    assert sender.app_password.expires_at == near


def test_the_new_one_may_be_used_from_where_the_old_one_may(sender: Sender) -> None:
    """Networks of the app password go with it: a rotation opens nothing."""
    add_network(
        sender.smtp_user.organization,
        cidr="192.0.2.0/24",
        smtp_user=sender.smtp_user,
        app_password=sender.app_password,
        label="Berlin",
        actor=SYSTEM,
    )
    new = rotated(sender)
    assert [(str(each.cidr), each.label) for each in Network.objects.filter(app_password=new)] == [
        ("192.0.2.0/24", "Berlin")
    ]


def test_a_device_with_a_list_of_its_own_only_can_be_rotated(sender: Sender) -> None:
    """The list that the new device password inherits is the allowlist that it needs."""
    user = sender.smtp_user
    network = add_network(user.organization, cidr="192.0.2.0/24", smtp_user=user, actor=SYSTEM)
    device = create_app_password(user, name="Camera", kind="device", actor=SYSTEM).app_password
    add_network(user.organization, cidr="192.0.2.7", smtp_user=user, app_password=device, actor=SYSTEM)
    network.delete()
    new = password_life.rotate_app_password(device, ends_at=timezone.now() + DAY, actor=SYSTEM).app_password
    assert new.kind == "device" and new.networks.count() == 1


def test_one_at_a_time_takes_over(sender: Sender) -> None:
    """Of eight rotations at once one is made, the others are told by whom."""
    results = at_once([lambda: rotated(sender, name="next") for _ in range(8)])
    assert sorted(type(each).__name__ for each in results) == ["AppPassword"] + ["CredentialRefused"] * 7
    assert sender.smtp_user.app_passwords.count() == 2
    assert verify_chain(sender.smtp_user.organization_id).ok


def test_rotations_and_revocations_at_once_never_deadlock(sender: Sender, sender_of: Callable[..., Sender]) -> None:
    """Both take their locks in one order; whatever comes first, the password has ended afterwards."""
    for number in range(5):
        each = sender_of(sender.smtp_user.organization, name=f"race{number}")
        results = at_once(
            [
                lambda each=each: rotated(each),  # type: ignore[misc]
                lambda each=each: revoke_app_password(each.app_password, actor=SYSTEM),  # type: ignore[misc]
            ]
        )
        assert all(isinstance(result, bool | AppPassword | ValidationError) for result in results), results
        each.app_password.refresh_from_db()
        assert each.app_password.revoked_at is not None


@pytest.mark.parametrize(
    ("state", "code"), [("revoked", "ended"), ("expired", "ended"), ("asleep", "asleep"), ("canary", "canary")]
)
def test_what_has_ended_is_not_rotated(sender: Sender, state: str, code: str) -> None:
    """Nothing takes over from what does not work, and nothing is made then."""
    values = {
        "revoked": {"revoked_at": timezone.now()},
        "expired": {"expires_at": timezone.now() - DAY},
        "asleep": {"slept_at": timezone.now()},
        "canary": {"kind": "canary"},
    }
    AppPassword.objects.filter(pk=sender.app_password.pk).update(**values[state])
    with pytest.raises(ValidationError) as refused:
        rotated(sender)
    assert refused.value.code == code
    assert sender.smtp_user.app_passwords.count() == 1


@pytest.mark.parametrize("away", [-DAY, timedelta(0), 400 * DAY])
def test_an_end_that_makes_no_sense_is_refused(sender: Sender, away: timedelta) -> None:
    """In the past, or further away than a year."""
    with pytest.raises(ValidationError):
        rotated(sender, ends_at=timezone.now() + away)


def test_a_rotation_is_recorded(sender: Sender) -> None:
    """With the end before and after, and the name of what takes over."""
    new = rotated(sender, name="web-2")
    record = ChangeEvent.objects.get(action="app_password.rotated")
    sender.app_password.refresh_from_db()
    ends = [None, sender.app_password.expires_at.isoformat()]  # type: ignore[union-attr]
    assert record.values == {"replaced_by": new.name, "expires_at": ends}
    assert ChangeEvent.objects.filter(action="app_password.created", subject_id=str(new.pk)).exists()


def test_the_old_one_can_be_ended_early(sender: Sender) -> None:
    """One call, sessions end, and the reason is that something took over."""
    rotated(sender)
    password_life.end_replaced(sender.app_password, actor=SYSTEM)
    sender.app_password.refresh_from_db()
    assert sender.app_password.revoked_because == "replaced"
    assert CredentialChange.objects.filter(app_password_id=sender.app_password.pk, ends_sessions=True).exists()
    assert accepted([sender.submission()]) == [Ended(Reason.REVOKED)]


def test_what_nothing_takes_over_from_is_not_ended_early(sender: Sender) -> None:
    """The button belongs to rotations; a lone password is revoked after a question."""
    with pytest.raises(ValidationError) as refused:
        password_life.end_replaced(sender.app_password, actor=SYSTEM)
    assert refused.value.code == "alone"


def test_names_carry_one_date(alice_org: Organization) -> None:
    """The next one of a dated name gets the new date in place of the old one, and stays within the column."""
    now = timezone.now().replace(year=2026, month=11, day=24)
    assert password_life.suggested_name("web-1", now=now) == "web-1 2026-11-24"
    assert password_life.suggested_name("web-1 2025-01-02", now=now) == "web-1 2026-11-24"
    assert len(password_life.suggested_name("x" * 64, now=now)) == 64


def slept(sender: Sender, *, idle_days: int = 100) -> bool:
    AppPassword.objects.filter(pk=sender.app_password.pk).update(created_at=timezone.now() - idle_days * DAY)
    return password_life.put_to_sleep(sender.app_password, idle_before=timezone.now() - 90 * DAY)


def test_a_sleeping_one_accepts_nothing(sender: Sender) -> None:
    """Not in a session that was open before either; its sessions are told to end."""
    assert slept(sender)
    assert accepted([sender.submission()]) == [Ended(Reason.ASLEEP)]
    assert CredentialChange.objects.filter(app_password_id=sender.app_password.pk, ends_sessions=True).exists()


def test_what_was_used_since_does_not_sleep(sender: Sender) -> None:
    """A sign-in, a waking, or mail in a session that is older than all that."""
    now = timezone.now()
    mine = AppPassword.objects.filter(pk=sender.app_password.pk)
    for column in ("last_used_at", "woken_at"):
        mine.update(**{column: now - DAY})
        assert not slept(sender)
        mine.update(**{column: None})
    accepted([sender.submission()])
    assert Message.objects.count() == 1
    assert not slept(sender)


def test_a_woken_one_accepts_again(sender: Sender) -> None:
    """With the same secret, and it does not sleep again at once."""
    slept(sender)
    password_life.wake_app_password(sender.app_password, actor=SYSTEM)
    assert [type(each) for each in accepted([sender.submission()])] == [Accepted]
    assert not slept(sender)
    actions = ChangeEvent.objects.order_by("sequence").values_list("action", flat=True)
    assert list(actions)[-2:] == ["app_password.slept", "app_password.woken"]


def test_what_has_ended_is_not_woken(sender: Sender) -> None:
    """Waking is no way around a revocation."""
    slept(sender)
    revoke_app_password(sender.app_password, actor=SYSTEM)
    with pytest.raises(ValidationError):
        password_life.wake_app_password(sender.app_password, actor=SYSTEM)


def sign_in(sender: Sender, *, ip: str, client: str, ago: timedelta, **fields: Any) -> None:
    values: dict[str, Any] = {
        "at": timezone.now() - ago,
        "result": Result.ACCEPTED,
        "reason": Reason.OK,
        "ip": ip,
        "client_name": client,
        "port": 587,
        "worker": "test",
        "organization_id": sender.smtp_user.organization_id,
        "smtp_user_id": sender.smtp_user.pk,
        "app_password_id": sender.app_password.pk,
    }
    record_auth_event(attempt(**values | fields))


def test_uses_name_address_and_client(sender: Sender) -> None:
    """Accepted sign-ins of this app password since the moment asked, the latest first."""
    sign_in(sender, ip="192.0.2.1", client="old.example", ago=5 * DAY)
    sign_in(sender, ip="192.0.2.2", client="web.example", ago=timedelta(hours=2), mechanism="PLAIN")
    sign_in(sender, ip="192.0.2.2", client="web.example", ago=timedelta(hours=1), mechanism="LOGIN")
    sign_in(sender, ip="192.0.2.3", client="cron.example", ago=timedelta(minutes=1))
    sign_in(sender, ip="192.0.2.4", client="no.example", ago=DAY, result=Result.REFUSED, reason=Reason.NETWORK)
    sign_in(sender, ip="192.0.2.5", client="other.example", ago=DAY, app_password_id=sender.app_password.pk + 1)
    uses = password_life.uses_of(sender.app_password, since=timezone.now() - 2 * DAY)
    assert [(use.ip, use.client_name, use.count) for use in uses] == [
        ("192.0.2.3", "cron.example", 1),
        ("192.0.2.2", "web.example", 2),
    ]
