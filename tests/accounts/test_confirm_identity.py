"""Recent identity: when it is asked for, what counts, how long it lasts."""

from datetime import timedelta
from typing import Any

import time_machine
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from tests.conftest import PASSWORD

URL = "/account/confirm-identity/"
GUARDED = "/account/security/authenticator/"


def test_the_password_counts_for_who_has_no_second_factor(alice: User, client_for: Any) -> None:
    """Then the page opens that was asked for."""
    client = client_for(alice, recent=False)
    asked = client.get(GUARDED).headers["Location"]
    assert asked == f"{URL}?next={GUARDED}"
    assert client.post(URL, {"password": "wrong-Password-99"}).status_code == 200
    assert client.get(GUARDED).status_code == 302
    assert client.post(URL, {"password": PASSWORD, "next": GUARDED}).headers["Location"] == GUARDED
    assert client.get(GUARDED).status_code == 200


def test_the_password_does_not_count_for_who_has_one(carol: User, client_for: Any, totp_code: Any) -> None:
    """Carol's code does."""
    client = client_for(carol, recent=False)
    client.post(URL, {"password": PASSWORD})
    assert client.get(GUARDED).status_code == 302
    client.post(URL, {"code": totp_code(carol)})
    assert client.get(GUARDED).status_code == 200


def test_it_lasts_fifteen_minutes(alice: User, client_for: Any) -> None:
    """And not a minute more."""
    client = client_for(alice)
    with time_machine.travel(timezone.now() + timedelta(minutes=14)):
        assert client.get(GUARDED).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(minutes=15, seconds=1)):
        assert client.get(GUARDED).status_code == 302


def test_guessing_the_password_here_locks_too(alice: User, client_for: Any) -> None:
    """The page is no way around the lock of sign-in."""
    client = client_for(alice, recent=False)
    answers = [client.post(URL, {"password": "wrong-Password-99"}).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 200, 429]
    assert client.post(URL, {"password": PASSWORD}).status_code == 429


def test_a_form_sent_too_late_leads_back_to_its_page(alice: User, alice_org: Any, client_for: Any) -> None:
    """`next` is the page of the form, not the address that takes only POST."""
    page = "http://testserver" + reverse("accounts:api_keys")
    response = client_for(alice, recent=False).post(reverse("accounts:api_keys"), {}, headers={"referer": page})
    assert response.headers["Location"] == f"{URL}?next=http%3A//testserver/account/api-keys/"


def test_a_foreign_page_is_no_page_to_lead_back_to(alice: User, alice_org: Any, client_for: Any) -> None:
    """A referrer from elsewhere is dropped."""
    response = client_for(alice, recent=False).post(
        reverse("accounts:api_keys"), {}, headers={"referer": "https://evil.example/"}
    )
    assert response.headers["Location"] == URL


def test_htmx_moves_the_whole_page(alice: User, client_for: Any) -> None:
    """A fragment's request is not answered with a sign-in form inside the fragment."""
    response = client_for(alice, recent=False).get(GUARDED, headers={"hx-request": "true"})
    assert (response.status_code, response.headers["HX-Redirect"]) == (200, URL)
