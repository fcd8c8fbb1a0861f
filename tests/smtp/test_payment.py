"""Sending that is held until an invoice is paid: 450, nothing lost, and on again at once."""

from collections.abc import Callable

from accounts import organizations
from accounts.models import Organization
from audit.changes import SYSTEM
from relay.models import Message, Refusal
from relay.models.limits import LimitWindow
from tests.smtp.conftest import RunningDoor, Sender, content

HELD = "450 4.7.1 Sending is held: an invoice is overdue. It goes on within a minute of the payment"


def hold(organization: Organization) -> None:
    organizations.hold(organization, reason="Invoice GP-000001 is overdue.", actor=SYSTEM)


def test_signing_in_works_and_mail_is_put_off(
    door: RunningDoor, alice_org: Organization, sender: Sender, eventually: Callable[..., None]
) -> None:
    """At MAIL, with a reference that explains it; nothing is stored or debited; the session goes on."""
    hold(alice_org)
    client = door.signed_in(sender)
    reply = client.say(f"MAIL FROM:<{sender.address}>")
    assert reply == HELD
    assert client.say("NOOP").startswith("250")
    organizations.activate(alice_org, actor=SYSTEM)
    door.signed_in(sender).message(sender.address, "a@dest.example", content=content())
    assert Message.objects.count() == 1
    eventually(lambda: Refusal.objects.filter(code=450).count() == 1)


def test_the_transaction_has_the_last_word(door: RunningDoor, alice_org: Organization, sender: Sender) -> None:
    """Held between MAIL and the end of the data: the same 450, and the next message is refused at MAIL."""
    client = door.signed_in(sender)
    for line in (f"MAIL FROM:<{sender.address}>", "RCPT TO:<a@dest.example>", "DATA"):
        client.say(line)
    hold(alice_org)
    client.send(content())
    reply = client.reply()
    assert reply == HELD
    assert not Message.objects.exists()
    assert sum(LimitWindow.objects.get(scope=1).buckets) == 0
