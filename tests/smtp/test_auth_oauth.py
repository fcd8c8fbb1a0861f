"""OAUTHBEARER and XOAUTH2: every reply of their conversations, whose session it is, and when it ends."""

import asyncio
import base64
import contextlib
import json
import smtplib
import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as conf
from django.db import connection
from django.utils import timezone

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import AuthEvent, Reason
from relay import credentials, submission
from relay.models import Message, SmtpUser
from relay.oauth.models import OAuthAccessToken
from relay.oauth.sessions import end_token_sessions
from relay.smtp import sasl
from tests.relay.oauth.conftest import make_issuer, make_signer, make_token
from tests.smtp import real_clients
from tests.smtp.conftest import Client, RunningDoor, Sender, content
from tests.smtp.test_auth import INVALID, OK, b64, disable, event_of, fence, suspend

UNDECODABLE = "501 5.5.2 The response could not be decoded"
DISCOVERY = f"{conf.GATEPOST_WEB_URL}/.well-known/oauth-authorization-server"
BEARER_ERROR = {"status": "invalid_token", "scope": "smtp.send", "openid-configuration": DISCOVERY}
XOAUTH2_ERROR = {"status": "400", "schemes": "Bearer", "scope": "smtp.send"}
ERRORS = {"OAUTHBEARER": BEARER_ERROR, "XOAUTH2": XOAUTH2_ERROR}
MECHANISMS = list(ERRORS)


def bearer(token: str, username: str = "") -> str:
    authzid = f"a={username}" if username else ""
    return b64(f"n,{authzid},\x01host=mail.gatepost.example\x01port=465\x01auth=Bearer {token}\x01\x01")


def xoauth2(token: str, username: str) -> str:
    return b64(f"user={username}\x01auth=Bearer {token}\x01\x01")


def message_of(mechanism: str, token: str, username: str) -> str:
    return bearer(token, username) if mechanism == "OAUTHBEARER" else xoauth2(token, username)


def said(reply: str) -> Any:
    """The JSON of an error that came as challenge."""
    assert reply.startswith("334 "), reply
    return json.loads(base64.b64decode(reply[4:]))


def refused(client: Client, mechanism: str, token: str, username: str, answer: str = "AQ==") -> str:
    """The reply after the error and the client's word to it."""
    assert said(client.say(f"AUTH {mechanism} {message_of(mechanism, token, username)}")) == ERRORS[mechanism]
    return client.say(answer)


@pytest.fixture
def token(sender: Sender) -> str:
    return make_token(sender.smtp_user)


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_token_signs_in_and_sends(
    door: RunningDoor, sender: Sender, token: str, mechanism: str, initial: bool
) -> None:
    """With and without an initial response; the message has no app password, and its audit row names the SMTP user."""
    client, words = door.client(), message_of(mechanism, token, sender.username)
    if initial:
        assert client.say(f"AUTH {mechanism} {words}") == OK
    else:
        assert client.say(f"AUTH {mechanism}") == "334 "
        assert client.say(words) == OK
    sent = client.message(sender.address, "a@dest.example", content=content(sender.address))
    assert sent.startswith("250 2.0.0 OK: queued as ")
    message = Message.objects.get()
    assert (message.smtp_user_id, message.app_password_id) == (sender.smtp_user.pk, None)
    assert message.mechanism == mechanism


def test_a_token_names_its_smtp_user_by_itself(
    door: RunningDoor, sender: Sender, token: str, eventually: Callable[..., None]
) -> None:
    """OAUTHBEARER without a= signs in whom the token is for, and the audit row has the name."""
    client = door.client()
    assert client.say(f"AUTH OAUTHBEARER {bearer(token)}") == OK
    assert client.message(sender.address, "a@dest.example", content=content(sender.address)).startswith("250")
    eventually(lambda: AuthEvent.objects.filter(username_given=sender.username, result="accepted").exists())


def test_a_token_of_an_outside_issuer(door: RunningDoor, sender: Sender) -> None:
    """A JWT of an issuer that the organization trusts signs in the SMTP user that its claim names."""
    signer = make_signer("ES256")
    make_issuer(sender.smtp_user.organization, signer)
    token = signer.token({"smtp_user": sender.username})
    for mechanism in MECHANISMS:
        assert door.client().say(f"AUTH {mechanism} {message_of(mechanism, token, sender.username)}") == OK
    assert refused(door.client(), "XOAUTH2", signer.token({"smtp_user": "x.alice-works"}), sender.username) == INVALID


@pytest.mark.parametrize("answer", ["AQ==", "*", "", "???", "QUIT"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_bad_token(door: RunningDoor, sender: Sender, mechanism: str, answer: str) -> None:
    """The error in JSON, then the 535, whatever the client says to it; it is never taken for a command."""
    client = door.client()
    assert refused(client, mechanism, "gpo_wrong", sender.username, answer) == INVALID
    event = event_of(client)
    assert (event.reason, event.mechanism, event.smtp_user_id) == (Reason.BAD_TOKEN, mechanism, sender.smtp_user.pk)
    assert client.say("NOOP") == "250 2.0.0 OK"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_wrong_and_unknown(door: RunningDoor, sender: Sender, alice: User, token: str, mechanism: str) -> None:
    """An unknown name, a person's and a wrong token: the same error, the same 535; the rows differ."""
    for username, shown, reason in (
        ("nobody.alice-works", token, Reason.UNKNOWN_USER),
        (alice.email, token, Reason.PANEL_PASSWORD),
        (sender.username, token[:-1] + "~", Reason.BAD_TOKEN),
        (sender.username, sender.secret, Reason.BAD_TOKEN),
    ):
        client = door.client()
        assert refused(client, mechanism, shown, username) == INVALID
        assert event_of(client).reason == reason


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_token_never_signs_in_another(
    door: RunningDoor,
    sender: Sender,
    token: str,
    bob_org: Organization,
    sender_of: Callable[..., Sender],
    mechanism: str,
) -> None:
    """Neither another SMTP user of the organization nor one of another."""
    colleague = credentials.create_smtp_user(sender.smtp_user.organization, name="other", excess="refuse", actor=SYSTEM)
    stranger = sender_of(bob_org, name="bob", domain="bob.example").smtp_user
    for other in (colleague, stranger):
        client = door.client()
        assert refused(client, mechanism, token, other.username) == INVALID
        event = event_of(client)
        assert (event.reason, event.smtp_user_id) == (Reason.TOKEN_OF_ANOTHER, other.pk)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (disable, Reason.USER_DISABLED),
        (fence, Reason.NETWORK),
        (suspend, Reason.ORGANIZATION_SUSPENDED),
    ],
)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_stands_against_its_smtp_user(
    door: RunningDoor, sender: Sender, token: str, mechanism: str, change: Callable[[Sender], None], reason: Reason
) -> None:
    """Disabled, suspended, outside the allowlist: as for an app password."""
    change(sender)
    client = door.client()
    assert refused(client, mechanism, token, sender.username) == INVALID
    assert event_of(client).reason == reason


def test_an_expired_token(door: RunningDoor, sender: Sender) -> None:
    """Refused with its own reason in the audit row alone."""
    client = door.client()
    old = make_token(sender.smtp_user, life=timedelta(seconds=-1))
    assert refused(client, "XOAUTH2", old, sender.username) == INVALID
    assert event_of(client).reason == Reason.TOKEN_EXPIRED


def test_a_token_of_another_scope(door: RunningDoor, sender: Sender) -> None:
    """smtp.send it must be."""
    client = door.client()
    assert refused(client, "OAUTHBEARER", make_token(sender.smtp_user, scope="read"), sender.username) == INVALID
    assert event_of(client).reason == Reason.BAD_TOKEN


def test_no_token_at_all(door: RunningDoor, sender: Sender) -> None:
    """Another scheme or none is told so in OAUTHBEARER, and refused like a bad token."""
    missing = {**BEARER_ERROR, "status": "invalid_request"}
    client = door.client()
    assert said(client.say("AUTH OAUTHBEARER " + b64("n,,\x01auth=Basic abc\x01\x01"))) == missing
    assert client.say("AQ==") == INVALID
    assert event_of(client).reason == Reason.MALFORMED
    assert said(client.say("AUTH OAUTHBEARER " + b64("n,,\x01\x01"))) == missing
    assert client.say("AQ==") == INVALID
    client = door.client()
    assert said(client.say("AUTH XOAUTH2 " + b64(f"user={sender.username}\x01\x01"))) == XOAUTH2_ERROR
    assert client.say("") == INVALID


def test_what_cannot_be_read(door: RunningDoor, sender: Sender, token: str) -> None:
    """501 without a challenge; cancelling is 501 too; the session lives on."""
    client = door.client()
    for words in ("???", "=", b64("n,,"), b64(f"auth=Bearer {token}\x01\x01"), b64("n,,\x01auth\x01\x01"),
                  b64("n,,\x01auth=a\x01auth=b\x01\x01"), b64(b"n,,\x01auth=\xff\x01\x01")):  # fmt: skip
        assert client.say(f"AUTH OAUTHBEARER {words}") == UNDECODABLE
    client = door.client()
    for words in ("=", b64("user=x"), b64(f"auth=Bearer {token}\x01\x01")):
        assert client.say(f"AUTH XOAUTH2 {words}") == UNDECODABLE
    bound = b64(f"p=tls-exporter,,\x01auth=Bearer {token}\x01\x01")
    assert client.say(f"AUTH OAUTHBEARER {bound}") == "501 5.5.4 Channel binding is not offered"
    client.say("AUTH XOAUTH2")
    assert client.say("*") == "501 5.7.0 Authentication cancelled"
    assert client.say(f"AUTH XOAUTH2 {xoauth2(token, sender.username)}") == OK


def test_where_to_get_a_token_is_told(client: Any) -> None:
    """The address in the error answers anybody, with the endpoint that issues tokens."""
    found = client.get(DISCOVERY.removeprefix(conf.GATEPOST_WEB_URL))
    assert found.status_code == 200
    assert found.json()["token_endpoint"].startswith(conf.GATEPOST_WEB_URL)


def test_a_failure_takes_a_fixed_time(door: RunningDoor, sender: Sender) -> None:
    """The error is never told sooner than a wrong password would be."""
    door.server.auth_delay_seconds = 0.2
    for username in (sender.username, "nobody.alice-works"):
        client = door.client()
        began = time.monotonic()
        client.say(f"AUTH XOAUTH2 {xoauth2('gpo_wrong', username)}")
        assert time.monotonic() - began >= 0.2
        assert client.say("") == INVALID


def test_a_long_token(door: RunningDoor, sender: Sender) -> None:
    """An initial response of 12,288 octets is read to its end."""
    filler = "t" * (9216 - len("n,,\x01auth=Bearer \x01\x01"))
    longest = b64(f"n,,\x01auth=Bearer {filler}\x01\x01")
    assert len(longest) == 12_288
    client = door.client()
    assert said(client.say(f"AUTH OAUTHBEARER {longest}")) == BEARER_ERROR
    assert client.say("AQ==") == INVALID
    assert client.say(f"AUTH OAUTHBEARER {longest}AAAA") == "500 5.5.6 Authentication exchange line is too long"


# --- How a session ends ----------------------------------------------------------------------------------------------


def signed_in(door: RunningDoor, sender: Sender, token: str) -> Client:
    client = door.client()
    assert client.say(f"AUTH XOAUTH2 {xoauth2(token, sender.username)}") == OK
    return client


WITHDRAWN = "421 4.7.0 The credential was withdrawn, closing the connection"
TOKEN_ENDED = "421 4.7.0 The access token has expired, closing the connection"


def end_tokens(sender: Sender) -> None:
    end_token_sessions(sender.smtp_user.organization_id, smtp_user_id=sender.smtp_user.pk)


@pytest.mark.parametrize("end", [disable, suspend, end_tokens])
def test_withdrawn_while_idle(door: RunningDoor, sender: Sender, token: str, end: Callable[[Sender], None]) -> None:
    """Its SMTP user disabled, the organization suspended, its tokens ended: 421 at once."""
    client = signed_in(door, sender, token)
    end(sender)
    assert client.reply() == WITHDRAWN
    assert client.closed()


def test_ending_tokens_leaves_app_passwords(door: RunningDoor, sender: Sender, token: str) -> None:
    """And revoking an app password leaves sessions of tokens."""
    by_password, by_token = door.signed_in(sender), signed_in(door, sender, token)
    other = credentials.create_app_password(sender.smtp_user, name="other", actor=SYSTEM)
    credentials.revoke_app_password(other.app_password, actor=SYSTEM)
    end_tokens(sender)
    assert by_token.reply() == WITHDRAWN
    assert by_password.say("NOOP") == "250 2.0.0 OK"


def test_of_another_smtp_user_nothing_ends(door: RunningDoor, sender: Sender, token: str) -> None:
    """Ending the tokens of one SMTP user concerns nobody else."""
    other = credentials.create_smtp_user(sender.smtp_user.organization, name="other", excess="refuse", actor=SYSTEM)
    client = signed_in(door, sender, token)
    end_token_sessions(other.organization_id, smtp_user_id=other.pk)
    assert client.message(sender.address, "a@dest.example", content=content(sender.address)).startswith("250")


def test_the_transaction_has_the_last_word(door: RunningDoor, sender: Sender, token: str) -> None:
    """With no word to the process, and the token's rows still there, a higher epoch alone refuses the message."""
    client = signed_in(door, sender, token)
    SmtpUser.objects.filter(pk=sender.smtp_user.pk).update(token_epoch=1)
    assert client.message(sender.address, "a@dest.example", content=content(sender.address)) == WITHDRAWN
    assert not Message.objects.exists()


def test_a_token_that_ends_while_idle(door: RunningDoor, sender: Sender) -> None:
    """421 within about a second of its end, by the words for it."""
    client = signed_in(door, sender, make_token(sender.smtp_user, life=timedelta(seconds=1)))
    assert client.reply() == TOKEN_ENDED
    assert client.closed()


def test_a_token_that_ends_within_data(door: RunningDoor, sender: Sender) -> None:
    """The message is not accepted: PostgreSQL's clock decides in the accepting transaction."""
    client = signed_in(door, sender, make_token(sender.smtp_user, life=timedelta(seconds=2)))
    client.say(f"MAIL FROM:<{sender.address}>")
    client.say("RCPT TO:<a@dest.example>")
    client.say("DATA")
    ends = OAuthAccessToken.objects.get().expires
    while timezone.now() < ends + timedelta(milliseconds=50):  # what is waited for is time itself
        time.sleep(0.05)
    client.send(content(sender.address))
    assert client.reply() == TOKEN_ENDED
    assert not Message.objects.exists()


def test_a_token_that_ends_as_it_is_read(
    door: RunningDoor, sender: Sender, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch is read before the token: one that ends right after it was found good opens nothing that can send."""
    verify = submission.verify_token

    async def overtaken(*words: Any, **more: Any) -> Any:
        found = await verify(*words, **more)
        await asyncio.to_thread(_in_thread, lambda: end_tokens(sender))
        door.server.directory.forget()
        return found

    monkeypatch.setattr(submission, "verify_token", overtaken)
    client = door.client()
    assert client.say(f"AUTH OAUTHBEARER {bearer(token)}") == OK
    with contextlib.suppress(ConnectionResetError, BrokenPipeError, AssertionError):  # 421 may come at any step
        client.message(sender.address, "a@dest.example", content=content(sender.address))
    assert not Message.objects.exists()


def _in_thread(change: Callable[[], None]) -> None:
    """A change by a connection of its own."""
    try:
        change()
    finally:
        connection.close()


@pytest.mark.faults
def test_the_database_out_of_reach(door: RunningDoor, sender: Sender, token: str, postgres: Any) -> None:
    """454 at once, never 535 and never an error in JSON."""
    client = door.client()
    postgres.stop()
    away = "454 4.7.0 Temporary authentication failure, try again later"
    assert client.say(f"AUTH XOAUTH2 {xoauth2(token, sender.username)}") == away
    postgres.start()
    until = time.monotonic() + 10
    while (reply := client.say(f"AUTH XOAUTH2 {xoauth2(token, sender.username)}")) != OK and time.monotonic() < until:
        time.sleep(0.2)
    assert reply == OK


# --- Real clients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_msmtp(door: RunningDoor, sender: Sender, token: str, mechanism: str) -> None:
    """Signs in and sends; a bad token ends with our 535."""
    done = real_clients.msmtp(door.starttls_port, mechanism, sender.username, token, sender.address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Message.objects.get().mechanism == mechanism
    done = real_clients.msmtp(door.starttls_port, mechanism, sender.username, "gpo_wrong", sender.address)
    assert done.returncode != 0 and INVALID in done.stdout


def test_curl(door: RunningDoor, sender: Sender, token: str) -> None:
    """--oauth2-bearer signs in and sends; a bad token ends with our 535."""
    done = real_clients.curl(door.tls_port, sender.username, token, sender.address)
    assert done.returncode == 0, done.stderr
    assert Message.objects.get().mechanism == "OAUTHBEARER"
    done = real_clients.curl(door.tls_port, sender.username, "gpo_wrong", sender.address)
    assert done.returncode == 67 and INVALID in done.stderr  # CURLE_LOGIN_DENIED


def test_nodemailer(door: RunningDoor, sender: Sender, token: str) -> None:
    """XOAUTH2 with an access token signs in and sends; a bad token ends with our 535."""
    auth = {"type": "OAuth2", "user": sender.username, "accessToken": token}
    done = real_clients.nodemailer(door.tls_port, auth, sender.address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("250 2.0.0 OK: queued as ")
    assert Message.objects.get().mechanism == "XOAUTH2"
    done = real_clients.nodemailer(door.tls_port, {**auth, "accessToken": "gpo_wrong"}, sender.address)
    assert done.returncode == 1 and done.stdout.startswith(INVALID)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_smtplib(door: RunningDoor, sender: Sender, token: str, mechanism: str) -> None:
    """Python's own library, with an authobject of three lines as its manual shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    words = base64.b64decode(message_of(mechanism, token, sender.username)).decode()
    with smtplib.SMTP_SSL("127.0.0.1", door.tls_port, context=context) as client:
        client.ehlo()
        code, text = client.auth(mechanism, lambda challenge=None: words if challenge is None else "\x01")
        assert (code, text) == (235, b"2.7.0 Authentication succeeded")
        client.sendmail(sender.address, ["a@dest.example"], b"From: " + sender.address.encode() + b"\r\n\r\nHello")
    assert Message.objects.get().mechanism == mechanism


def test_messages_are_told_apart() -> None:
    """host, port and unknown pairs say nothing; the scheme's case does not matter; a^A end is needed."""
    login = sasl.oauthbearer(
        b"n,a=app.alice,\x01host=h\x01port=1\x01x=y\x01auth=bearer  t.o-k~+/=\x01\x01", discovery=DISCOVERY
    )
    assert (login.username, login.token) == ("app.alice", "t.o-k~+/=")
    assert "token" not in repr(login) or "t.o-k" not in repr(login)
    login = sasl.xoauth2(b"user=App.Alice\x01auth=Bearer abc\x01\x01")
    assert (login.username, login.token) == ("App.Alice", "abc")
    with pytest.raises(sasl.Malformed):
        sasl.xoauth2(b"user=App.Alice\x01auth=Bearer abc")
