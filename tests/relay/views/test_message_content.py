"""relay.views.message_content: HTML in a cage, source and attachments as files, the demo's own mail."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import Organization
from accounts.organizations import system_organization
from relay.models import Message

MAIL = (
    b"From: a@alice.example\r\nSubject: Hi\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<h1>Hi</h1><script>alert(1)</script>\r\n"
    b'--b\r\nContent-Type: text/html; name="evil.html"\r\n'
    b'Content-Disposition: attachment; filename="evil\\".html"\r\n\r\n<script>alert(2)</script>\r\n--b--\r\n'
)

Make = Callable[..., Message]


@pytest.fixture
def mail(alice_org: Organization, queued_message: Make) -> Message:
    return queued_message(alice_org, content=MAIL)


def test_html_is_caged(alice_client: Client, mail: Message) -> None:
    """It may style itself, and nothing else: no script, no fetching, no forms, no own origin."""
    response = alice_client.get(f"/messages/{mail.pk}/html/")
    policy = {part.split()[0]: part.split()[1:] for part in response["Content-Security-Policy"].split(";")}
    assert policy == {
        "sandbox": [],
        "default-src": ["'none'"],
        "style-src": ["'unsafe-inline'"],
        "img-src": ["data:"],
        "frame-ancestors": ["'self'"],
    }
    assert response["X-Frame-Options"] == "SAMEORIGIN"
    assert b"<h1>Hi</h1>" in response.content


def test_page_frames_it_without_rights(alice_client: Client, mail: Message) -> None:
    """The frame's own attribute is the second cage; the mail's HTML is not in the page itself."""
    page = alice_client.get(f"/messages/{mail.pk}/").content.decode()
    assert f'sandbox src="/messages/{mail.pk}/html/"' in page
    assert "<h1>Hi</h1>" not in page


def test_source_is_the_mail_to_the_octet(alice_client: Client, mail: Message) -> None:
    """As a file, never sniffed, never shown."""
    response = alice_client.get(f"/messages/{mail.pk}/source/")
    assert response.content == MAIL
    assert response["Content-Type"] == "message/rfc822"
    assert response["Content-Disposition"].startswith("attachment;")
    assert response["X-Content-Type-Options"] == "nosniff"


def test_attachment_is_a_file_whatever_it_says(alice_client: Client, mail: Message) -> None:
    """An HTML attachment is not run in the panel's origin, and its name cannot break the header."""
    (file,) = alice_client.get(f"/messages/{mail.pk}/").context["parts"].attachments
    response = alice_client.get(f"/messages/{mail.pk}/attachments/{file.number}/")
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment;")
    assert response.content.strip() == b"<script>alert(2)</script>"


def test_attachment_that_is_not_there_is_404(alice_client: Client, mail: Message) -> None:
    """Numbers beyond the mail's parts find nothing."""
    assert alice_client.get(f"/messages/{mail.pk}/attachments/99/").status_code == 404


@pytest.mark.parametrize("path", ["html/", "source/", "attachments/1/"])
def test_another_organization_gets_no_content(bob_client: Client, mail: Message, path: str) -> None:
    """Whichever way it asks."""
    assert bob_client.get(f"/messages/{mail.pk}/{path}").status_code == 404


def test_demo_mail_shows_gateposts_own_mail_with_its_link(
    client: Client, db: None, settings: Any, queued_message: Make
) -> None:
    """Somebody who just signed up, and has no mailbox in the demo, can follow the link of the mail."""
    settings.GATEPOST_DEMO = True
    text = b"From: g@x.example\r\nSubject: Confirm\r\n\r\nOpen:\r\nhttp://testserver/account/confirm/abc/\r\nhttps://evil.example/\r\n"
    message = queued_message(system_organization(), content=text, subject="Confirm")
    page = client.get(f"/demo-mail/{message.pk}/").content.decode()
    assert 'href="http://testserver/account/confirm/abc/"' in page
    assert 'href="https://evil.example' not in page


def test_demo_mail_exists_in_the_demo_only(client: Client, db: None, settings: Any, queued_message: Make) -> None:
    """Outside the demo nobody reads a mail without signing in."""
    settings.GATEPOST_DEMO = False
    message = queued_message(system_organization())
    assert client.get(f"/demo-mail/{message.pk}/").status_code == 404


def test_demo_mail_is_gateposts_own_only(
    client: Client, settings: Any, alice_org: Organization, queued_message: Make
) -> None:
    """A customer's mail is not shown there, demo or not."""
    settings.GATEPOST_DEMO = True
    assert client.get(f"/demo-mail/{queued_message(alice_org).pk}/").status_code == 404
