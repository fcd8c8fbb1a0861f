"""relay.views.bans: what hits one's own addresses, why, until when; lifted."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from relay.models import Ban
from tests.relay.views.conftest import Attempts


@pytest.fixture
def ban(db: None) -> Ban:
    evidence: dict[str, Any] = {
        "failures": 61, "names": ["shop.alice-works", "secret.bob-works", "<b>x</b>"], "addresses": 1,
    }  # fmt: skip
    return Ban.objects.create(
        cidr="192.0.2.10/32", ends_at=timezone.now() + timedelta(hours=1), evidence=evidence, worker="test"
    )


def test_it_says_why_and_until_when(alice_client: Client, ban: Ban, attempted: Attempts) -> None:
    """Address, number of failures, her own usernames among those tried, and never another customer's."""
    attempted()
    page = alice_client.get("/bans/").content.decode()
    assert "192.0.2.10" in page and "61 different failed logins" in page and "shop.alice-works" in page
    assert "secret.bob-works" not in page and "<b>x</b>" not in page


def test_who_never_signed_in_from_it_sees_nothing(
    alice_client: Client, bob_client: Client, ban: Ban, attempted: Attempts
) -> None:
    """For bob there is no such ban, and lifting it is 404."""
    attempted()
    assert "192.0.2.10" not in bob_client.get("/bans/").content.decode()
    assert bob_client.post(f"/bans/{ban.pk}/lift/").status_code == 404
    assert alice_client.get(f"/bans/{ban.pk}/lift/").status_code == 200


def test_lifting_asks_first(alice_client: Client, ban: Ban, attempted: Attempts) -> None:
    """Opening the page lifts nothing; the button does, and the list is empty then."""
    attempted()
    alice_client.get(f"/bans/{ban.pk}/lift/")
    ban.refresh_from_db()
    assert ban.lifted_at is None
    page = alice_client.post(f"/bans/{ban.pk}/lift/", follow=True).content.decode()
    ban.refresh_from_db()
    assert ban.lifted_at is not None
    assert "192.0.2.10 may connect again" in page and "None of your addresses is banned" in page


def test_the_same_range_is_lifted_once_a_day(alice_client: Client, ban: Ban, attempted: Attempts) -> None:
    """The page says from when it may be again, instead of the button; sending the form says why not."""
    attempted()
    alice_client.post(f"/bans/{ban.pk}/lift/")
    again = Ban.objects.create(cidr=ban.cidr, ends_at=timezone.now() + timedelta(hours=1), worker="test")
    page = alice_client.get("/bans/").content.decode()
    assert "Lifted within a day" in page and f"/bans/{again.pk}/lift/" not in page
    told = alice_client.post(f"/bans/{again.pk}/lift/", follow=True).content.decode()
    assert "lifted a ban of this range already" in told
    again.refresh_from_db()
    assert again.lifted_at is None


def test_a_viewer_sees_and_may_not_lift(vera_client: Client, ban: Ban, attempted: Attempts) -> None:
    """No button, and sending it is 403."""
    attempted()
    page = vera_client.get("/bans/").content.decode()
    assert "192.0.2.10" in page and "/lift/" not in page
    assert vera_client.post(f"/bans/{ban.pk}/lift/").status_code == 403


def test_why_leads_to_the_bans(alice_client: Client, db: None) -> None:
    """The pasted 421 is explained, with a link to the page that helps."""
    told = "421 4.7.0 Your address is banned for 900 seconds after too many failed logins"
    page = alice_client.get("/why/", {"q": told}).content.decode()
    assert "went on although it was told to" in page and 'href="/bans/"' in page
