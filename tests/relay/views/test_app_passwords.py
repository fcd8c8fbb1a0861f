"""relay.views.app_passwords: made once, shown once, revoked after a question."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import User
from audit.changes import SYSTEM
from relay.credentials import create_app_password
from relay.models import AppPassword, SmtpUser

SECRET = re.compile(r"gp_[0-9A-Za-z]{28}")


def _token(client: Client, url: str) -> str:
    return client.get(url).context["token"]


def test_secret_is_shown_once_and_never_stored_by_the_browser(alice_client: Client, shop: SmtpUser) -> None:
    """The answer holds the secret under no-store; no later page does."""
    url = f"/smtp-users/{shop.pk}/app-passwords/new/"
    response = alice_client.post(
        url, {"name": "web-1", "kind": "app", "expires_in": "", "token": _token(alice_client, url)}
    )
    assert SECRET.search(response.content.decode())
    assert response["Cache-Control"] == "no-store"
    assert not SECRET.search(alice_client.get(f"/smtp-users/{shop.pk}/").content.decode())
    assert not SECRET.search(alice_client.get(url).content.decode())


def test_second_submit_makes_no_second_password(alice_client: Client, shop: SmtpUser) -> None:
    """A double click, or a reload of the answer, makes nothing and shows nothing."""
    url = f"/smtp-users/{shop.pk}/app-passwords/new/"
    sent = {"name": "web-1", "kind": "app", "expires_in": "", "token": _token(alice_client, url)}
    alice_client.post(url, sent)
    again = alice_client.post(url, sent, follow=True)
    assert AppPassword.objects.count() == 1
    assert not SECRET.search(again.content.decode())
    assert "nothing more was made" in again.content.decode()


@pytest.mark.django_db(transaction=True)
def test_double_click_makes_one_password(alice_client: Client, shop: SmtpUser) -> None:
    """Two requests with the same token at the same time: one makes a password, the other is led away."""
    url = f"/smtp-users/{shop.pk}/app-passwords/new/"
    sent = {"name": "web-1", "kind": "app", "expires_in": "", "token": _token(alice_client, url)}
    barrier = Barrier(2)

    def click(_number: int) -> int:
        try:
            client = Client()
            client.cookies = alice_client.cookies
            barrier.wait(timeout=10)
            return client.post(url, sent).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(click, range(2))) == [200, 302]
    assert AppPassword.objects.count() == 1


def test_form_without_its_token_makes_nothing(alice_client: Client, shop: SmtpUser) -> None:
    """Nor does a token of one's own invention."""
    sent = {"name": "web-1", "kind": "app", "expires_in": "", "token": "made-up"}
    alice_client.post(f"/smtp-users/{shop.pk}/app-passwords/new/", sent)
    assert not AppPassword.objects.exists()


def test_two_open_forms_work_each_once(alice_client: Client, shop: SmtpUser) -> None:
    """Two tabs are no double submit."""
    url = f"/smtp-users/{shop.pk}/app-passwords/new/"
    for name, token in zip(("one", "two"), [_token(alice_client, url), _token(alice_client, url)], strict=True):
        alice_client.post(url, {"name": name, "kind": "app", "expires_in": "", "token": token})
    assert AppPassword.objects.count() == 2


def test_mistake_keeps_the_form_usable(alice_client: Client, shop: SmtpUser) -> None:
    """A refused device password (no network allowed yet) says why, and the corrected form is taken."""
    url = f"/smtp-users/{shop.pk}/app-passwords/new/"
    sent = {"name": "printer", "kind": "device", "expires_in": "", "token": _token(alice_client, url)}
    response = alice_client.post(url, sent)
    assert "needs an allowlist" in response.content.decode()
    alice_client.post(url, {**sent, "kind": "app", "token": response.context["token"]})
    assert AppPassword.objects.get().kind == "app"


def test_expiry_is_counted_from_now(alice_client: Client, alice: User, shop: SmtpUser) -> None:
    """In 90 days means in 90 days; who made it is kept."""
    url = f"/smtp-users/{shop.pk}/app-passwords/new/"
    alice_client.post(url, {"name": "web-1", "kind": "app", "expires_in": "90", "token": _token(alice_client, url)})
    made = AppPassword.objects.get()
    assert made.expires_at is not None
    assert abs(made.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=5)
    assert made.created_by == alice


def test_making_one_needs_recent_identification(alice: User, shop: SmtpUser, client_for: Callable[..., Client]) -> None:
    """A session that was left open is asked who sits there, and led back."""
    response = client_for(alice, recent=False).get(f"/smtp-users/{shop.pk}/app-passwords/new/")
    assert response.status_code == 302
    assert response.url.startswith("/account/confirm-identity/?next=")


def test_revoke_asks_first(alice_client: Client, shop: SmtpUser) -> None:
    """Opening the address revokes nothing; sending the form does."""
    made = create_app_password(shop, name="web-1", actor=SYSTEM).app_password
    url = f"/smtp-users/{shop.pk}/app-passwords/{made.pk}/revoke/"
    assert "Revoke “web-1”" in alice_client.get(url).content.decode()
    made.refresh_from_db()
    assert made.revoked_at is None
    alice_client.post(url)
    made.refresh_from_db()
    assert made.revoked_at is not None


def test_another_organization_cannot_revoke(bob_client: Client, shop: SmtpUser) -> None:
    """404, and the password lives."""
    made = create_app_password(shop, name="web-1", actor=SYSTEM).app_password
    assert bob_client.post(f"/smtp-users/{shop.pk}/app-passwords/{made.pk}/revoke/").status_code == 404
    made.refresh_from_db()
    assert made.revoked_at is None
