"""relay.credentials: what may be made, changed and ended, and what each change leaves behind."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization, User
from accounts.organizations import suspend
from audit.changes import SYSTEM, Actor, verify_chain
from audit.models import ChangeEvent
from relay import app_passwords
from relay.credentials import (
    LIVE_PASSWORDS_MAX,
    AllowlistNeeded,
    CredentialRefused,
    Disabled,
    NameInvalid,
    NameTaken,
    PlanFull,
    create_app_password,
    create_smtp_user,
    disable_smtp_user,
    enable_smtp_user,
    revoke_app_password,
    smtp_users_of,
    update_smtp_user,
)
from relay.models import AppPassword, CredentialChange, SmtpUser
from relay.networks import add_network

ALICE = Actor("alice@alice.example", 7)


def new_user(organization: Organization, name: str = "app", excess: str = "refuse", **fields: Any) -> SmtpUser:
    return create_smtp_user(organization, name=name, excess=excess, actor=ALICE, **fields)


def bound(organization: Organization, most: int) -> None:
    organization.subscription.plan.smtp_users_max = most
    organization.subscription.plan.save()


@pytest.mark.parametrize(
    ("name", "username"),
    [
        ("app", "app.alice-works"),
        (" App ", "app.alice-works"),
        ("a", "a.alice-works"),
        ("0-9", "0-9.alice-works"),
        ("a" * 20, "a" * 20 + ".alice-works"),
    ],
)
def test_names_are_made_lower_case_and_whole(alice_org: Organization, name: str, username: str) -> None:
    """`<name>.<slug>`, 32 characters at most, a salt of its own."""
    made = new_user(alice_org, name)
    assert made.username == username
    assert len(bytes(made.scram_salt)) == 16
    assert made.scram_iterations >= 4096


@pytest.mark.parametrize("name", ["", " ", "-a", "a-", "a.b", "a_b", "a b", "ä", "a@b", "a\0b", "ａ", "a" * 21, "²"])
def test_other_names_are_refused(alice_org: Organization, name: str) -> None:
    """Nothing is stored, and nothing that PostgreSQL would choke on gets there."""
    with pytest.raises(NameInvalid):
        new_user(alice_org, name)
    assert not SmtpUser.objects.exists()


def test_the_excess_has_no_default(alice_org: Organization) -> None:
    """Whoever makes an SMTP user says what sends there."""
    for excess in ("", "drop", "REFUSE"):
        with pytest.raises(CredentialRefused):
            new_user(alice_org, excess=excess)


@pytest.mark.parametrize(
    "fields",
    [
        {"description": "x" * 121},
        {"recipients_per_hour": 0},
        {"recipients_per_hour": -1},
        {"recipients_per_hour_per_ip": 2**31},
    ],
)
def test_what_a_column_would_not_take_is_refused_in_words(alice_org: Organization, fields: dict[str, Any]) -> None:
    """On making and on changing; it is not told as a name that is taken."""
    with pytest.raises(CredentialRefused) as refused:
        new_user(alice_org, **fields)
    assert not isinstance(refused.value, NameTaken)
    made = new_user(alice_org)
    with pytest.raises(CredentialRefused):
        update_smtp_user(made, actor=ALICE, **fields)


def test_a_username_is_never_used_again(alice_org: Organization) -> None:
    """Disabled or not, in whatever case: a name has been somebody."""
    made = new_user(alice_org)
    disable_smtp_user(made, actor=ALICE)
    for name in ("app", "APP"):
        with pytest.raises(NameTaken, match=r"There is, or was, an SMTP user app\.alice-works\."):
            new_user(alice_org, name)


def test_the_same_name_in_another_organization_is_another_user(alice_org: Organization, bob_org: Organization) -> None:
    """The slug keeps them apart."""
    assert [new_user(each).username for each in (alice_org, bob_org)] == ["app.alice-works", "app.bob"]


def test_the_plan_bounds_smtp_users_in_use(alice_org: Organization, bob_org: Organization) -> None:
    """Disabled ones leave room, and need it again to be enabled; another organization's do not count."""
    bound(alice_org, 2)
    first, _second = new_user(alice_org, "a"), new_user(alice_org, "b")
    with pytest.raises(PlanFull, match="room for 2"):
        new_user(alice_org, "c")
    disable_smtp_user(first, actor=ALICE)
    new_user(alice_org, "c")
    with pytest.raises(PlanFull):
        enable_smtp_user(first, actor=ALICE)
    first.refresh_from_db()
    assert first.disabled_at is not None
    assert smtp_users_of(alice_org.pk) == 2
    new_user(bob_org, "a")


def test_a_refused_name_costs_nothing(alice_org: Organization) -> None:
    """After a taken name the same transaction goes on, and no change is recorded."""
    new_user(alice_org)
    before = ChangeEvent.objects.count(), CredentialChange.objects.count()
    with pytest.raises(NameTaken):
        new_user(alice_org)
    assert (ChangeEvent.objects.count(), CredentialChange.objects.count()) == before


def test_disabling_twice_is_one_change(alice_org: Organization) -> None:
    """The moment of the first stays; sessions are told to end once."""
    made = new_user(alice_org)
    disable_smtp_user(made, actor=ALICE)
    first = SmtpUser.objects.get().disabled_at
    disable_smtp_user(made, actor=ALICE)
    assert SmtpUser.objects.get().disabled_at == first
    assert CredentialChange.objects.filter(ends_sessions=True).count() == 1
    enable_smtp_user(made, actor=ALICE)
    enable_smtp_user(made, actor=ALICE)
    actions = ChangeEvent.objects.order_by("sequence").values_list("action", flat=True)
    assert list(actions) == ["smtp_user.created", "smtp_user.disabled", "smtp_user.enabled"]


def test_only_what_changed_is_recorded(alice_org: Organization) -> None:
    """Old and new value; no change, no row; an unknown field is a mistake of the caller."""
    made = new_user(alice_org, description="one")
    update_smtp_user(made, actor=ALICE, description="two", excess="refuse", recipients_per_hour=None)
    event = ChangeEvent.objects.get(action="smtp_user.changed")
    assert event.values == {"description": ["one", "two"]}
    update_smtp_user(made, actor=ALICE, description="two")
    assert ChangeEvent.objects.filter(action="smtp_user.changed").count() == 1
    with pytest.raises(TypeError, match="username"):
        update_smtp_user(made, actor=ALICE, username="other")


def test_an_app_password_is_shown_once(alice_org: Organization, alice: User) -> None:
    """The secret is in no column; what is stored verifies it."""
    made = create_app_password(new_user(alice_org), name=" web-1 ", actor=ALICE, created_by=alice)
    assert app_passwords.checksum_holds(made.secret)
    row = AppPassword.objects.get()
    assert (row.name, row.kind, row.created_by, row.expires_at) == ("web-1", "app", alice, None)
    assert bytes(row.digest) == app_passwords.digests(made.secret)[0]
    keys = app_passwords.scram_keys(made.secret, salt=bytes(row.smtp_user.scram_salt), iterations=4096)
    assert (bytes(row.scram_stored_key), bytes(row.scram_server_key)) == keys
    assert made.secret not in str(ChangeEvent.objects.values_list())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": " "}, "Give it a name"),
        ({"name": "x" * 65}, "64 characters"),
        ({"kind": "panel"}, "app, device or canary"),
        ({"expires_at": timezone.now() - timedelta(seconds=1)}, "in the past"),
    ],
)
def test_an_app_password_that_cannot_be(alice_org: Organization, fields: dict[str, Any], words: str) -> None:
    """Each with its reason, and nothing stored."""
    with pytest.raises(CredentialRefused, match=words):
        create_app_password(new_user(alice_org), actor=ALICE, **{"name": "n", **fields})
    assert not AppPassword.objects.exists()


def test_a_disabled_smtp_user_gets_no_password(alice_org: Organization) -> None:
    """It has to be enabled first."""
    made = new_user(alice_org)
    disable_smtp_user(made, actor=ALICE)
    with pytest.raises(Disabled):
        create_app_password(made, name="n", actor=ALICE)


def test_a_device_password_needs_an_allowlist(alice_org: Organization, bob_org: Organization) -> None:
    """Its own SMTP user's or the organization's; another one's, and another SMTP user's, do not count."""
    made, other = new_user(alice_org), new_user(alice_org, "other")
    add_network(bob_org, cidr="192.0.2.0/24", actor=ALICE)
    add_network(alice_org, cidr="192.0.2.0/24", actor=ALICE, smtp_user=other)
    with pytest.raises(AllowlistNeeded):
        create_app_password(made, name="printer", actor=ALICE, kind="device")
    add_network(alice_org, cidr="192.0.2.0/24", actor=ALICE, smtp_user=made)
    device = create_app_password(made, name="printer", actor=ALICE, kind="device")
    assert len(device.secret) == 19
    assert app_passwords.match(device.secret.upper(), [bytes(device.app_password.digest)])


def test_live_passwords_are_bounded(alice_org: Organization) -> None:
    """Every one is tried at each sign-in; those revoked or expired do not count."""
    made = new_user(alice_org)
    first = create_app_password(made, name="first", actor=ALICE).app_password
    for number in range(LIVE_PASSWORDS_MAX - 1):
        create_app_password(made, name=f"n{number}", actor=ALICE)
    with pytest.raises(PlanFull, match="50 app passwords"):
        create_app_password(made, name="more", actor=ALICE)
    revoke_app_password(first, actor=ALICE)
    create_app_password(made, name="more", actor=ALICE)
    AppPassword.objects.filter(name="n0").update(expires_at=timezone.now())
    create_app_password(made, name="and more", actor=ALICE)


def test_revoking_twice_changes_nothing(alice_org: Organization) -> None:
    """The moment of the first stays, in the row and in the object given."""
    made = create_app_password(new_user(alice_org), name="n", actor=ALICE).app_password
    revoke_app_password(made, actor=ALICE)
    first = made.revoked_at
    revoke_app_password(AppPassword.objects.get(), actor=ALICE)
    assert AppPassword.objects.get().revoked_at == first
    assert ChangeEvent.objects.filter(action="app_password.revoked").count() == 1


CHANGES: list[tuple[str, Callable[[SmtpUser, AppPassword], Any], bool]] = [
    ("smtp_user.changed", lambda user, _password: update_smtp_user(user, actor=ALICE, description="x"), False),
    ("smtp_user.disabled", lambda user, _password: disable_smtp_user(user, actor=ALICE), True),
    ("app_password.created", lambda user, _password: create_app_password(user, name="m", actor=ALICE), False),
    ("app_password.revoked", lambda _user, password: revoke_app_password(password, actor=ALICE), True),
]


@pytest.mark.parametrize(("action", "change", "ends"), CHANGES, ids=[action for action, _change, _ends in CHANGES])
def test_every_change_is_recorded_and_announced(
    alice_org: Organization, action: str, change: Callable[[SmtpUser, AppPassword], Any], ends: bool
) -> None:
    """Actor and subject in the chain, which holds; one row for smtpd, which says whether sessions end."""
    user = new_user(alice_org)
    password = create_app_password(user, name="n", actor=ALICE).app_password
    CredentialChange.objects.all().delete()
    change(user, password)
    event = ChangeEvent.objects.order_by("sequence").last()
    assert event is not None
    assert (event.action, event.actor, event.actor_id) == (action, ALICE.name, ALICE.id)
    assert event.subject.startswith("app.alice-works")
    assert verify_chain(alice_org.pk).ok
    row = CredentialChange.objects.get()
    assert (row.organization_id, row.smtp_user_id, row.ends_sessions) == (alice_org.pk, user.pk, ends)
    assert (row.app_password_id is not None) == action.startswith("app_password")


def test_suspending_an_organization_ends_all_its_sessions(alice_org: Organization) -> None:
    """The hook that accounts calls: one row without an SMTP user."""
    suspend(alice_org, reason="test", actor=SYSTEM)
    row = CredentialChange.objects.get()
    assert (row.organization_id, row.smtp_user_id, row.ends_sessions) == (alice_org.pk, None, True)
