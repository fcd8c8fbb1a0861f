"""CRAM-MD5: the vector of its RFC, both switches, and that only app passwords made while it is on work with it."""

import base64
import hashlib
import hmac
import re
import smtplib
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.test import override_settings

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent, Reason
from relay import cram_md5, credentials, networks
from relay.credentials import PasswordState, UserState
from relay.models import AppPassword, Message
from relay.proofs import CramDigest
from relay.sealed import sealed
from relay.smtp import sasl
from tests.smtp import real_clients
from tests.smtp.conftest import Client, RunningDoor, Sender
from tests.smtp.test_auth import INVALID, OK, b64, disable, event_of, expire, fence, revoke

UNDECODABLE = "501 5.5.2 The response could not be decoded"


@pytest.fixture(autouse=True)
def _allowed(settings: Any) -> None:
    settings.GATEPOST_CRAM_MD5 = True


@pytest.fixture
def device(sender: Sender) -> Sender:
    """The sender with CRAM-MD5 on, and an app password made since."""
    cram_md5.enable(sender.smtp_user, actor=SYSTEM)
    made = credentials.create_app_password(sender.smtp_user, name="device", actor=SYSTEM)
    return Sender(sender.smtp_user, made.app_password, made.secret, sender.address)


def challenged(client: Client) -> bytes:
    reply = client.say("AUTH CRAM-MD5")
    assert reply.startswith("334 "), reply
    return base64.b64decode(reply[4:])


def sign_in(client: Client, username: str, secret: str) -> str:
    digest = hmac.new(secret.encode(), challenged(client), hashlib.md5).hexdigest()
    return client.say(b64(f"{username} {digest}"))


def test_the_vector_of_rfc_2195() -> None:
    """Section 2: tim's response to the challenge of 1997 proves his secret, and no other."""
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    login = sasl.cram_md5(base64.b64decode("dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"), challenge)
    states = [
        PasswordState(id=id, digest=b"", revoked=False, expires_at=None, cram_md5_secret=sealed(secret))
        for id, secret in enumerate(("tanstaaftanstaa", "tanstaaftanstaaf"))
    ]
    state = UserState(5, 6, "tim", "active", False, tuple(states), cram_md5=True)
    assert login.username == "tim" and isinstance(login.proof, CramDigest)
    assert login.proof.find(state) is states[1]
    off = UserState(5, 6, "tim", "active", False, tuple(states), cram_md5=False)
    assert login.proof.find(off) is None


def test_it_is_listed_only_where_the_installation_allows_it(door: RunningDoor, sender: Sender, settings: Any) -> None:
    """EHLO and 504 follow the setting."""
    assert "AUTH PLAIN LOGIN SCRAM-SHA-256 OAUTHBEARER XOAUTH2 CRAM-MD5" in door.client().say("EHLO client.example")
    settings.GATEPOST_CRAM_MD5 = False
    client = door.client()
    assert "CRAM-MD5" not in client.say("EHLO client.example")
    assert client.say("AUTH CRAM-MD5") == "504 5.5.4 Unrecognized authentication mechanism"


def test_a_device_signs_in_and_sends(door: RunningDoor, device: Sender) -> None:
    """235, and the message names the mechanism and the app password; every challenge is another one."""
    client = door.client()
    first, second = challenged(client), None
    assert client.say("*") == "501 5.7.0 Authentication cancelled"
    second = challenged(client)
    assert first != second and re.fullmatch(rb"<[0-9a-f]{24}\.\d{10}@mail\.gatepost\.example>", second)
    assert client.say("*") == "501 5.7.0 Authentication cancelled"
    assert sign_in(client, device.username.upper(), device.secret) == OK
    sent = client.message(
        device.address, "a@dest.example", content=f"From: {device.address}\r\n\r\nx\r\n.\r\n".encode()
    )
    assert sent.startswith("250 2.0.0 OK: queued as ")
    message = Message.objects.get()
    assert (message.app_password_id, message.mechanism) == (device.app_password.pk, "CRAM-MD5")


def test_the_server_speaks_first(door: RunningDoor, device: Sender) -> None:
    """An initial response is refused, even the empty one."""
    client = door.client()
    for initial in (b64("tim b913a602c7eda7a495b4e6e7334d3890"), "="):
        assert client.say(f"AUTH CRAM-MD5 {initial}") == "501 5.7.0 This mechanism takes no initial response"
        assert event_of(client).reason == Reason.MALFORMED


def test_only_those_made_while_it_is_on(door: RunningDoor, sender: Sender, device: Sender) -> None:
    """The app password from before works by PLAIN as ever, and its secret is nowhere."""
    client = door.client()
    assert sign_in(client, sender.username, sender.secret) == INVALID
    assert event_of(client).reason == Reason.WRONG_PASSWORD
    assert client.say(f"AUTH PLAIN {sender.plain()}") == OK
    assert AppPassword.objects.get(pk=sender.app_password.pk).cram_md5_secret is None
    kept = bytes(AppPassword.objects.get(pk=device.app_password.pk).cram_md5_secret or b"")
    assert kept and device.secret.encode() not in kept


def test_off_again(door: RunningDoor, device: Sender) -> None:
    """Nothing is kept any more, the true reason says so, PLAIN goes on; switched on again, a new one is needed."""
    cram_md5.disable(device.smtp_user, actor=SYSTEM)
    door.server.directory.forget()
    client = door.client()
    assert sign_in(client, device.username, device.secret) == INVALID
    assert event_of(client).reason == Reason.MECHANISM_OFF
    assert client.say(f"AUTH PLAIN {device.plain()}") == OK
    assert not AppPassword.objects.exclude(cram_md5_secret=None).exists()
    cram_md5.enable(device.smtp_user, actor=SYSTEM)
    door.server.directory.forget()
    client = door.client()
    assert sign_in(client, device.username, device.secret) == INVALID
    assert event_of(client).reason == Reason.MECHANISM_OFF


@pytest.mark.parametrize("change", [expire, disable, fence])
def test_what_stands_against_it(door: RunningDoor, device: Sender, change: Callable[[Sender], None]) -> None:
    """As for every mechanism: the same 535, the true reason in the audit row."""
    change(device)
    client = door.client()
    assert sign_in(client, device.username, device.secret) == INVALID
    assert event_of(client).reason in {Reason.EXPIRED, Reason.USER_DISABLED, Reason.NETWORK}
    assert event_of(client).app_password_id == device.app_password.pk


def test_a_revoked_one_is_forgotten(door: RunningDoor, device: Sender) -> None:
    """Its secret is deleted with the revocation, so nobody can tell any more that it was right."""
    revoke(device)
    assert AppPassword.objects.get(pk=device.app_password.pk).cram_md5_secret is None
    client = door.client()
    assert sign_in(client, device.username, device.secret) == INVALID


def test_wrong_and_unknown(door: RunningDoor, device: Sender, alice: User) -> None:
    """Read alike; the rows differ."""
    for username, reason in (
        (device.username, Reason.WRONG_PASSWORD),
        ("nobody.alice-works", Reason.UNKNOWN_USER),
        (alice.email, Reason.PANEL_PASSWORD),
    ):
        client = door.client()
        assert sign_in(client, username, "gp_wrong") == INVALID
        assert event_of(client).reason == reason


def test_a_response_of_another_exchange(door: RunningDoor, device: Sender) -> None:
    """The digest of an earlier challenge proves nothing."""
    client = door.client()
    old = hmac.new(device.secret.encode(), challenged(client), hashlib.md5).hexdigest()
    client.say("*")
    challenged(client)
    assert client.say(b64(f"{device.username} {old}")) == INVALID


def test_what_cannot_be_read(door: RunningDoor, device: Sender) -> None:
    """501; the session lives on."""
    client = door.client()
    for answer in ("", "???", b64(device.username), b64(f"{device.username} abc"), b64(f"{device.username} {'A' * 32}"),
                   b64(b"\xff " + b"a" * 32)):  # fmt: skip
        challenged(client)
        assert client.say(answer) == UNDECODABLE
    assert sign_in(client, device.username, device.secret) == OK


def test_a_device_password(door: RunningDoor, device: Sender, alice_org: Organization) -> None:
    """With its dashes and without."""
    networks.add_network(alice_org, smtp_user=device.smtp_user, cidr="127.0.0.0/8", actor=SYSTEM)
    made = credentials.create_app_password(device.smtp_user, name="camera", kind="device", actor=SYSTEM)
    assert sign_in(door.client(), device.username, made.secret) == OK
    assert sign_in(door.client(), device.username, made.secret.replace("-", "")) == OK


def test_keys_are_rotated(door: RunningDoor, device: Sender, settings: Any) -> None:
    """A new key in front: what the old one sealed still opens. Without the old one it does not; the rest works on."""
    old = list(settings.GATEPOST_ENCRYPTION_KEYS)
    new = Fernet.generate_key().decode()
    settings.GATEPOST_ENCRYPTION_KEYS = [new, *old]
    assert sign_in(door.client(), device.username, device.secret) == OK
    settings.GATEPOST_ENCRYPTION_KEYS = [new]
    client = door.client()
    assert sign_in(client, device.username, device.secret) == INVALID
    assert client.say(f"AUTH PLAIN {device.plain()}") == OK


def test_where_it_is_not_allowed(alice_org: Organization, sender_of: Callable[..., Sender], settings: Any) -> None:
    """It cannot be switched on, and app passwords of those who had it on keep no secret; off works."""
    sender = sender_of(alice_org)
    cram_md5.enable(sender.smtp_user, actor=SYSTEM)
    with override_settings(GATEPOST_CRAM_MD5=False):
        other = credentials.create_smtp_user(alice_org, name="other", excess="refuse", actor=SYSTEM)
        with pytest.raises(cram_md5.NotAllowed):
            cram_md5.enable(other, actor=SYSTEM)
        made = credentials.create_app_password(sender.smtp_user, name="late", actor=SYSTEM)
        assert made.app_password.cram_md5_secret is None
        cram_md5.disable(sender.smtp_user, actor=SYSTEM)
    actions = list(ChangeEvent.objects.filter(action__contains="cram_md5").values_list("action", flat=True))
    assert sorted(actions) == ["smtp_user.cram_md5_disabled", "smtp_user.cram_md5_enabled"]


def test_smtplib_chooses_it(door: RunningDoor, device: Sender) -> None:
    """Python prefers CRAM-MD5 where it is listed; where it is off for the SMTP user it goes on to PLAIN."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP_SSL("127.0.0.1", door.tls_port, context=context) as client:
        assert client.login(device.username, device.secret)[0] == 235
        client.sendmail(device.address, ["a@dest.example"], f"From: {device.address}\r\n\r\nx".encode())
    assert Message.objects.get().mechanism == "CRAM-MD5"
    cram_md5.disable(device.smtp_user, actor=SYSTEM)
    door.server.directory.forget()
    with smtplib.SMTP_SSL("127.0.0.1", door.tls_port, context=context) as client:
        assert client.login(device.username, device.secret)[0] == 235


def test_msmtp(door: RunningDoor, device: Sender) -> None:
    """Signs in and sends."""
    done = real_clients.msmtp(door.starttls_port, "CRAM-MD5", device.username, device.secret, device.address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Message.objects.get().mechanism == "CRAM-MD5"
