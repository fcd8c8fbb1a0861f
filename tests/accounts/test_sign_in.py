"""Sign-in: the password, where it leads, and what guessing costs."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from tests.accounts.pages import text_of
from tests.conftest import PASSWORD

URL = "/account/sign-in/"


def post(client: Client, email: str, password: str, ip: str = "192.0.2.1", **more: str) -> Any:
    return client.post(URL, {"username": email, "password": password, **more}, REMOTE_ADDR=ip)


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


@pytest.mark.parametrize("typed", ["alice@alice.example", " ALICE@Alice.Example "])
def test_the_address_is_case_blind(alice: User, typed: str) -> None:
    """However it is typed, it is alice."""
    client = Client()
    assert post(client, typed, PASSWORD).status_code == 302
    assert is_signed_in(client)


def test_wrong_and_unknown_read_the_same(alice: User) -> None:
    """A wrong password and an unknown address get the same page."""
    wrong = post(Client(), alice.email, "wrong-Password-99")
    unknown = post(Client(), "alice@nowhere.example", "wrong-Password-99")
    assert wrong.status_code == unknown.status_code == 200
    assert text_of(wrong.content.decode()) == text_of(unknown.content.decode())


def test_an_inactive_person_reads_the_same(alice: User) -> None:
    """Being switched off is not told to who does not know the password, nor to who does."""
    User.objects.update(is_active=False)
    client = Client()
    assert "is wrong" in post(client, alice.email, PASSWORD).content.decode()
    assert not is_signed_in(client)


def test_the_session_key_changes(alice: User) -> None:
    """A key that was planted before sign-in is worth nothing after it."""
    client = Client()
    session = client.session
    session["planted"] = "yes"
    session.save()
    before = session.session_key
    post(client, alice.email, PASSWORD)
    assert client.session.session_key != before
    assert not client.session.exists(before)


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "http:///evil.example", "javascript:alert(1)", "\\\\evil"]
)
def test_next_stays_on_this_site(alice: User, target: str) -> None:
    """Foreign targets are dropped, in the address and in the form."""
    assert post(Client(), alice.email, PASSWORD, next=target).headers["Location"] == reverse("relay:overview")
    page = Client().get(URL, {"next": target}).content.decode()
    assert "evil" not in page


def test_next_leads_to_the_page_that_was_asked_for(alice: User) -> None:
    """Who was sent to sign-in comes back."""
    asked = Client().get(reverse("accounts:security")).headers["Location"]
    assert asked == f"{URL}?next=/account/security/"
    assert post(Client(), alice.email, PASSWORD, next="/account/security/").headers["Location"] == "/account/security/"


def test_the_fifth_wrong_password_locks_name_and_address_together(alice: User) -> None:
    """From there even the right password is refused, and the page says for how long."""
    client = Client()
    for _ in range(4):
        assert post(client, alice.email, "wrong-Password-99").status_code == 200
    locked = post(client, alice.email, "wrong-Password-99")
    assert locked.status_code == 429
    assert "15 more minutes" in locked.content.decode()
    assert 0 < int(locked.headers["Retry-After"]) <= 900
    assert post(client, alice.email, PASSWORD).status_code == 429
    assert not is_signed_in(client)


def test_another_address_is_not_locked_out(alice: User) -> None:
    """Guessing from elsewhere cannot keep alice out."""
    for _ in range(6):
        post(Client(), alice.email, "wrong-Password-99", ip="192.0.2.66")
    client = Client()
    assert post(client, alice.email, PASSWORD, ip="192.0.2.1").status_code == 302
    assert is_signed_in(client)


def test_another_name_from_the_same_address_is_not_locked_out(alice: User, bob: User) -> None:
    """Behind one office address, bob's wrong passwords are bob's."""
    for _ in range(6):
        post(Client(), bob.email, "wrong-Password-99")
    assert post(Client(), alice.email, PASSWORD).status_code == 302


def test_spelling_the_name_otherwise_gives_no_further_guesses(alice: User) -> None:
    """Upper case and spaces count as the same name."""
    for typed in ("alice@alice.example", "Alice@alice.example", "aLice@alice.example", " alice@alice.example"):
        assert post(Client(), typed, "wrong-Password-99").status_code == 200
    assert post(Client(), "ALICE@alice.example", "wrong-Password-99").status_code == 429


def test_another_browser_gives_no_further_guesses(alice: User) -> None:
    """The user agent is the guesser's choice, so it does not count."""
    answers = [
        Client(headers={"user-agent": f"browser {n}"})
        .post(URL, {"username": alice.email, "password": "wrong-Password-99"}, REMOTE_ADDR="192.0.2.1")
        .status_code
        for n in range(5)
    ]
    assert answers == [200, 200, 200, 200, 429]


def test_a_whole_ipv6_network_counts_as_one(alice: User) -> None:
    """Who has a /64 has 2^64 addresses, and five guesses."""
    answers = [post(Client(), alice.email, "wrong-Password-99", ip=f"2001:db8::{n:x}").status_code for n in range(1, 6)]
    assert answers == [200, 200, 200, 200, 429]


def test_the_lock_ends_when_the_page_said(alice: User) -> None:
    """Trying during the lock does not prolong it."""
    for _ in range(5):
        post(Client(), alice.email, "wrong-Password-99")
    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        locked = post(Client(), alice.email, PASSWORD)
        assert locked.status_code == 429
        assert "5 more minutes" in locked.content.decode()
    with time_machine.travel(timezone.now() + timedelta(minutes=15, seconds=5)):
        assert post(Client(), alice.email, PASSWORD).status_code == 302


@pytest.mark.django_db
@pytest.mark.parametrize("junk", ["\0", "a" * 5000, "not-an-address", "'; DROP TABLE accounts_user; --"])
def test_nonsense_is_a_form_error(junk: str) -> None:
    """No address, no query, no 500."""
    assert post(Client(), junk, junk).status_code == 200


def test_signing_out_ends_the_session(alice: User, client_for: Any) -> None:
    """And only by POST: a link in a mail cannot sign anybody out."""
    client = client_for(alice)
    assert client.get(reverse("accounts:sign_out")).status_code == 405
    key = client.session.session_key
    client.post(reverse("accounts:sign_out"))
    assert not is_signed_in(client)
    assert not client.session.exists(key)
