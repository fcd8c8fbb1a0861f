"""What an organization has switched off is refused at AUTH, with the one public answer and the true reason."""

import smtplib
import ssl
import time

import pytest

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import Reason
from relay.sign_in_policy import set_policy
from tests.smtp.conftest import RunningDoor, Sender
from tests.smtp.test_auth import INVALID, OK, b64, event_of


def old_client(door: RunningDoor) -> smtplib.SMTP_SSL:
    """One that knows nothing newer than TLS 1.2."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return smtplib.SMTP_SSL("127.0.0.1", door.tls_port, context=context, timeout=20)


def test_a_mechanism_that_is_switched_off(door: RunningDoor, sender: Sender, alice_org: Organization) -> None:
    """LOGIN gets 535 with the right password; PLAIN goes on; switched on again, LOGIN works again within a second."""
    set_policy(alice_org, refused_mechanisms=["LOGIN"], actor=SYSTEM)
    client = door.client()
    client.say(f"AUTH LOGIN {b64(sender.username)}")
    assert client.say(b64(sender.secret)) == INVALID
    event = event_of(client)
    assert (event.result, event.reason, event.mechanism) == ("refused", Reason.MECHANISM_REFUSED, "LOGIN")
    assert (event.smtp_user_id, event.app_password_id) == (sender.smtp_user.pk, sender.app_password.pk)
    assert client.say(f"AUTH PLAIN {sender.plain()}") == OK
    set_policy(alice_org, refused_mechanisms=[], actor=SYSTEM)
    again, until = door.client(), time.monotonic() + 3
    again.say(f"AUTH LOGIN {b64(sender.username)}")
    while (reply := again.say(b64(sender.secret))) != OK and time.monotonic() < until:
        again = door.client()
        again.say(f"AUTH LOGIN {b64(sender.username)}")
    assert reply == OK


def test_a_wrong_password_stays_a_wrong_password(door: RunningDoor, sender: Sender, alice_org: Organization) -> None:
    """The policy tells nothing to who does not have the secret, and hides no guess from the audit."""
    set_policy(alice_org, refused_mechanisms=["LOGIN"], actor=SYSTEM)
    client = door.client()
    client.say(f"AUTH LOGIN {b64(sender.username)}")
    assert client.say(b64("gp_" + "0" * 28)) == INVALID
    assert event_of(client).reason == Reason.WRONG_PASSWORD


def test_an_old_tls_version(door: RunningDoor, sender: Sender, alice_org: Organization) -> None:
    """TLS 1.2 signs in until the organization asks for 1.3; then it gets 535, and 1.3 goes on."""
    with old_client(door) as before:
        assert before.login(sender.username, sender.secret)[0] == 235
    set_policy(alice_org, tls_least="TLSv1.3", actor=SYSTEM)
    until = time.monotonic() + 3  # told at once; asked for every two seconds in any case
    with old_client(door) as client:
        client.ehlo("old.example")
        while (answer := client.docmd("AUTH", f"PLAIN {sender.plain()}"))[0] == 235 and time.monotonic() < until:
            client.close()
            client.connect("127.0.0.1", door.tls_port)
            client.ehlo("old.example")
        assert answer[0] == 535 and answer[1].startswith(b"5.7.8 Authentication credentials invalid [ref ")
    reference = answer[1].decode().rpartition("[ref ")[2][:-1]
    new = door.client()
    new.references.append(reference)
    event = event_of(new)
    assert (event.reason, event.tls_version) == (Reason.TLS_REFUSED, "TLSv1.2")
    assert new.say(f"AUTH PLAIN {sender.plain()}") == OK


@pytest.mark.usefixtures("bob_org")
def test_another_organizations_policy_does_not_matter(door: RunningDoor, sender: Sender, bob_org: Organization) -> None:
    """Bob's rule binds bob alone."""
    set_policy(bob_org, refused_mechanisms=["LOGIN", "PLAIN"], tls_least="TLSv1.3", actor=SYSTEM)
    assert door.client().say(f"AUTH PLAIN {sender.plain()}") == OK
