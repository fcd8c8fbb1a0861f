"""SCRAM-SHA-256: the vector of its RFC, every reply of its conversation, and that it tells nobody who exists."""

import base64
import contextlib
import hashlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import Reason
from relay import app_passwords, credentials, networks
from relay.credentials import PasswordState, UserState
from relay.models import Message
from relay.proofs import ScramProof
from relay.smtp import sasl, scram
from relay.smtp.exchanges import CHALLENGE_SECONDS
from relay.smtp.saslprep import Prohibited, prepared
from tests.smtp import real_clients
from tests.smtp.conftest import Client, RunningDoor, Sender, content
from tests.smtp.cyrus import CyrusClient
from tests.smtp.scram_client import ScramClient, b64, said
from tests.smtp.test_auth import INVALID, OK, disable, event_of, expire, fence, revoke, suspend

UNDECODABLE = "501 5.5.2 The response could not be decoded"


def sign_in(client: Client, username: str, secret: str, **spoilt: Any) -> str:
    return ScramClient(client, username, secret, **spoilt).run()


def test_the_vector_of_rfc_7677() -> None:
    """Section 3: challenge, proof and server signature are those of the RFC."""
    first = scram.client_first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    salt, nonce = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    challenge = first.answer(salt=salt, iterations=4096, nonce=nonce)
    whole = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert challenge.text == whole + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    login = challenge.login(b"c=biws," + whole + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    keys = app_passwords.scram_keys("pencil", salt=salt, iterations=4096)
    right = PasswordState(id=2, digest=b"", revoked=False, expires_at=None, scram_keys=(keys,))
    others = [app_passwords.scram_keys(text, salt=salt, iterations=4096) for text in ("pen", "Pencil")]
    wrong = PasswordState(id=1, digest=b"", revoked=False, expires_at=None, scram_keys=tuple(others))
    state = UserState(5, 6, "user", "active", False, (wrong, right))
    assert login.username == "user" and isinstance(login.proof, ScramProof)
    assert login.proof.find(state) is right
    assert scram.server_final(login.proof.signature(right)) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize("initial", [True, False])
def test_a_conversation_and_a_message(door: RunningDoor, sender: Sender, initial: bool) -> None:
    """With and without an initial response; the server proves itself; mail is accepted and names the app password."""
    client = door.client()
    assert ScramClient(client, sender.username, sender.secret).run(initial=initial) == OK
    assert client.message(sender.address, "a@dest.example", content=content(sender.address)).startswith("250 2.0.0 OK")
    message = Message.objects.get()
    assert (message.app_password_id, message.mechanism) == (sender.app_password.pk, "SCRAM-SHA-256")


def test_every_live_app_password(door: RunningDoor, sender: Sender) -> None:
    """Whichever of them it is, and a name in any case."""
    secrets = [credentials.create_app_password(sender.smtp_user, name=f"n{n}", actor=SYSTEM).secret for n in range(3)]
    for secret in (sender.secret, *secrets):
        assert sign_in(door.client(), sender.username.upper(), secret) == OK


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (revoke, Reason.REVOKED),
        (expire, Reason.EXPIRED),
        (disable, Reason.USER_DISABLED),
        (fence, Reason.NETWORK),
        (suspend, Reason.ORGANIZATION_SUSPENDED),
    ],
)
def test_one_answer_and_its_true_reason(
    door: RunningDoor, sender: Sender, change: Callable[[Sender], None], reason: Reason
) -> None:
    """The same steps and the same 535 as for a wrong password; the audit row tells the truth."""
    change(sender)
    client = door.client()
    assert sign_in(client, sender.username, sender.secret) == INVALID
    event = event_of(client)
    assert (event.result, event.reason, event.mechanism) == ("refused", reason, "SCRAM-SHA-256")
    assert event.app_password_id == sender.app_password.pk


def test_wrong_and_unknown(door: RunningDoor, sender: Sender, alice: User) -> None:
    """A wrong password, an unknown name and a person's address: challenge, 535; the rows differ."""
    for username, reason in (
        (sender.username, Reason.WRONG_PASSWORD),
        ("nobody.alice-works", Reason.UNKNOWN_USER),
        (alice.email, Reason.PANEL_PASSWORD),
    ):
        client = door.client()
        exchange = ScramClient(client, username, "gp_wrong")
        assert exchange.final(exchange.first()) == INVALID
        assert exchange.challenge["i"] == "4096"
        assert len(base64.b64decode(exchange.challenge["s"])) == 16
        assert event_of(client).reason == reason


def challenge_of(door: RunningDoor, username: str) -> dict[str, str]:
    return said(ScramClient(door.client(), username, "").first())


def test_the_salt_of_a_name(door: RunningDoor, sender: Sender, alice_org: Organization) -> None:
    """Stable and its own, however it is spelt; and it does not change when the SMTP user is made."""
    before = challenge_of(door, "new.alice-works")
    assert challenge_of(door, "NEW.Alice-Works@mail.gatepost.example")["s"] == before["s"]
    assert challenge_of(door, "other.alice-works")["s"] != before["s"]
    assert challenge_of(door, "new.alice-works")["r"] != before["r"]
    made = credentials.create_smtp_user(alice_org, name="new", excess="refuse", actor=SYSTEM)
    secret = credentials.create_app_password(made, name="x", actor=SYSTEM).secret
    door.server.directory.forget()
    after = challenge_of(door, "new.alice-works")
    assert (after["s"], after["i"]) == (before["s"], before["i"])
    assert sign_in(door.client(), "new.alice-works", secret) == OK


def test_the_challenge_takes_a_fixed_time(door: RunningDoor, sender: Sender) -> None:
    """Never sooner than that, whether the name is in a cache, in the database, or nowhere."""
    door.server.auth_delay_seconds = 0.3
    for username in (sender.username, sender.username, "nobody.alice-works", "nobody.alice-works"):
        exchange = ScramClient(door.client(), username, "gp_wrong")
        began = time.monotonic()
        reply = exchange.first()
        assert time.monotonic() - began >= CHALLENGE_SECONDS
        began = time.monotonic()
        assert exchange.final(reply) == INVALID
        assert time.monotonic() - began >= 0.3 - 0.01  # PBKDF2 and the way back are part of it


def test_a_device_password(door: RunningDoor, sender: Sender, alice_org: Organization) -> None:
    """As it is shown, and without its dashes; and only with an allowlist."""
    row = networks.add_network(alice_org, smtp_user=sender.smtp_user, cidr="127.0.0.0/8", actor=SYSTEM)
    secret = credentials.create_app_password(sender.smtp_user, name="printer", kind="device", actor=SYSTEM).secret
    assert sign_in(door.client(), sender.username, secret) == OK
    assert sign_in(door.client(), sender.username, secret.replace("-", "")) == OK
    networks.remove_network(row, actor=SYSTEM)
    door.server.directory.forget()
    client = door.client()
    assert sign_in(client, sender.username, secret) == INVALID
    assert event_of(client).reason == Reason.NETWORK


def test_channel_binding(door: RunningDoor, sender: Sender) -> None:
    """n and y are taken, since no -PLUS is offered; p= is refused before anything else."""
    client = door.client()
    refused = "501 5.5.4 Channel binding is not offered"
    assert ScramClient(client, sender.username, sender.secret, header="p=tls-exporter,,").run() == refused
    assert event_of(client).reason == Reason.MALFORMED
    assert sign_in(client, sender.username, sender.secret, header="y,,") == OK
    # A y that became an n on its way, as by somebody who hides -PLUS, is found.
    client = door.client()
    assert sign_in(client, sender.username, sender.secret, header="y,,", binding="n,,") == INVALID
    assert event_of(client).reason == Reason.MALFORMED


def test_another_identity(door: RunningDoor, sender: Sender) -> None:
    """Refused after as many steps as ever; one's own is taken."""
    client = door.client()
    assert sign_in(client, sender.username, sender.secret, header="n,a=other.bob,") == INVALID
    assert event_of(client).reason == Reason.IDENTITY
    assert sign_in(client, sender.username, sender.secret, header=f"n,a={sender.username},") == OK


def test_a_proof_of_another_exchange(door: RunningDoor, sender: Sender) -> None:
    """A nonce that is not ours proves nothing, and reads like a wrong password."""
    client = door.client()
    assert sign_in(client, sender.username, sender.secret, nonce="replayed") == INVALID
    assert event_of(client).reason == Reason.MALFORMED


def test_what_cannot_be_read(door: RunningDoor, sender: Sender) -> None:
    """501, at the first message or the second; the session lives on."""
    name = sender.username
    for message in (
        "", "n", "n,", "n,,", "n=a,r=b", "x,,n=a,r=b", "n,b=x,n=a,r=b", "n,,n=,r=b", "n,,n=a,r=", "n,,r=b,n=a",
        "n,,m=ext,n=a,r=b", f"n,,n={name}", f"n,,n={name}=20,r=b", f"n,,n={name}\a,r=b", "n,,n=a,r=b c",
        "n,,n=a,r=" + "b" * 2000,
    ):  # fmt: skip
        client = door.client()
        assert client.say(f"AUTH SCRAM-SHA-256 {b64(message.encode()) or '='}") == UNDECODABLE, message
    client = door.client()
    assert client.say(f"AUTH SCRAM-SHA-256 {b64(b'n,,n=' + bytes([0xFF]) + b',r=b')}") == UNDECODABLE
    for answer in ("", "???", b64(b"c=biws"), b64(b"c=biws,r=x"), b64(b"c=!,r=x,p=AAAA"), b64(b"c=biws,r=x,p=A")):
        assert ScramClient(client, name, sender.secret).first().startswith("334 ")
        assert client.say(answer) == UNDECODABLE
    assert sign_in(client, name, sender.secret) == OK


def test_who_gave_up_is_known(door: RunningDoor, sender: Sender) -> None:
    """The name was said in the first message: the audit row of what went wrong later has it."""
    client = door.client()
    ScramClient(client, sender.username, sender.secret).first()
    assert client.say("*") == "501 5.7.0 Authentication cancelled"
    assert (event_of(client).username_given, event_of(client).reason) == (sender.username, Reason.ABORTED)


def test_a_client_that_does_not_believe_the_server(door: RunningDoor, sender: Sender) -> None:
    """It may cancel at the server's signature, and is not signed in; nor is one that says something to it."""
    client = door.client()
    for answer, reply in (("*", "501 5.7.0 Authentication cancelled"), ("AA==", UNDECODABLE), ("?", UNDECODABLE)):
        exchange = ScramClient(client, sender.username, sender.secret)
        assert "v" in said(exchange.final(exchange.first()))
        assert client.say(answer) == reply
        assert client.say("MAIL FROM:<a@b.example>") == "530 5.7.0 Authentication required"
    assert sign_in(client, sender.username, sender.secret) == OK


def test_revoked_while_the_client_looks(door: RunningDoor, sender: Sender, eventually: Callable[..., None]) -> None:
    """A revocation between the server's signature and the client's assent is a refusal."""
    client = door.client()
    exchange = ScramClient(client, sender.username, sender.secret)
    assert "v" in said(exchange.final(exchange.first()))
    revoke(sender)
    door.server.directory.forget()
    assert client.say("") == INVALID
    assert event_of(client).reason == Reason.REVOKED


def test_three_failures_end_it(door: RunningDoor, sender: Sender) -> None:
    """As with every other mechanism."""
    client = door.client()
    for _number in range(3):
        assert sign_in(client, sender.username, "wrong") == INVALID
    assert client.reply() == "421 4.7.0 Too many failed authentications, closing the connection"
    assert client.closed()


@pytest.mark.faults
def test_the_database_out_of_reach(door: RunningDoor, sender: Sender, postgres: Any) -> None:
    """454 instead of a challenge: nobody is told that a right password is wrong."""
    client = door.client()
    postgres.stop()
    away = "454 4.7.0 Temporary authentication failure, try again later"
    assert ScramClient(client, sender.username, sender.secret).first() == away
    postgres.start()
    until = time.monotonic() + 10
    while (reply := sign_in(client, sender.username, sender.secret)) != OK and time.monotonic() < until:
        time.sleep(0.2)
    assert reply == OK


def test_msmtp(door: RunningDoor, sender: Sender) -> None:
    """GNU SASL signs in, believes the server's signature, and sends."""
    done = real_clients.msmtp(door.starttls_port, "SCRAM-SHA-256", sender.username, sender.secret, sender.address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Message.objects.get().mechanism == "SCRAM-SHA-256"
    done = real_clients.msmtp(door.starttls_port, "SCRAM-SHA-256", sender.username, "gp_wrong", sender.address)
    assert done.returncode != 0 and INVALID in done.stdout


def test_cyrus_sasl(door: RunningDoor, sender: Sender) -> None:
    """What Postfix signs in with chooses SCRAM-SHA-256 from what EHLO lists, and believes the server's signature."""
    client, cyrus = door.client(), CyrusClient(sender.username, sender.secret)
    offered = next(
        line for line in client.say("EHLO client.example").split("\n") if " AUTH " in line or "-AUTH " in line
    )
    chosen, first = cyrus.start(offered[4:].removeprefix("AUTH "))
    assert chosen == "SCRAM-SHA-256"
    reply = client.say(f"AUTH SCRAM-SHA-256 {b64(first)}")
    while reply.startswith("334 "):
        reply = client.say(b64(cyrus.step(base64.b64decode(reply[4:]))))
    assert reply == OK


@pytest.mark.parametrize(
    ("given_text", "meant"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0628", "\u0627\u0628"),
    ],
)
def test_saslprep(given_text: str, meant: str) -> None:
    """The examples of RFC 4013, section 3, a space of another kind, and a name in Arabic letters."""
    assert prepared(given_text) == meant


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "a\u0627", "\ue000", "a\u200eb", "\ufffd", "\x7f"])
def test_saslprep_prohibits(text: str) -> None:
    """Controls, mixed directions, private use, marks of direction and replacement characters."""
    with pytest.raises(Prohibited):
        prepared(text)


def test_names_are_unescaped_and_prepared() -> None:
    """=2C and =3D are a comma and an equals sign; a soft hyphen is nothing."""
    first = scram.client_first("n,a=x=3Dy,n=a=2Cb\u00adc,r=x".encode())
    assert (first.username, first.authzid) == ("a,bc", "x=y")


def test_a_name_that_nobody_can_have_is_not_prepared() -> None:
    """It would hold up every other session: 9 KB of this ligature become 55,000 characters to look at."""
    ligatures = "\ufdfa" * 3000
    assert sasl.name(ligatures.encode()) == ligatures
    assert len(sasl.name("\ufdfa".encode())) == 18


@given(st.binary(max_size=200))
@example(b"n,,n=\xed\xa0\x80,r=x")
def test_no_message_is_a_surprise(message: bytes) -> None:
    """Whatever comes is read, or refused in one of three ways."""
    challenge = scram.client_first(b"n,,n=a,r=b").answer(salt=b"s" * 16, iterations=4096)
    readers: tuple[Callable[[bytes], object], ...] = (
        scram.client_first,
        challenge.login,
        lambda message: sasl.oauthbearer(message, discovery=""),
        sasl.xoauth2,
        lambda message: sasl.cram_md5(message, b"<challenge>"),
    )
    for read in readers:
        with contextlib.suppress(sasl.NotBase64, sasl.Malformed, sasl.ChannelBinding):
            read(message)


def test_a_proof_of_any_length() -> None:
    """Neither an empty nor a long proof fits keys, not even empty ones."""
    keys = (hashlib.sha256(b"").digest(), b""), (b"", b"")
    password = PasswordState(id=1, digest=b"", revoked=False, expires_at=None, scram_keys=keys)
    state = UserState(5, 6, "user", "active", False, (password,))
    for length in (0, 1, 31, 32, 33, 500):
        assert ScramProof(b"auth", b"p" * length).find(state) is None
