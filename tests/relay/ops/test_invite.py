"""Inviting a new customer."""

from django.test import Client
from django.urls import reverse

from accounts.models import Invitation, User
from audit.models import ChangeEvent


def test_invitation_founds_an_organization(carol: User, operator: Client) -> None:
    """An operator's invitation names no organization, is recorded, and is listed as open."""
    response = operator.post(reverse("relay:ops_invite"), {"email": "dora@dora.example"}, follow=True)
    invitation = Invitation.objects.get()
    assert (invitation.email, invitation.organization, invitation.invited_by) == ("dora@dora.example", None, carol)
    change = ChangeEvent.objects.get(action="invitation.sent")
    assert (change.actor, change.organization_id) == (carol.email, 0)
    assert b"dora@dora.example" in response.content


def test_nonsense_is_refused(operator: Client) -> None:
    """What is no address gets an error, and nobody is invited."""
    response = operator.post(reverse("relay:ops_invite"), {"email": "dora"})
    assert b"valid email address" in response.content
    assert not Invitation.objects.exists()
