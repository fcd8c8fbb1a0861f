"""Sign-up: what it makes, what it never tells, and who may."""

import re
import threading
import uuid
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts import registration
from accounts.models import Membership, Organization, User
from audit.models import ChangeEvent
from tests.accounts.pages import text_of
from tests.conftest import PASSWORD

URL = "/account/sign-up/"


def form(**changes: str) -> dict[str, str]:
    return {"organization_name": "Dora Design", "email": "Dora@Dora.example", "password": PASSWORD, **changes}


@pytest.mark.django_db
def test_makes_a_pending_organization_on_trial_with_its_owner() -> None:
    """A sign-up makes user, organization, subscription and ownership, and records it."""
    response = Client().post(URL, form())
    assert response.headers["Location"] == reverse("accounts:sign_up_done")
    user = User.objects.get(email="dora@dora.example")
    organization = Organization.objects.get(slug="dora-design")
    assert (user.email_confirmed_at, organization.state) == (None, "pending")
    assert organization.subscription.plan.code == "trial"
    assert Membership.objects.get(user=user, organization=organization).role == "owner"
    recorded = ChangeEvent.objects.get(organization_id=organization.pk, action="organization.created")
    assert (recorded.actor, recorded.actor_id) == ("dora@dora.example", user.pk)


def test_a_known_address_sees_the_same_page_and_gets_another_mail(alice: Any) -> None:
    """Nobody learns from the page whether an address has an account."""
    new, known = Client(), Client()
    first = new.post(URL, form(email="new@alice.example"), follow=True)
    second = known.post(URL, form(email="ALICE@alice.example"), follow=True)
    assert first.redirect_chain == second.redirect_chain
    assert text_of(first.content.decode()).replace("new@", "alice@") == text_of(second.content.decode())
    assert [m.subject for m in mail.outbox] == [
        "Confirm your e-mail address for Gatepost",
        "You have a Gatepost account already",
    ]


def test_a_known_address_keeps_its_password_and_gets_no_organization(alice: Any) -> None:
    """A stranger's sign-up with alice's address changes nothing of hers."""
    Client().post(URL, form(email="alice@alice.example", password="another-Meadow-91-cobalt"))
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)
    assert not Organization.objects.filter(slug="dora-design").exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_makes_the_account() -> None:
    """Two simultaneous sign-ups for one address end in one user, one organization and two mails."""
    start, done = threading.Barrier(2), []

    def attempt() -> None:
        try:
            start.wait(10)
            registration.sign_up(email="dora@dora.example", password=PASSWORD, organization_name="Dora")
            done.append(True)
        finally:
            connection.close()

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(done) == 2
    assert User.objects.filter(email="dora@dora.example").count() == 1
    assert Organization.objects.filter(name="Dora").count() == 1
    assert len(mail.outbox) == 2


@pytest.mark.django_db
def test_two_organizations_of_one_name_get_two_slugs() -> None:
    """A taken slug is no reason to refuse a name."""
    Client().post(URL, form())
    Client().post(URL, form(email="other@dora.example"))
    slugs = list(Organization.objects.filter(name="Dora Design").values_list("slug", flat=True))
    assert len(set(slugs)) == 2
    assert all(slug.startswith("dora-design") and len(slug) <= 20 for slug in slugs)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["Prize www.win.example", "see http://win.example", "two\nlines"])
def test_a_name_that_would_abuse_our_mails_is_refused(name: str) -> None:
    """Organization names appear in mails to strangers: no links, no second line."""
    response = Client().post(URL, form(organization_name=name))
    assert response.status_code == 200
    assert not mail.outbox
    assert not User.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("mode", ["invitation", "closed"])
def test_without_open_sign_up_nothing_is_made(settings: Any, mode: str) -> None:
    """GATEPOST_SIGNUP is asked on the POST too."""
    settings.GATEPOST_SIGNUP = mode
    assert Client().get(URL).status_code == 403
    assert Client().post(URL, form()).status_code == 403
    assert not User.objects.exists()


class NotingBackend(EmailBackend):
    """Like the queue's backend, which notes the message's id on the mail."""

    def send_messages(self, messages: Any) -> int:
        for message in messages:
            message.gatepost_message_id = uuid.UUID(int=7)
        return super().send_messages(messages)


@pytest.mark.django_db
@pytest.mark.parametrize("demo", [True, False])
def test_only_the_demo_links_to_the_mail(settings: Any, demo: bool) -> None:
    """Outside the demo the page never knows the mail's address."""
    settings.GATEPOST_DEMO = demo
    settings.EMAIL_BACKEND = "tests.accounts.test_sign_up.NotingBackend"
    page = Client().post(URL, form(), follow=True).content.decode()
    assert (reverse("relay:demo_mail", args=[uuid.UUID(int=7)]) in page) is demo


@pytest.mark.django_db
def test_a_flood_of_forms_does_not_flood_a_mailbox() -> None:
    """One address gets five confirmation mails an hour at most, and the page does not say so."""
    Client().post(URL, form())
    pages = {
        text_of(Client().post(reverse("accounts:resend_confirmation"), form(), follow=True).content.decode())
        for _ in range(8)
    }
    assert len(mail.outbox) == 5
    assert len(pages) == 1


@pytest.mark.django_db
def test_the_demo_leads_from_the_form_into_the_panel(settings: Any) -> None:
    """By our own queue: form, captured mail, its link, sign-in, one click."""
    settings.GATEPOST_DEMO = True
    settings.EMAIL_BACKEND = "relay.system_mail.EmailBackend"
    client = Client()
    page = client.post(URL, form(), follow=True).content.decode()
    shown = re.search(r'href="(/[^"]+)">Open the mail', page)
    assert shown is not None
    mail_page = client.get(shown[1]).content.decode()
    link = re.search(r"http://testserver(/account/confirm/[^/\s\"<]+/)", mail_page)
    assert link is not None
    client.post(
        client.get(link[1]).headers["Location"],
        {"username": "dora@dora.example", "password": PASSWORD, "next": link[1]},
    )
    client.post(link[1])
    assert client.get(reverse("relay:overview")).status_code == 200
