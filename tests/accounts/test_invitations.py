"""Invitations: sent, accepted, withdrawn, expired."""

import threading
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import invitations
from accounts.models import Invitation, Membership, Organization, Role, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from tests.accounts.pages import last_link
from tests.conftest import PASSWORD, make_user

INVITE = "/account/team/invite/"


@pytest.fixture
def to_erin(alice: User, alice_org: Organization, client_for: Any) -> Client:
    """Alice has invited erin, who has no account, as developer."""
    client = client_for(alice)
    client.post(INVITE, {"email": "Erin@Erin.example", "role": "developer"})
    return client


def test_the_token_is_in_the_mail_and_not_in_the_database(to_erin: Client) -> None:
    """The row holds a digest; the mail says who invites, and whereto."""
    token = last_link().rstrip("/").rsplit("/", 1)[1]
    invitation = Invitation.objects.get(email="erin@erin.example")
    assert token.encode() not in bytes(invitation.token_digest)
    assert "alice@alice.example invites you to join Alice Works" in str(mail.outbox[-1].body)
    assert ChangeEvent.objects.filter(action="invitation.sent", subject="erin@erin.example").exists()


def test_who_has_no_account_gets_one(to_erin: Client, alice_org: Organization) -> None:
    """The link proves the address: no second confirmation, signed in, in the organization with the role."""
    client = Client()
    assert client.get(last_link()).status_code == 200
    assert client.post(last_link(), {"name": "Erin", "password": PASSWORD}).headers["Location"] == "/"
    erin = User.objects.get(email="erin@erin.example")
    assert erin.email_confirmed_at is not None
    assert Membership.objects.get(user=erin, organization=alice_org).role == Role.DEVELOPER
    assert "Alice Works" in client.get(reverse("accounts:team")).content.decode()


def test_the_organizations_rules_hold_for_the_first_password(to_erin: Client, alice_org: Organization) -> None:
    """Who joins meets the character classes that members meet."""
    Organization.objects.filter(pk=alice_org.pk).update(password_classes=4)
    page = Client().post(last_link(), {"password": "gravel lantern otter"}).content.decode()
    assert "4 of these four" in page
    assert not User.objects.filter(email="erin@erin.example").exists()


def test_who_has_an_account_signs_in_first(
    alice: User, alice_org: Organization, bob: User, bob_org: Any, client_for: Any
) -> None:
    """The link alone lets nobody into bob's account; signed in, one click joins and shows the new organization."""
    client_for(alice).post(INVITE, {"email": bob.email, "role": "viewer"})
    link = last_link()
    assert Client().get(link).headers["Location"].startswith(reverse("accounts:sign_in"))
    client = client_for(bob)
    client.get(link)
    assert not Membership.objects.filter(user=bob, organization=alice_org).exists()
    client.post(link)
    assert Membership.objects.get(user=bob, organization=alice_org).role == Role.VIEWER
    assert "Alice Works" in client.get(reverse("accounts:team")).content.decode()


def test_it_is_for_its_address_only(to_erin: Client, bob: User, bob_org: Any, client_for: Any) -> None:
    """Bob, with erin's link, joins nothing."""
    client = client_for(bob)
    assert client.get(last_link()).status_code == 403
    assert client.post(last_link(), {"password": PASSWORD}).status_code == 403
    assert Membership.objects.filter(user=bob).count() == 1


def test_it_works_once(to_erin: Client) -> None:
    """The second use gets the page that says whom to ask."""
    Client().post(last_link(), {"password": PASSWORD})
    again = Client().get(last_link())
    assert again.status_code == 410
    assert "inviting your address again" in again.content.decode()


def test_it_ends_after_seven_days(to_erin: Client) -> None:
    """And lets nobody in then."""
    with time_machine.travel(timezone.now() + timedelta(days=7, minutes=1)):
        assert Client().post(last_link(), {"password": PASSWORD}).status_code == 410
    assert not User.objects.filter(email="erin@erin.example").exists()


def test_inviting_again_replaces_the_link(to_erin: Client) -> None:
    """One open invitation an address; the older mail leads nowhere."""
    older = last_link()
    to_erin.post(INVITE, {"email": "erin@erin.example", "role": "viewer"})
    assert Client().get(older).status_code == 410
    assert Client().get(last_link()).status_code == 200
    assert Invitation.objects.count() == 1


def test_withdrawing_ends_the_link(to_erin: Client, bob: User, bob_org: Any, client_for: Any) -> None:
    """By who manages the team, not by bob, to whom it is 404."""
    url = reverse("accounts:withdraw_invitation", args=[Invitation.objects.get().pk])
    assert client_for(bob).post(url).status_code == 404
    to_erin.post(url)
    assert Client().get(last_link()).status_code == 410
    assert ChangeEvent.objects.filter(action="invitation.withdrawn").exists()


def test_a_member_is_not_invited(to_erin: Client, vera: User) -> None:
    """The form says so."""
    page = to_erin.post(INVITE, {"email": vera.email, "role": "viewer"})
    assert page.status_code == 400
    assert "member already" in page.content.decode()


def test_an_admin_cannot_invite_an_owner(alice_org: Organization, client_for: Any) -> None:
    """Roles to give are those of the table."""
    admin = make_user("ada@alice.example")
    Membership.objects.create(user=admin, organization=alice_org, role=Role.ADMIN)
    assert client_for(admin).post(INVITE, {"email": "x@x.example", "role": "owner"}).status_code == 400
    assert not Invitation.objects.exists()


def test_fifty_may_be_open(alice: User, alice_org: Organization, settings: Any) -> None:
    """An organization cannot use us to mail the world."""
    for number in range(invitations.OPEN_AT_MOST):
        invitations.invite(email=f"p{number}@x.example", organization=alice_org, actor=SYSTEM)
    with pytest.raises(ValidationError, match="Too many"):
        invitations.invite(email="one-more@x.example", organization=alice_org, actor=SYSTEM)
    assert len(mail.outbox) == invitations.OPEN_AT_MOST


def test_withdrawing_makes_no_room_for_more_mails(
    alice: User, alice_org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inviting and withdrawing in turn, an organization cannot write to strangers without end; the next day it can."""
    monkeypatch.setattr(invitations, "SENT_A_DAY", 3)
    for number in range(3):
        made = invitations.invite(email=f"p{number}@x.example", organization=alice_org, actor=SYSTEM)
        invitations.withdraw(made.invitation, actor=SYSTEM)
    with pytest.raises(ValidationError, match="Too many invitations today"):
        invitations.invite(email="one-more@x.example", organization=alice_org, actor=SYSTEM)
    tomorrow = timezone.now() + timedelta(days=1, minutes=1)
    assert invitations.invite(email="one-more@x.example", organization=alice_org, actor=SYSTEM, now=tomorrow)


def test_an_operator_invites_a_new_customer(carol: User, settings: Any) -> None:
    """Where sign-up is by invitation, the link founds an organization: pending, on Trial, the invited its owner."""
    settings.GATEPOST_SIGNUP = "invitation"
    invitations.invite(email="finn@finn.example", actor=SYSTEM, invited_by=carol)
    client = Client()
    assert client.post(last_link(), {"password": PASSWORD}).status_code == 200, "the name is asked for"
    client.post(last_link(), {"password": PASSWORD, "organization_name": "Finn Fisheries"})
    organization = Organization.objects.get(slug="finn-fisheries")
    assert (organization.state, organization.subscription.plan.code) == ("pending", "trial")
    assert organization.memberships.get().user.email == "finn@finn.example"


def test_an_existing_person_may_found_another(bob: User, bob_org: Any, carol: User, client_for: Any) -> None:
    """The same link, signed in."""
    invitations.invite(email=bob.email, actor=SYSTEM, invited_by=carol)
    client = client_for(bob)
    assert client.post(last_link(), {"organization_name": ""}).status_code == 200
    client.post(last_link(), {"organization_name": "Bob Two"})
    assert Membership.objects.filter(user=bob, role=Role.OWNER).count() == 2


@pytest.mark.django_db
def test_a_closed_installation_invites_no_customers(settings: Any) -> None:
    """GATEPOST_SIGNUP=closed holds for operators too."""
    settings.GATEPOST_SIGNUP = "closed"
    with pytest.raises(ValidationError, match="closed"):
        invitations.invite(email="finn@finn.example", actor=SYSTEM)


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["x", "%00", "a" * 500])
def test_a_made_up_link_gets_the_page(token: str) -> None:
    """The same as for a used one."""
    assert Client().get(f"/account/invitation/{token}/").status_code == 410


@pytest.mark.django_db(transaction=True)
def test_of_two_acceptances_at_once_one_counts(alice: User, alice_org: Organization) -> None:
    """The same link opened in two windows makes one account and one membership."""
    made = invitations.invite(email="erin@erin.example", organization=alice_org, actor=SYSTEM)
    start, outcomes = threading.Barrier(2), []

    def attempt() -> None:
        try:
            start.wait(10)
            invitations.accept_as_new(Invitation.objects.get(pk=made.invitation.pk), password=PASSWORD)
            outcomes.append("in")
        except invitations.InvitationClosed:
            outcomes.append("closed")
        finally:
            connection.close()

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["closed", "in"]
    assert Membership.objects.filter(organization=alice_org).count() == 2
