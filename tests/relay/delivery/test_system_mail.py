"""relay.system_mail: Gatepost's own mail goes through its own queue."""

from email import message_from_bytes, policy
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives, send_mail
from django.core.mail.backends.locmem import EmailBackend as Locmem
from django.db import transaction

from accounts.organizations import system_organization
from relay.content import load, parse
from relay.models import Message, Recipient
from relay.models.messages import NEVER
from relay.system_mail import EmailBackend

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_backend(settings: Any) -> None:
    """pytest-django puts Django's memory backend in the place of ours."""
    settings.EMAIL_BACKEND = "relay.system_mail.EmailBackend"


def sent(**changes: Any) -> Message:
    values = {"subject": "Welcome", "body": "Hello\n.\nÄ\n", "to": ["you@example.net"], **changes}
    mail = EmailMessage(**values)
    assert mail.send() == 1
    return Message.objects.get(id=mail.gatepost_message_id)  # type: ignore[attr-defined]


def test_a_mail_is_a_message_of_the_system_organization() -> None:
    """Row, content and recipient stand in the queue, due now, without an SMTP user."""
    message = sent()
    assert message.organization == system_organization()
    assert (message.smtp_user, message.route, message.recipient_count) == (None, "sandbox", 1)
    assert (message.subject, message.reverse_path) == ("Welcome", "gatepost@mail.gatepost.example")
    recipient = message.recipients.get()
    assert (recipient.address, recipient.state) == ("you@example.net", "queued")
    assert recipient.due_at < NEVER


def test_its_content_is_complete() -> None:
    """A trace header first, CRLF only, no dot-stuffing, the text as it was written."""
    message = sent()
    content = load(message.id)
    assert content.startswith(b"Received: by mail.gatepost.example (Gatepost) id " + message.reference.encode())
    assert content.count(b"\n") == content.count(b"\r\n") == content.count(b"\r")
    assert content.endswith(b"\r\n") and message.size_octets == len(content)
    parsed = message_from_bytes(content, policy=policy.default)
    assert parsed["To"] == "you@example.net" and parsed["Message-ID"] == message.header_message_id
    assert parse(content).text.split() == ["Hello", ".", "Ä"]


def test_blind_copies_are_recipients_and_not_told() -> None:
    """To, Cc and Bcc get the mail; Bcc is in no header."""
    message = sent(cc=["c@example.net"], bcc=["b@example.net"])
    assert set(message.recipients.values_list("address", flat=True)) == {
        "you@example.net",
        "c@example.net",
        "b@example.net",
    }
    assert b"b@example.net" not in load(message.id)


def test_names_and_international_domains() -> None:
    """The envelope holds plain addresses, domains as A-labels; a UTF-8 mailbox needs SMTPUTF8."""
    plain = sent(from_email="Gate Post <g@bücher.example>", to=["Möbius <m@bücher.example>"])
    assert (plain.reverse_path, plain.recipients.get().address) == (
        "g@xn--bcher-kva.example",
        "m@xn--bcher-kva.example",
    )
    assert not plain.smtputf8


def test_text_and_html() -> None:
    """Both forms are stored and found again."""
    mail = EmailMultiAlternatives("Hi", "plain", to=["you@example.net"])
    mail.attach_alternative("<p>rich</p>", "text/html")
    mail.send()
    shown = parse(load(Message.objects.get().id))
    assert (shown.text.strip(), [page.strip() for page in shown.html]) == ("plain", ["<p>rich</p>"])


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_sends_nothing() -> None:
    """The mail is in the caller's transaction: it goes with it."""
    with pytest.raises(RuntimeError), transaction.atomic():
        send_mail("x", "y", None, ["you@example.net"])
        raise RuntimeError
    assert not Message.objects.exists()


def test_nobody_to_send_to() -> None:
    """A mail without recipients is not sent, and not counted."""
    assert EmailBackend().send_messages([EmailMessage("x", "y")]) == 0
    assert not Recipient.objects.exists()


def test_a_failure_is_raised_or_kept_silent() -> None:
    """A header with a line end is refused by Django; fail_silently keeps that to itself, and other mail goes."""
    bad, good = EmailMessage("a\nb", "y", to=["a@example.net"]), EmailMessage("ok", "y", to=["b@example.net"])
    with pytest.raises(ValueError, match="newlines"):
        EmailBackend().send_messages([bad])
    assert EmailBackend(fail_silently=True).send_messages([bad, good]) == 1
    assert Message.objects.get().subject == "ok"


def test_the_settings_name_it(settings: Any) -> None:
    """The backend of the settings is ours, and no test double."""
    from config import settings as ours

    assert ours.EMAIL_BACKEND == "relay.system_mail.EmailBackend"
    assert not issubclass(EmailBackend, Locmem)
