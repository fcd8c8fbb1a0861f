"""Resetting a forgotten password by mail."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from audit.models import ChangeEvent
from tests.accounts.pages import last_link, text_of
from tests.conftest import PASSWORD, make_user

URL = "/account/password/reset/"
NEW = "tundra-Violin-83-mosaic"


def follow(client: Client, link: str, password: str = NEW) -> Any:
    """Open the link, then send the form that it leads to."""
    form = client.get(link).headers.get("Location", link)
    return client.post(form, {"password": password})


def test_known_and_unknown_addresses_read_the_same(alice: User) -> None:
    """The page never says whether there is an account; only the known one gets a mail."""
    known = Client().post(URL, {"email": "ALICE@alice.example"}, follow=True)
    unknown = Client().post(URL, {"email": "zoe@alice.example"}, follow=True)
    assert known.redirect_chain == unknown.redirect_chain
    assert text_of(known.content.decode()) == text_of(unknown.content.decode()).replace("zoe@", "alice@")
    assert [m.to for m in mail.outbox] == [["alice@alice.example"]]


def test_the_link_sets_the_password_and_ends_every_session(alice: User, alice_org: Any, client_for: Any) -> None:
    """A stolen session ends with the reset; the change is recorded."""
    elsewhere = client_for(alice)
    Client().post(URL, {"email": alice.email})
    client = Client()
    assert follow(client, last_link()).headers["Location"] == reverse("accounts:password_reset_complete")
    alice.refresh_from_db()
    assert alice.check_password(NEW)
    assert elsewhere.get(reverse("accounts:security")).headers["Location"].startswith(reverse("accounts:sign_in"))
    assert "_auth_user_id" not in client.session, "a reset does not sign in: a second factor may be due"
    assert ChangeEvent.objects.filter(organization_id=alice_org.pk, action="password.reset").exists()


def test_the_token_leaves_the_address_bar(alice: User) -> None:
    """The form's own address does not hold it, so no Referer and no history does."""
    Client().post(URL, {"email": alice.email})
    link = last_link()
    form = Client().get(link).headers["Location"]
    assert link.rstrip("/").rsplit("/", 1)[1] not in form


def test_a_used_link_offers_a_new_one(alice: User) -> None:
    """It works once."""
    Client().post(URL, {"email": alice.email})
    link = last_link()
    follow(Client(), link)
    page = Client().get(link).content.decode()
    assert "no longer works" in page
    assert f'action="{URL}"' in page


def test_an_expired_link_changes_nothing(alice: User) -> None:
    """After two hours."""
    Client().post(URL, {"email": alice.email})
    with time_machine.travel(timezone.now() + timedelta(hours=2, minutes=1)):
        assert "no longer works" in Client().get(last_link()).content.decode()
        follow(Client(), last_link())
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


@pytest.mark.django_db
@pytest.mark.parametrize("link", ["x/y/", "MQ/set-password/", "MQ/cxyz-0123456789abcdef/", "%00/a-b/"])
def test_a_broken_link_gets_a_page(link: str) -> None:
    """Not a 500, and a way to a new one."""
    page = Client().get(f"{URL}{link}")
    assert page.status_code == 200
    assert "no longer works" in page.content.decode()


def test_a_weak_password_is_refused_with_advice(alice: User) -> None:
    """The link stays good for another try."""
    Client().post(URL, {"email": alice.email})
    client, link = Client(), last_link()
    page = follow(client, link, "aaaaaaaaaaaaaaaa").content.decode()
    assert "Repeating the same characters" in page
    assert follow(client, link).status_code == 302


def test_it_confirms_the_address(db: None) -> None:
    """Who reads the mail owns the address: a squatter's password is gone, and the panel opens."""
    dora = make_user("dora@dora.example", email_confirmed_at=None)
    Client().post(URL, {"email": dora.email})
    follow(Client(), last_link())
    dora.refresh_from_db()
    assert dora.email_confirmed_at is not None
    assert not dora.check_password(PASSWORD)


def test_it_lifts_the_lock(alice: User) -> None:
    """Whoever was locked out by wrong guesses signs in at once."""
    sign_in = reverse("accounts:sign_in")
    for _ in range(5):
        Client().post(sign_in, {"username": alice.email, "password": "wrong-Password-99"})
    assert Client().post(sign_in, {"username": alice.email, "password": PASSWORD}).status_code == 429
    Client().post(URL, {"email": alice.email})
    follow(Client(), last_link())
    assert Client().post(sign_in, {"username": alice.email, "password": NEW}).status_code == 302


def test_the_link_is_made_from_the_setting_not_from_the_request(alice: User, settings: Any) -> None:
    """A forged Host header does not send alice's token elsewhere."""
    settings.ALLOWED_HOSTS = ["*"]
    Client().post(URL, {"email": alice.email}, headers={"host": "evil.example"})
    assert "evil.example" not in str(mail.outbox[-1].body)
    assert "http://testserver/" in str(mail.outbox[-1].body)


def test_an_inactive_person_gets_no_link(alice: User) -> None:
    """A switched-off account does not come back by mail."""
    User.objects.update(is_active=False)
    Client().post(URL, {"email": alice.email})
    assert not mail.outbox
