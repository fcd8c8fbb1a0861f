"""AUTH: every row of its table, with the whole reply, and the true reason in the audit row."""

import base64
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts import organizations
from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import AuthEvent, Reason
from relay import credentials, networks
from tests.smtp.conftest import Client, RunningDoor, Sender, plain

INVALID = "535 5.7.8 Authentication credentials invalid"
OK = "235 2.7.0 Authentication succeeded"


def event_of(client: Client) -> AuthEvent:
    """The audit row of the client's last reference; written within a second."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if event := AuthEvent.objects.filter(reference=client.references[-1]).first():
            return event
        time.sleep(0.05)
    raise AssertionError(f"no audit row with the reference {client.references[-1]}")


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.mark.parametrize("tls", [True, False], ids=["implicit", "starttls"])
def test_right_credentials(door: RunningDoor, sender: Sender, tls: bool) -> None:
    """235 on both ports, and an audit row that says so, with TLS and the client's name."""
    client = door.client(tls=tls)
    if not tls:
        client.say("STARTTLS")
        client.wrap()
        client.say("EHLO client.example")
    assert client.say(f"AUTH PLAIN {sender.plain()}") == OK
    until = time.monotonic() + 5
    while not (event := AuthEvent.objects.first()) and time.monotonic() < until:
        time.sleep(0.05)
    assert event is not None
    assert (event.result, event.reason, event.mechanism) == ("accepted", Reason.OK, "PLAIN")
    assert (event.smtp_user_id, event.app_password_id) == (sender.smtp_user.pk, sender.app_password.pk)
    assert (event.client_name, event.tls_version) == ("client.example", "TLSv1.3")
    sender.app_password.refresh_from_db()
    assert (sender.app_password.last_used_ip, sender.app_password.last_used_client) == ("127.0.0.1", "client.example")


def test_the_username_is_case_blind_and_may_name_the_host(door: RunningDoor, sender: Sender) -> None:
    """`APP.Alice-Works@mail.gatepost.example` is app.alice-works."""
    client = door.client()
    given = f"{sender.username.upper()}@MAIL.gatepost.example"
    assert client.say(f"AUTH PLAIN {plain(given, sender.secret)}") == OK


def test_before_tls_and_before_auth(door: RunningDoor, sender: Sender) -> None:
    """In clear only STARTTLS leads on; under TLS the rest waits for AUTH."""
    clear = door.client(tls=False)
    for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<a@b.example>", "DATA", "VRFY x", "HELP", "BDAT 1"):
        assert clear.say(command) == "530 5.7.0 Must issue a STARTTLS command first"
    client = door.client()
    for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<a@b.example>", "DATA", "VRFY x", "HELP"):
        assert client.say(command) == "530 5.7.0 Authentication required"


def test_auth_in_clear(door: RunningDoor, sender: Sender) -> None:
    """538, and an audit row: somebody may have sent a password in clear."""
    client = door.client(tls=False)
    assert client.say(f"AUTH PLAIN {sender.plain()}") == "538 5.7.11 Encryption required for authentication"
    assert event_of(client).reason == Reason.CLEAR_TEXT


def revoke(sender: Sender) -> None:
    credentials.revoke_app_password(sender.app_password, actor=SYSTEM)


def expire(sender: Sender) -> None:
    sender.app_password.expires_at = timezone.now() - timedelta(seconds=1)
    sender.app_password.save()


def disable(sender: Sender) -> None:
    credentials.disable_smtp_user(sender.smtp_user, actor=SYSTEM)


def fence(sender: Sender) -> None:
    networks.add_network(sender.smtp_user.organization, smtp_user=sender.smtp_user, cidr="192.0.2.0/24", actor=SYSTEM)


def fence_organization(sender: Sender) -> None:
    networks.add_network(sender.smtp_user.organization, cidr="192.0.2.0/24", actor=SYSTEM)


def suspend(sender: Sender) -> None:
    organizations.suspend(sender.smtp_user.organization, reason="unpaid", actor=SYSTEM)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (revoke, Reason.REVOKED),
        (expire, Reason.EXPIRED),
        (disable, Reason.USER_DISABLED),
        (fence, Reason.NETWORK),
        (fence_organization, Reason.NETWORK),
        (suspend, Reason.ORGANIZATION_SUSPENDED),
    ],
)
def test_one_answer_and_its_true_reason(
    door: RunningDoor, sender: Sender, change: Callable[[Sender], None], reason: Reason
) -> None:
    """Whatever is wrong, the same 535 with a reference; the audit row of that reference tells the truth."""
    change(sender)
    client = door.client()
    assert client.say(f"AUTH PLAIN {sender.plain()}") == INVALID
    event = event_of(client)
    assert (event.result, event.reason) == ("refused", reason)
    assert event.organization_id == sender.smtp_user.organization_id
    assert event.smtp_user_id == sender.smtp_user.pk
    assert event.app_password_id == sender.app_password.pk


def test_wrong_and_unknown(door: RunningDoor, sender: Sender, alice: User) -> None:
    """A wrong password, an unknown name and a person's address read alike; the rows differ."""
    client = door.client()
    assert client.say(f"AUTH PLAIN {plain(sender.username, 'gp_wrong')}") == INVALID
    assert event_of(client).reason == Reason.WRONG_PASSWORD
    assert client.say(f"AUTH PLAIN {plain('nobody.alice-works', sender.secret)}") == INVALID
    event = event_of(client)
    assert event.reason == Reason.UNKNOWN_USER
    assert event.organization_id == sender.smtp_user.organization_id
    other = door.client()
    assert other.say(f"AUTH PLAIN {plain(alice.email, 'gravel-Lantern-47-otter')}") == INVALID
    assert event_of(other).reason == Reason.PANEL_PASSWORD


def test_a_failure_takes_a_fixed_time(door: RunningDoor, sender: Sender) -> None:
    """Never sooner than the delay after the response was read."""
    door.server.auth_delay_seconds = 0.2
    client = door.client()
    began = time.monotonic()
    assert client.say(f"AUTH PLAIN {plain(sender.username, 'wrong')}") == INVALID
    assert time.monotonic() - began >= 0.2


def test_mechanisms(door: RunningDoor, sender: Sender) -> None:
    """What is not offered is 504; case does not matter."""
    client = door.client()
    assert client.say("AUTH NTLM") == "504 5.5.4 Unrecognized authentication mechanism"
    assert client.say("AUTH CRAM-MD5 abc") == "504 5.5.4 Unrecognized authentication mechanism"
    assert client.say("AUTH") == "501 5.5.4 Syntax: AUTH mechanism"
    assert client.say(f"auth plain {sender.plain()}") == OK


def test_plain_with_a_challenge(door: RunningDoor, sender: Sender) -> None:
    """`AUTH PLAIN` alone is asked with 334 and a space."""
    client = door.client()
    assert client.say("AUTH PLAIN") == "334 "
    assert client.say(sender.plain()) == OK


def test_giving_up_and_nonsense(door: RunningDoor, sender: Sender) -> None:
    """Cancelled, not base64, empty, and wrong numbers of NULs; the session lives on."""
    client = door.client()
    client.say("AUTH PLAIN")
    assert client.say("*") == "501 5.7.0 Authentication cancelled"
    assert event_of(client).reason == Reason.ABORTED
    undecodable = "501 5.5.2 The response could not be decoded"
    assert client.say("AUTH PLAIN ???") == undecodable
    assert client.say("AUTH PLAIN =") == undecodable
    for message in (b"user", b"\0user", b"a\0b\0c\0d", b"\0\xff\xfe\0x"):
        assert client.say(f"AUTH PLAIN {b64(message)}") == undecodable
    assert client.say(f"AUTH PLAIN {sender.plain()}") == OK


def test_long_responses(door: RunningDoor, sender: Sender) -> None:
    """12,288 octets are read; more is 500 5.5.6, drained and never taken for a command."""
    client = door.client()
    longest = b64(b"\0" + b"u" * 4607 + b"\0" + b"p" * 4607)
    assert len(longest) == 12_288
    assert client.say(f"AUTH PLAIN {longest}") == INVALID
    assert client.say("AUTH PLAIN") == "334 "
    assert client.say("A" * 12_292) == "500 5.5.6 Authentication exchange line is too long"
    client.say("AUTH PLAIN")
    assert client.say("A" * 300_000) == "500 5.5.6 Authentication exchange line is too long"
    assert client.say("NOOP") == "250 2.0.0 OK"


def test_auth_twice_and_within_a_transaction(door: RunningDoor, sender: Sender) -> None:
    """Once is enough, and never after MAIL."""
    client = door.signed_in(sender)
    assert client.say(f"AUTH PLAIN {sender.plain()}") == "503 5.5.1 Already authenticated"
    client.say(f"MAIL FROM:<{sender.address}>")
    assert client.say(f"AUTH PLAIN {sender.plain()}") == "503 5.5.1 Already authenticated"


def test_the_third_failure_ends_the_connection(door: RunningDoor, sender: Sender) -> None:
    """The 535, then 421, then the end."""
    client = door.client()
    for _number in range(3):
        assert client.say(f"AUTH PLAIN {plain(sender.username, 'wrong')}") == INVALID
    assert client.reply() == "421 4.7.0 Too many failed authentications, closing the connection"
    assert client.closed()


def test_empty_and_long_fields(door: RunningDoor, sender: Sender) -> None:
    """An empty username or password is 535; fields of 255 octets are taken."""
    client = door.client()
    assert client.say(f"AUTH PLAIN {plain('', sender.secret)}") == INVALID
    assert client.say(f"AUTH PLAIN {plain(sender.username, '')}") == INVALID
    assert door.client().say(f"AUTH PLAIN {plain('u' * 255, 'p' * 255)}") == INVALID


def test_another_identity(door: RunningDoor, sender: Sender) -> None:
    """An authzid of somebody else is refused, one's own is taken."""
    client = door.client()
    assert client.say(f"AUTH PLAIN {plain(sender.username, sender.secret, 'other.bob')}") == INVALID
    assert event_of(client).reason == Reason.IDENTITY
    assert client.say(f"AUTH PLAIN {plain(sender.username, sender.secret, sender.username)}") == OK


@pytest.mark.parametrize("initial", [True, False])
def test_login(door: RunningDoor, sender: Sender, initial: bool) -> None:
    """The prompts that clients know, and the username as initial response."""
    client = door.client()
    if initial:
        assert client.say(f"AUTH LOGIN {b64(sender.username)}") == "334 UGFzc3dvcmQ6"
    else:
        assert client.say("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert client.say(b64(sender.username)) == "334 UGFzc3dvcmQ6"
    assert client.say(b64(sender.secret)) == OK


def test_a_device_password_needs_its_allowlist(door: RunningDoor, sender: Sender, alice_org: Organization) -> None:
    """The short secret of a printer is read without case and dashes, and refused once its allowlist is gone."""
    row = networks.add_network(alice_org, smtp_user=sender.smtp_user, cidr="127.0.0.0/8", actor=SYSTEM)
    made = credentials.create_app_password(sender.smtp_user, name="printer", kind="device", actor=SYSTEM)
    typed = made.secret.upper().replace("-", " ")
    assert door.client().say(f"AUTH PLAIN {plain(sender.username, typed)}") == OK
    networks.remove_network(row, actor=SYSTEM)
    door.server.directory.forget()
    client = door.client()
    assert client.say(f"AUTH PLAIN {plain(sender.username, typed)}") == INVALID
    assert event_of(client).reason == Reason.NETWORK


def test_revocation_ends_open_sessions(door: RunningDoor, sender: Sender) -> None:
    """An idle session hears 421 at once; nothing it sent afterwards would be accepted."""
    client = door.signed_in(sender)
    credentials.revoke_app_password(sender.app_password, actor=SYSTEM)
    assert client.reply() == "421 4.7.0 The credential was withdrawn, closing the connection"
    assert client.closed()


def test_revocation_within_data(door: RunningDoor, sender: Sender) -> None:
    """Revoked while its content travels, a session hears 421 instead of 250, and nothing is stored."""
    from relay.models import Message

    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    client.say("DATA")
    credentials.revoke_app_password(sender.app_password, actor=SYSTEM)
    client.send(b"From: <news@alice.example>\r\n\r\nHello\r\n.\r\n")
    assert client.reply() == "421 4.7.0 The credential was withdrawn, closing the connection"
    assert not Message.objects.exists()


@pytest.mark.faults
def test_the_database_out_of_reach(door: RunningDoor, sender: Sender, postgres: Any) -> None:
    """454, never 535; and when it is back, the same connection signs in."""
    client = door.client()
    postgres.stop()
    assert client.say(f"AUTH PLAIN {sender.plain()}") == "454 4.7.0 Temporary authentication failure, try again later"
    postgres.start()
    until = time.monotonic() + 10
    while (reply := client.say(f"AUTH PLAIN {sender.plain()}")) != OK and time.monotonic() < until:
        time.sleep(0.2)
    assert reply == OK
