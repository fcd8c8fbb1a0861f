"""The team page and the changes of its members."""

import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts import members
from accounts.models import Membership, Organization, Role, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from tests.conftest import make_user

URL = "/account/team/"


def join(organization: Organization, email: str, role: str) -> Membership:
    return Membership.objects.create(user=make_user(email), organization=organization, role=role)


def of(user: User) -> Membership:
    return Membership.objects.get(user=user)


def test_shows_members_and_roles(alice: User, vera: User, client_for: Any) -> None:
    """To everybody who may see the team; only who manages it gets the controls."""
    owner, viewer = client_for(alice).get(URL).content.decode(), client_for(vera).get(URL).content.decode()
    assert "alice@alice.example" in owner
    assert "vera@alice.example" in viewer
    assert "/role/" in owner
    assert "/role/" not in viewer
    assert "Invite somebody" not in viewer


def test_another_organization_sees_nothing(alice: User, vera: User, bob: User, bob_org: Any, client_for: Any) -> None:
    """Bob's page has no alice, and her members' addresses are 404 to him."""
    client = client_for(bob)
    assert "alice.example" not in client.get(URL).content.decode()
    for name in ("change_role", "remove_member"):
        assert client.post(reverse(f"accounts:{name}", args=[of(vera).pk]), {"role": "owner"}).status_code == 404
    assert of(vera).role == Role.VIEWER


def test_changes_a_role_and_records_it(alice: User, vera: User, client_for: Any) -> None:
    """From, to, whom, by whom."""
    client_for(alice).post(reverse("accounts:change_role", args=[of(vera).pk]), {"role": "developer"})
    assert of(vera).role == Role.DEVELOPER
    recorded = ChangeEvent.objects.get(action="member.role_changed")
    assert recorded.values == {"from": "viewer", "to": "developer"}
    assert (recorded.subject, recorded.actor) == (vera.email, alice.email)


@pytest.mark.parametrize("role", ["viewer", "developer", "billing"])
def test_only_managers_change_the_team(
    alice: User, alice_org: Organization, vera: User, client_for: Any, role: str
) -> None:
    """Others get 403, for themselves too."""
    mine = join(alice_org, "mo@alice.example", role)
    client = client_for(mine.user)
    assert client.post(reverse("accounts:change_role", args=[mine.pk]), {"role": "owner"}).status_code == 403
    assert client.post(reverse("accounts:invite_member"), {"email": "x@x.example", "role": "viewer"}).status_code == 403
    client.post(reverse("accounts:remove_member", args=[of(vera).pk]))
    assert Membership.objects.filter(user=vera).exists()


def test_an_admin_makes_no_owner_and_touches_none(alice: User, alice_org: Organization, client_for: Any) -> None:
    """Nor raises itself."""
    admin = join(alice_org, "ada@alice.example", Role.ADMIN)
    client = client_for(admin.user)
    client.post(reverse("accounts:change_role", args=[admin.pk]), {"role": "owner"})
    client.post(reverse("accounts:change_role", args=[of(alice).pk]), {"role": "viewer"})
    client.post(reverse("accounts:remove_member", args=[of(alice).pk]))
    admin.refresh_from_db()
    assert (admin.role, of(alice).role) == (Role.ADMIN, Role.OWNER)


def test_the_last_owner_stays_one(alice: User, alice_org: Any, client_for: Any) -> None:
    """Neither demoted nor gone, with a reason on the page."""
    client = client_for(alice)
    for name, data in (("change_role", {"role": "admin"}), ("remove_member", {})):
        page = client.post(reverse(f"accounts:{name}", args=[of(alice).pk]), data, follow=True).content.decode()
        assert "at least one owner" in page
    assert of(alice).role == Role.OWNER


def test_a_removed_member_is_out_at_the_next_page(alice: User, vera: User, client_for: Any) -> None:
    """The open session shows nothing of the organization any more."""
    out = client_for(vera)
    assert out.get(URL).status_code == 200
    client_for(alice).post(reverse("accounts:remove_member", args=[of(vera).pk]))
    page = out.get(URL)
    assert page.status_code == 403
    assert "You belong to no organization" in page.content.decode()


def test_anybody_may_leave(vera: User, client_for: Any) -> None:
    """A viewer leaves without asking."""
    client_for(vera).post(reverse("accounts:remove_member", args=[of(vera).pk]))
    assert not Membership.objects.filter(user=vera).exists()
    assert ChangeEvent.objects.filter(action="member.left", subject=vera.email).exists()


def test_an_unknown_role_is_refused(alice: User, vera: User, client_for: Any) -> None:
    """A form that was tampered with changes nothing."""
    page = client_for(alice).post(reverse("accounts:change_role", args=[of(vera).pk]), {"role": "root"}, follow=True)
    assert "no such role" in page.content.decode()
    assert of(vera).role == Role.VIEWER


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["demote", "remove", "leave"])
def test_of_two_last_owners_at_once_one_stays(alice: User, alice_org: Organization, how: str) -> None:
    """Each acts on the other, or leaves, in the same moment: the organization never loses its last owner."""
    first, second = of(alice), join(alice_org, "olga@alice.example", Role.OWNER)
    start, outcomes = threading.Barrier(2), []

    def act(mine: Membership, other: Membership) -> None:
        try:
            start.wait(10)
            if how == "demote":
                members.change_role(other, role=Role.VIEWER, by=mine, actor=SYSTEM)
            else:
                members.remove_member(mine if how == "leave" else other, by=mine, actor=SYSTEM)
            outcomes.append("done")
        except members.MemberRefused:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=act, args=pair) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["done", "refused"]
    assert Membership.objects.filter(organization=alice_org, role=Role.OWNER).count() == 1


@pytest.mark.django_db
def test_nobody_is_sent_to_sign_in() -> None:
    """Without a session the team is not there."""
    assert Client().get(URL).headers["Location"] == "/account/sign-in/?next=/account/team/"
