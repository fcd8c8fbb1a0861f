"""relay.views.cram_md5: on after a warning and a recent second factor, off at once, and seen only where it may be."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.access import RECENT_SESSION_KEY
from audit.changes import SYSTEM
from relay import cram_md5, credentials
from relay.models import AppPassword, SmtpUser
from relay.tasks import delete_expired


@pytest.fixture
def allowed(settings: Any) -> None:
    settings.GATEPOST_CRAM_MD5 = True


def page(client: Client, shop: SmtpUser) -> str:
    return client.get(f"/smtp-users/{shop.pk}/").content.decode()


def test_where_it_is_not_allowed_nothing_speaks_of_it(alice_client: Client, shop: SmtpUser) -> None:
    """No card; and who knows the address is told why not."""
    assert "CRAM-MD5" not in page(alice_client, shop)
    answer = alice_client.post(f"/smtp-users/{shop.pk}/cram-md5/enable/", follow=True)
    assert "not offered here" in answer.content.decode()
    shop.refresh_from_db()
    assert shop.cram_md5_enabled_at is None


def test_on_after_a_warning(allowed: None, alice_client: Client, shop: SmtpUser) -> None:
    """The question warns; then the card says since when, and which app passwords work with it."""
    assert "Switch on" in page(alice_client, shop)
    question = alice_client.get(f"/smtp-users/{shop.pk}/cram-md5/enable/").content.decode()
    assert "old and weak" in question and "encrypted" in question
    answer = alice_client.post(f"/smtp-users/{shop.pk}/cram-md5/enable/", follow=True).content.decode()
    assert "CRAM-MD5 is on" in answer and "No app password works with it yet" in answer
    credentials.create_app_password(shop, name="<b>camera</b>", actor=SYSTEM)
    shown = page(alice_client, shop)
    assert "These work with it" in shown and "&lt;b&gt;camera&lt;/b&gt;" in shown and "<b>camera" not in shown


def test_off_at_once(allowed: None, alice_client: Client, shop: SmtpUser) -> None:
    """One POST, no question: what is kept is deleted."""
    cram_md5.enable(shop, actor=SYSTEM)
    credentials.create_app_password(shop, name="camera", actor=SYSTEM)
    answer = alice_client.post(f"/smtp-users/{shop.pk}/cram-md5/disable/", follow=True).content.decode()
    assert "CRAM-MD5 is off" in answer
    assert not AppPassword.objects.exclude(cram_md5_secret=None).exists()


def test_what_ended_by_its_date_is_forgotten(allowed: None, shop: SmtpUser) -> None:
    """A week later nobody can read it; what lives is kept."""
    cram_md5.enable(shop, actor=SYSTEM)
    now = timezone.now()
    for name, days in (("long ago", -8), ("just now", -1), ("lives", 1)):
        made = credentials.create_app_password(shop, name=name, actor=SYSTEM).app_password
        AppPassword.objects.filter(pk=made.pk).update(expires_at=now + timedelta(days=days))
    credentials.create_app_password(shop, name="for ever", actor=SYSTEM)
    delete_expired()
    left = AppPassword.objects.exclude(cram_md5_secret=None).order_by("pk").values_list("name", flat=True)
    assert list(left) == ["just now", "lives", "for ever"]


def test_on_from_earlier(alice_client: Client, shop: SmtpUser, settings: Any) -> None:
    """Where the operator took it away, the card stays until it is switched off, and says so."""
    settings.GATEPOST_CRAM_MD5 = True
    cram_md5.enable(shop, actor=SYSTEM)
    settings.GATEPOST_CRAM_MD5 = False
    assert "switched CRAM-MD5 off for everybody" in page(alice_client, shop)


def test_a_long_time_without_a_second_factor(allowed: None, alice_client: Client, shop: SmtpUser) -> None:
    """It is asked for before the question is."""
    session = alice_client.session
    session[RECENT_SESSION_KEY] = 0
    session.save()
    for send in (alice_client.get, alice_client.post):
        answer = send(f"/smtp-users/{shop.pk}/cram-md5/enable/")
        assert answer.status_code == 302 and answer["Location"].startswith(reverse("accounts:confirm_identity"))
    shop.refresh_from_db()
    assert shop.cram_md5_enabled_at is None
