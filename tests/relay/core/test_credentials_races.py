"""Credentials with real concurrency: names once, the plan's number exactly, passwords bounded."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from accounts.models import Organization
from audit.changes import SYSTEM, verify_chain
from relay.credentials import (
    LIVE_PASSWORDS_MAX,
    NameTaken,
    PlanFull,
    create_app_password,
    create_smtp_user,
    disable_smtp_user,
    enable_smtp_user,
    revoke_app_password,
    smtp_users_of,
)
from relay.models import AppPassword, SmtpUser
from tests.relay.core.conftest import Sender, at_once


def kinds(results: list[Any]) -> Counter[str]:
    return Counter(type(result).__name__ for result in results)


def bound(organization: Organization, most: int) -> None:
    organization.subscription.plan.smtp_users_max = most
    organization.subscription.plan.save()


def test_the_plans_number_of_smtp_users_is_exact(transactional_db: None, alice_org: Organization) -> None:
    """Eight at once with room for three: three are made, five are told that the plan is full."""
    bound(alice_org, 3)

    def make(number: int) -> SmtpUser:
        organization = Organization.objects.get(pk=alice_org.pk)
        return create_smtp_user(organization, name=f"n{number}", excess="hold", actor=SYSTEM)

    results = at_once([lambda number=number: make(number) for number in range(8)])
    assert kinds(results) == {"SmtpUser": 3, PlanFull.__name__: 5}
    assert smtp_users_of(alice_org.pk) == 3
    assert verify_chain(alice_org.pk).ok


def test_enabling_at_once_keeps_to_the_plan(transactional_db: None, alice_org: Organization) -> None:
    """Disabled ones wake together; only as many as there is room for."""
    users = [create_smtp_user(alice_org, name=f"n{number}", excess="hold", actor=SYSTEM) for number in range(5)]
    for user in users:
        disable_smtp_user(user, actor=SYSTEM)
    bound(alice_org, 2)
    results = at_once([lambda user=user: enable_smtp_user(user, actor=SYSTEM) for user in users])
    assert kinds(results) == {"NoneType": 2, PlanFull.__name__: 3}
    assert smtp_users_of(alice_org.pk) == 2


def test_a_name_is_given_once(transactional_db: None, alice_org: Organization) -> None:
    """Six ask for the same name: one has it."""

    def make() -> SmtpUser:
        return create_smtp_user(alice_org, name="app", excess="hold", actor=SYSTEM)

    assert kinds(at_once([make] * 6)) == {"SmtpUser": 1, NameTaken.__name__: 5}


def test_passwords_are_bounded_at_once_too(sender: Sender) -> None:
    """With room for two, four at once make two."""
    for number in range(LIVE_PASSWORDS_MAX - 3):
        create_app_password(sender.smtp_user, name=f"n{number}", actor=SYSTEM)
    results = at_once([lambda: create_app_password(sender.smtp_user, name="x", actor=SYSTEM)] * 4)
    assert kinds(results) == {"NewAppPassword": 2, PlanFull.__name__: 2}
    assert AppPassword.objects.count() == LIVE_PASSWORDS_MAX


def test_ends_at_once_do_not_deadlock(sender: Sender, alice_org: Organization) -> None:
    """Revoking, disabling, enabling and making, all of one SMTP user: every one of them ends, and the chain holds."""
    user, password = sender.smtp_user, sender.app_password
    changes: list[Callable[[], Any]] = [
        lambda: revoke_app_password(AppPassword.objects.get(pk=password.pk), actor=SYSTEM),
        lambda: disable_smtp_user(SmtpUser.objects.get(pk=user.pk), actor=SYSTEM),
        lambda: enable_smtp_user(SmtpUser.objects.get(pk=user.pk), actor=SYSTEM),
        lambda: create_smtp_user(alice_org, name="more", excess="hold", actor=SYSTEM),
    ]
    assert kinds(at_once(changes * 2)) == {"bool": 2, "NoneType": 4, "SmtpUser": 1, NameTaken.__name__: 1}
    assert verify_chain(alice_org.pk).ok
