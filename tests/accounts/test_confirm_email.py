"""The link of the confirmation mail."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import registration
from accounts.models import User
from audit.models import ChangeEvent
from tests.accounts.pages import last_link
from tests.conftest import PASSWORD, make_user


@pytest.fixture
def dora(db: None) -> User:
    user = make_user("dora@dora.example", email_confirmed_at=None)
    registration.send_confirmation(user)
    return user


def sign_in(client: Client) -> Any:
    return client.post(reverse("accounts:sign_in"), {"username": "dora@dora.example", "password": PASSWORD})


def test_the_link_confirms_who_signed_in(dora: User) -> None:
    """Link, password, button: then the panel opens, and the change is recorded."""
    client = Client()
    link = last_link()
    to_sign_in = client.get(link)
    assert to_sign_in.headers["Location"].startswith(reverse("accounts:sign_in"))
    back = client.post(
        to_sign_in.headers["Location"], {"username": dora.email, "password": PASSWORD, "next": link}
    ).headers["Location"]
    assert back == link
    assert client.get(link).status_code == 200
    dora.refresh_from_db()
    assert dora.email_confirmed_at is None, "a visit alone must not confirm: scanners visit links"
    client.post(link)
    dora.refresh_from_db()
    assert dora.email_confirmed_at is not None
    assert ChangeEvent.objects.filter(action="email.confirmed", subject=dora.email).count() == 1


def test_the_link_alone_confirms_nothing(dora: User) -> None:
    """Who has the mail but not the password cannot confirm a stranger's account."""
    client = Client()
    client.post(last_link())
    dora.refresh_from_db()
    assert dora.email_confirmed_at is None


def test_another_person_cannot_confirm(dora: User, bob: User, client_for: Any) -> None:
    """Bob, signed in, does not confirm dora's address with dora's link."""
    client = client_for(bob)
    assert "signed in as bob@bob.example" in client.get(last_link()).content.decode()
    client.post(last_link())
    dora.refresh_from_db()
    assert dora.email_confirmed_at is None


def test_a_used_link_says_so(dora: User, client_for: Any) -> None:
    """The second use is told from a broken link, and changes nothing."""
    client = client_for(dora)
    client.post(last_link())
    again = client.get(last_link())
    assert again.status_code == 410
    assert "used already" in again.content.decode()


def test_an_expired_link_offers_a_new_one(dora: User) -> None:
    """After 24 hours the page offers another, and that one works."""
    link = last_link()
    with time_machine.travel(timezone.now() + timedelta(hours=24, minutes=1)):
        page = Client().get(link)
        assert page.status_code == 410
        assert "expired" in page.content.decode()
        Client().post(reverse("accounts:resend_confirmation"), {"email": dora.email})
        assert len(mail.outbox) == 2
        assert registration.user_of_link(last_link().rstrip("/").rsplit("/", 1)[1]) == dora


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["x", "a:b:c", "%00", "eyJ1c2VyIjoxfQ:1abcde:aaaa"])
def test_a_broken_link_gets_a_page(token: str) -> None:
    """Cut or altered links end on a page that offers a new one."""
    page = Client().get(f"/account/confirm/{token}/")
    assert page.status_code == 400
    assert "get a new one" in page.content.decode()


def test_unconfirmed_sees_nothing_but_the_request_to_confirm(dora: User) -> None:
    """Sign-in works, but every page leads to 'confirm your address'."""
    client = Client()
    sign_in(client)
    for name in ("accounts:security", "accounts:password_change", "accounts:totp_enrol"):
        assert client.get(reverse(name)).headers["Location"].startswith(reverse("accounts:confirm_needed")), name
    assert dora.email in client.get(reverse("accounts:confirm_needed")).content.decode()


def test_asking_again_says_nothing_about_the_address(alice: User, dora: User) -> None:
    """Confirmed, unconfirmed and unknown addresses are answered alike; one gets a mail."""
    mail.outbox.clear()
    pages = []
    for address in (alice.email, dora.email, "nobody@nowhere.example"):
        page = Client().post(reverse("accounts:resend_confirmation"), {"email": address}, follow=True)
        pages.append(page.redirect_chain)
    assert pages[0] == pages[1] == pages[2]
    assert [m.to for m in mail.outbox] == [[dora.email]]
