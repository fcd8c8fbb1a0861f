"""API keys: the page and the functions behind it."""

import re
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.api_keys import create_api_key, find_api_key, revoke_api_key
from accounts.models import ApiKey, Membership, Organization, Role, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent

URL = "/account/api-keys/"
FORM = {"name": "export", "scopes": ["messages:read", "smtp_users:read"], "ends": ""}


def _form(client: Client) -> dict[str, Any]:
    """What a browser sends: the fields, and the token of the page."""
    return FORM | {"token": client.get(URL).context["token"]}


def test_a_key_is_shown_once(alice: User, alice_org: Organization, client_for: Any) -> None:
    """The answer to the form has it, the list never again, the database never."""
    client = client_for(alice)
    made = client.post(URL, _form(client))
    secret = re.findall(r"gpk_[0-9A-Za-z]{36}", made.content.decode())[0]
    assert "no-store" in made.headers["Cache-Control"]
    assert secret not in client.get(URL).content.decode()
    api_key = ApiKey.objects.get()
    assert secret.encode() not in bytes(api_key.digest)
    assert api_key.prefix == secret[:12]
    recorded = ChangeEvent.objects.get(organization_id=alice_org.pk, action="api_key.created")
    assert secret not in f"{recorded.subject}{recorded.values}"
    found = find_api_key(secret)
    assert found is not None
    assert (found.organization, found.scopes) == (alice_org, ["messages:read", "smtp_users:read"])


def test_a_form_sent_twice_makes_one_key(alice: User, alice_org: Organization, client_for: Any) -> None:
    """A double click, or a reload of the answer, makes and shows nothing; nor does a form without its token."""
    client = client_for(alice)
    sent = _form(client)
    client.post(URL, sent)
    for again in (sent, FORM):
        answer = client.post(URL, again, follow=True).content.decode()
        assert "no further key was made" in answer
        assert not re.search(r"gpk_[0-9A-Za-z]{36}", answer)
    assert ApiKey.objects.count() == 1


def test_making_and_revoking_need_recent_identity(alice: User, alice_org: Organization, client_for: Any) -> None:
    """An unattended browser makes no key and breaks none."""
    kept = create_api_key(alice_org, name="x", scopes=["messages:read"], actor=SYSTEM).api_key
    client = client_for(alice, recent=False)
    assert client.get(URL).status_code == 200
    client.post(URL, FORM)
    client.post(reverse("accounts:revoke_api_key", args=[kept.pk]))
    assert ApiKey.objects.get().revoked_at is None


def test_a_key_may_do_no_more_than_its_maker(alice: User, vera: User, alice_org: Organization, client_for: Any) -> None:
    """Policies are the owner's: others are not offered that scope, and what they send with it makes no key."""
    for role in (Role.ADMIN, Role.DEVELOPER):
        Membership.objects.filter(user=vera).update(role=role)
        client = client_for(vera)
        assert "policies:write" not in client.get(URL).content.decode()
        answer = client.post(URL, _form(client) | {"scopes": ["smtp_users:write", "policies:write"]})
        assert answer.status_code == 400 and not ApiKey.objects.exists()
    owner = client_for(alice)
    assert "policies:write" in owner.get(URL).content.decode()
    owner.post(URL, _form(owner) | {"scopes": ["policies:write"]})
    assert ApiKey.objects.get().scopes == ["policies:write"]


def test_a_viewer_sees_none(vera: User, client_for: Any) -> None:
    """Keys are for who changes things."""
    assert client_for(vera).get(URL).status_code == 403
    assert client_for(vera).post(URL, FORM).status_code == 403


def test_anothers_key_is_404(alice_org: Organization, bob: User, bob_org: Any, client_for: Any) -> None:
    """Bob neither sees nor revokes alice's."""
    kept = create_api_key(alice_org, name="alices-export", scopes=["messages:read"], actor=SYSTEM).api_key
    client = client_for(bob)
    assert "alices-export" not in client.get(URL).content.decode()
    assert client.post(reverse("accounts:revoke_api_key", args=[kept.pk])).status_code == 404
    kept.refresh_from_db()
    assert kept.revoked_at is None


def test_a_revoked_key_is_not_found(alice: User, alice_org: Organization, client_for: Any) -> None:
    """From the next request on; revoking twice keeps the first time."""
    made = create_api_key(alice_org, name="x", scopes=["messages:read"], actor=SYSTEM)
    client_for(alice).post(reverse("accounts:revoke_api_key", args=[made.api_key.pk]))
    assert find_api_key(made.secret) is None
    made.api_key.refresh_from_db()
    first = made.api_key.revoked_at
    revoke_api_key(made.api_key, actor=SYSTEM)
    assert made.api_key.revoked_at == first
    assert ChangeEvent.objects.filter(action="api_key.revoked").count() == 1


def test_an_expired_key_is_not_found(alice_org: Organization) -> None:
    """To the second."""
    end = timezone.now() + timedelta(days=30)
    made = create_api_key(alice_org, name="x", scopes=["messages:read"], actor=SYSTEM, expires_at=end)
    assert find_api_key(made.secret, now=end - timedelta(seconds=1)) is not None
    assert find_api_key(made.secret, now=end) is None


def test_use_is_noted_once_a_minute(alice_org: Organization) -> None:
    """A busy key does not write a row for each request."""
    made = create_api_key(alice_org, name="x", scopes=["messages:read"], actor=SYSTEM)
    with time_machine.travel(timezone.now(), tick=False):
        began = timezone.now()
        find_api_key(made.secret, now=began)
        find_api_key(made.secret, now=began + timedelta(seconds=59))
        assert ApiKey.objects.get().last_used_at == began
        find_api_key(made.secret, now=began + timedelta(seconds=61))
        assert ApiKey.objects.get().last_used_at == began + timedelta(seconds=61)


def test_keys_survive_a_new_pepper(alice_org: Organization, settings: Any) -> None:
    """Rotation lists the old pepper behind the new one."""
    made = create_api_key(alice_org, name="x", scopes=["messages:read"], actor=SYSTEM)
    settings.GATEPOST_PEPPERS = [b"new", *settings.GATEPOST_PEPPERS]
    assert find_api_key(made.secret) is not None
    settings.GATEPOST_PEPPERS = [b"new"]
    assert find_api_key(made.secret) is None


@pytest.mark.django_db
@pytest.mark.parametrize("secret", ["", "gpk_", "gpk_" + "a" * 36, "x" * 40, "gpk_" + "é" * 36, "gpk_" + "\ud800" * 36])
def test_what_is_no_key_is_not_found(secret: str) -> None:
    """Whatever a header may hold."""
    assert find_api_key(secret) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " "},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"expires_at": timezone.now() - timedelta(days=1)},
    ],
)
def test_a_key_needs_name_scope_and_future(alice_org: Organization, wrong: dict[str, Any]) -> None:
    """Each is refused in words."""
    with pytest.raises(ValidationError):
        create_api_key(alice_org, **{"name": "x", "scopes": ["messages:read"], "actor": SYSTEM, **wrong})


def test_the_form_refuses_an_unknown_scope(alice: User, alice_org: Any, client_for: Any) -> None:
    """A tampered form makes no key."""
    client = client_for(alice)
    assert client.post(URL, _form(client) | {"scopes": ["everything"]}).status_code == 400
    assert not ApiKey.objects.exists()
