"""accounts.strangers: forms that anybody may send."""

import time
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from accounts.models import User
from accounts.strangers import POSTS_AN_HOUR

RESET = "/account/password/reset/"
FORMS = (RESET, "/account/sign-up/", "/account/confirm/again/")


@pytest.mark.django_db
def test_one_address_cannot_write_mails_without_end(alice: User) -> None:
    """Each form counts, whatever address is typed; then it is 429 and no mail, from elsewhere it stays open."""
    client = Client()
    for number in range(POSTS_AN_HOUR):
        assert client.post(FORMS[number % 3], {"email": f"v{number}@x.example"}).status_code != 429
    refused = client.post(RESET, {"email": alice.email})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3600")
    assert mail.outbox == []
    assert client.get(RESET).status_code == 200
    assert Client(REMOTE_ADDR="192.0.2.9").post(RESET, {"email": alice.email}).status_code == 302


@pytest.mark.parametrize("email", ["alice@alice.example", "nobody@alice.example"])
def test_the_answer_takes_a_fixed_time(alice: User, settings: Any, email: str) -> None:
    """A mail that is written takes no longer than one that is not."""
    settings.MAIL_FORM_SECONDS = 0.15
    client = Client()
    began = time.monotonic()
    client.post(RESET, {"email": email})
    taken = time.monotonic() - began
    assert taken >= 0.15
