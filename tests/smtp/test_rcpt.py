"""RCPT: paths, DSN words, numbers; the whole reply of each."""

import pytest

from relay.models import Recipient
from tests.smtp.conftest import Client, RunningDoor, Sender, content


@pytest.fixture
def client(door: RunningDoor, sender: Sender) -> Client:
    made = door.signed_in(sender)
    made.say(f"MAIL FROM:<{sender.address}>")
    return made


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("TO:<a@dest.example>", "250 2.1.5 Recipient OK"),
        ('TO:<"a b"@dest.example>', "250 2.1.5 Recipient OK"),
        ("TO:<a@[192.0.2.1]>", "250 2.1.5 Recipient OK"),
        ("TO:<a@[IPv6:2001:db8::1]>", "250 2.1.5 Recipient OK"),
        ("to:<@relay.example:a@dest.example>", "250 2.1.5 Recipient OK"),
        ("TO:<a@dest.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@dest.example", "250 2.1.5 Recipient OK"),
        ("TO:<a@dest.example> NOTIFY=NEVER", "250 2.1.5 Recipient OK"),
        ("", "501 5.5.4 Syntax: RCPT TO:<address>"),
        ("TO:a@dest.example", "501 5.5.4 The path must stand in angle brackets"),
        ("TO:<>", "501 5.1.3 A recipient has an address"),
        ("TO:<postmaster>", "501 5.1.3 The path must be <local@domain>"),
        (f"TO:<{'a' * 65}@dest.example>", "501 5.1.3 The local part has more than 64 octets"),
        ("TO:<a@[192.0.2.300]>", "501 5.1.3 The domain is not a valid one"),
        (
            "TO:<a@dest.example> NOTIFY=NEVER,SUCCESS",
            "501 5.5.4 NOTIFY takes NEVER alone, or SUCCESS, FAILURE and DELAY",
        ),
        ("TO:<a@dest.example> ORCPT=nobody", "501 5.5.4 ORCPT is address-type;address"),
        ("TO:<a@dest.example> SIZE=3", "555 5.5.4 Parameter not recognized: SIZE"),
        ("TO:<\u00e4@dest.example>", "553 5.6.7 The address is not ASCII: send it with SMTPUTF8"),
    ],
)
def test_every_argument(client: Client, argument: str, reply: str) -> None:
    """What is taken, with its parameters, and what is refused with the reason."""
    assert client.say(f"RCPT {argument}") == reply


def test_before_mail(door: RunningDoor, sender: Sender) -> None:
    """RFC 5321 4.1.4: RCPT needs MAIL."""
    assert door.signed_in(sender).say("RCPT TO:<a@dest.example>") == "503 5.5.1 Send MAIL first"


def test_too_many(door: RunningDoor, sender: Sender, client: Client) -> None:
    """Over the limit 452, and those accepted stay."""
    door.server.recipients_max = 2
    client.say("RCPT TO:<a@dest.example>")
    client.say("RCPT TO:<b@dest.example>")
    assert client.say("RCPT TO:<c@dest.example>") == "452 4.5.3 Too many recipients; 2 a message at most"
    client.say("DATA")
    client.send(content())
    assert client.reply().startswith("250 2.0.0 OK: queued as ")
    assert Recipient.objects.count() == 2


def test_dsn_words_are_stored_as_they_came(client: Client) -> None:
    """Case is kept."""
    client.say("RCPT TO:<a@dest.example> NOTIFY=success ORCPT=rfc822;A+2Bb@dest.example")
    client.say("DATA")
    client.send(content())
    assert client.reply().startswith("250")
    row = Recipient.objects.get()
    assert (row.dsn_notify, row.dsn_orcpt) == ("success", "rfc822;A+2Bb@dest.example")


def test_smtputf8_addresses_are_stored(door: RunningDoor, sender: Sender) -> None:
    """RFC 6531: with SMTPUTF8 a recipient in any script is taken."""
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}> SMTPUTF8")
    assert client.say("RCPT TO:<用户@例え.example>") == "250 2.1.5 Recipient OK"
    client.say("DATA")
    client.send(content())
    assert client.reply().startswith("250")
    assert Recipient.objects.get().address == "用户@例え.example"
