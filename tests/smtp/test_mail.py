"""MAIL: paths, parameters, senders; the whole reply of each."""

from collections.abc import Callable

import pytest

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.credentials import update_smtp_user
from relay.domains import add_domain, add_sender, mark_verified, remove_sender
from relay.models import Message, Refusal
from tests.smtp.conftest import RunningDoor, Sender, content

NEWS = "news@alice.example"


@pytest.mark.parametrize(
    "argument",
    [
        f"FROM:<{NEWS}>",
        f"from: <{NEWS}>",
        f"FROM:<@relay.example,@other.example:{NEWS}>",
        f"FROM:<{NEWS}> SIZE=1000 BODY=8BITMIME",
        f"FROM:<{NEWS}> BODY=7BIT SMTPUTF8",
        f"FROM:<{NEWS}> AUTH=<>",
        f"FROM:<{NEWS}> AUTH=x+40y",
        f"FROM:<{NEWS}> RET=HDRS ENVID=QQ314159",
    ],
)
def test_what_is_taken(door: RunningDoor, sender: Sender, argument: str) -> None:
    """Routes are stripped, known parameters taken."""
    assert door.signed_in(sender).say(f"MAIL {argument}") == "250 2.1.0 Sender OK"


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        (f"FROM {NEWS}", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        (f"FROM:{NEWS}", "501 5.5.4 The path must stand in angle brackets"),
        (f"FROM:<{NEWS}", "501 5.5.4 The path must stand in angle brackets"),
        ("FROM:<news>", "501 5.1.7 The path must be <local@domain>"),
        ("FROM:<a b@alice.example>", "501 5.1.7 The local part is not a valid one"),
        ("FROM:<a@-x-.example>", "501 5.1.7 The domain is not a valid one"),
        (f"FROM:<{'a' * 65}@alice.example>", "501 5.1.7 The local part has more than 64 octets"),
        (f"FROM:<a@{'d.' * 126}example>", "501 5.1.7 The domain has more than 255 octets"),
        (f"FROM:<{'a' * 64}@{'d.' * 95}ex>", "501 5.1.7 The path has more than 256 octets"),
        (f"FROM:<{NEWS}> BODY=BINARYMIME", "501 5.5.4 BODY is 7BIT or 8BITMIME"),
        (f"FROM:<{NEWS}> SIZE=many", "501 5.5.4 SIZE is a number of octets"),
        (f"FROM:<{NEWS}> SIZE=1 SIZE=2", "501 5.5.4 SIZE is given twice"),
        (f"FROM:<{NEWS}> RET=SOME", "501 5.5.4 RET is FULL or HDRS"),
        (f"FROM:<{NEWS}> REQUIRETLS=YES", "501 5.5.4 REQUIRETLS has no value"),
        (f"FROM:<{NEWS}> ENVID=a+2", "501 5.5.4 ENVID is not valid xtext of 100 characters at most"),
        (f"FROM:<{NEWS}> FOO=BAR", "555 5.5.4 Parameter not recognized: FOO"),
        (f"FROM:<{NEWS}> SIZE=52428801", "552 5.3.4 The message exceeds 52428800 octets"),
        ("FROM:<n\u00e9ws@alice.example>", "553 5.6.7 The address is not ASCII: send it with SMTPUTF8"),
        ("FROM:<>", "550 5.7.1 This SMTP user may not send with an empty return path"),
        (
            "FROM:<news@other.example>",
            "550 5.7.1 app.alice-works may not send as news@other.example; add it to its senders in the panel",
        ),
        (
            "FROM:<news@sub.alice.example>",
            "550 5.7.1 app.alice-works may not send as news@sub.alice.example; add it to its senders in the panel",
        ),
    ],
)
def test_what_is_refused(door: RunningDoor, sender: Sender, argument: str, reply: str) -> None:
    """The reply says what is wrong, and the session lives on."""
    client = door.signed_in(sender)
    assert client.say(f"MAIL {argument}") == reply
    assert client.say(f"MAIL FROM:<{NEWS}>") == "250 2.1.0 Sender OK"


def test_requiretls_is_kept(door: RunningDoor, sender: Sender) -> None:
    """It takes the place of RET, which says nothing under it (RFC 8689 5)."""
    client = door.signed_in(sender)
    for parameters, kept in (("RET=FULL REQUIRETLS", "hdrs"), ("requiretls", "hdrs"), ("RET=FULL", "FULL"), ("", "")):
        client.say(f"MAIL FROM:<{NEWS}> {parameters}".rstrip())
        client.say("RCPT TO:<you@example.net>")
        client.say("DATA")
        client.send(content())
        assert client.reply().startswith("250 2.0.0 OK")
        assert Message.objects.latest("received_at").dsn_ret == kept


def test_mail_within_a_transaction(door: RunningDoor, sender: Sender) -> None:
    """RFC 5321 4.1.1.2: a second MAIL is a bad sequence."""
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{NEWS}>")
    assert client.say(f"MAIL FROM:<{NEWS}>") == "503 5.5.1 A mail transaction is open already"


def test_the_null_path_of_one_who_may(door: RunningDoor, sender: Sender) -> None:
    """An SMTP user with the right sends bounces; the stored reverse-path is empty."""
    update_smtp_user(sender.smtp_user, actor=SYSTEM, may_send_null=True)
    client = door.signed_in(sender)
    assert client.message("", "a@dest.example", content=content()).startswith("250")
    assert Message.objects.get().reverse_path == ""


def test_a_refusal_is_found_by_its_reference(
    door: RunningDoor, sender: Sender, eventually: Callable[..., None]
) -> None:
    """Every refusal of somebody signed in has a row with the reference that the client was given."""
    client = door.signed_in(sender)
    client.say("MAIL FROM:<news@other.example>")
    eventually(lambda: Refusal.objects.filter(reference=client.references[-1]).exists())
    row = Refusal.objects.get(reference=client.references[-1])
    assert (row.code, row.enhanced_code, row.about) == (550, "5.7.1", "news@other.example")
    assert row.organization_id == sender.smtp_user.organization_id


def test_an_unverified_domain(
    door: RunningDoor, alice_org: Organization, bob_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """On the sandbox route an own unverified domain sends, but never one that another has verified."""
    unverified = sender_of(alice_org, domain="new.example", verified=False)
    assert door.signed_in(unverified).say("MAIL FROM:<a@new.example>") == "250 2.1.0 Sender OK"
    held = add_domain(bob_org, name="bob.example", actor=SYSTEM)
    mark_verified(held, actor=SYSTEM, verified_by=None)
    add_domain(alice_org, name="bob.example", actor=SYSTEM)
    add_sender(unverified.smtp_user, pattern="@bob.example", actor=SYSTEM)
    reply = door.signed_in(unverified).say("MAIL FROM:<a@bob.example>")
    assert reply == "550 5.7.1 The domain bob.example is verified by another organization"


def test_an_unverified_domain_on_a_real_route(
    door: RunningDoor, alice_org: Organization, sender_of: Callable[..., Sender], settings: object
) -> None:
    """Where mail leaves Gatepost, the domain must be verified, and the reply says what to do."""
    settings.GATEPOST_DEFAULT_ROUTE = "smarthost"  # type: ignore[attr-defined]
    unverified = sender_of(alice_org, domain="new.example", verified=False)
    reply = door.signed_in(unverified).say("MAIL FROM:<a@new.example>")
    assert reply == (
        "550 5.7.1 The domain new.example is not verified; publish its TXT record _gatepost, shown under Domains in the"
        " panel"
    )


def test_a_long_session_hears_of_changes(door: RunningDoor, sender: Sender, eventually: Callable[..., None]) -> None:
    """A sender removed or added while a session is open counts at its next MAIL."""
    client = door.signed_in(sender)
    assert client.say(f"MAIL FROM:<{NEWS}>") == "250 2.1.0 Sender OK"
    client.say("RSET")
    remove_sender(sender.smtp_user.senders.get(), actor=SYSTEM)
    eventually(lambda: client.say(f"MAIL FROM:<{NEWS}>").startswith("550 5.7.1 ") or client.say("RSET") == "")
    add_sender(sender.smtp_user, pattern=NEWS, actor=SYSTEM)
    eventually(lambda: client.say(f"MAIL FROM:<{NEWS}>") == "250 2.1.0 Sender OK")
