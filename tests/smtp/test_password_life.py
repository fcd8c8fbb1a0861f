"""At the door: app passwords that sleep, canaries, and secrets where none belongs."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import Organization
from audit.anomalies.models import Anomaly, Kind
from audit.changes import SYSTEM
from audit.models import AuthEvent
from relay import alarms
from relay.app_passwords import make_app_secret
from relay.credentials import create_app_password, create_smtp_user, revoke_app_password
from relay.models import AppPassword, CredentialAlarm, Message
from relay.password_life import put_to_sleep, rotate_app_password, wake_app_password
from tests.smtp.conftest import RunningDoor, Sender, content, plain
from tests.smtp.scram_client import ScramClient

FAILED = "535 5.7.8 Authentication credentials invalid"


def asleep(sender: Sender) -> None:
    AppPassword.objects.filter(pk=sender.app_password.pk).update(created_at=timezone.now() - timedelta(days=100))
    assert put_to_sleep(sender.app_password, idle_before=timezone.now() - timedelta(days=90))


def reason_of(reference: str, eventually: Callable[..., None]) -> str:
    eventually(lambda: AuthEvent.objects.filter(reference=reference).exists())
    return AuthEvent.objects.get(reference=reference).reason


def test_a_sleeping_one_is_refused_like_any_other(
    door: RunningDoor, sender: Sender, eventually: Callable[..., None]
) -> None:
    """The public answer is that of a wrong one; the auth log says that it sleeps."""
    asleep(sender)
    client = door.client()
    assert client.say(f"AUTH PLAIN {sender.plain()}") == FAILED
    assert reason_of(client.references[-1], eventually) == "asleep"


def test_sleep_ends_an_open_session_and_waking_lets_it_back(door: RunningDoor, sender: Sender) -> None:
    """421 to the one that is open; after the waking the same secret signs in."""
    client = door.signed_in(sender)
    # Its last use is written within half a second: it must lie in the past for the password to count as unused.
    asleep_soon(sender)
    assert client.reply().startswith("421 4.7.0")
    assert door.client().say(f"AUTH PLAIN {sender.plain()}") == FAILED
    wake_app_password(sender.app_password, actor=SYSTEM)
    door.signed_in(sender)


def asleep_soon(sender: Sender) -> None:
    mine = AppPassword.objects.filter(pk=sender.app_password.pk)
    until = timezone.now() + timedelta(seconds=10)
    while not mine.exclude(last_used_at=None).exists():
        assert timezone.now() < until
    past = timezone.now() - timedelta(days=100)
    mine.update(created_at=past, last_used_at=past)
    assert put_to_sleep(sender.app_password, idle_before=timezone.now() - timedelta(days=90))


def test_both_sign_in_during_an_overlap(door: RunningDoor, sender: Sender) -> None:
    """The old one until its end, the new one from the start."""
    made = rotate_app_password(sender.app_password, ends_at=timezone.now() + timedelta(days=7), actor=SYSTEM)
    door.signed_in(sender)
    client = door.client()
    assert client.say(f"AUTH PLAIN {plain(sender.username, made.secret)}").startswith("235")


def canary_of(sender: Sender) -> tuple[AppPassword, str]:
    made = create_app_password(sender.smtp_user, name="wiki page", kind="canary", actor=SYSTEM)
    return made.app_password, made.secret


def alarms_of(eventually: Callable[..., None], *, number: int = 1) -> list[CredentialAlarm]:
    eventually(lambda: CredentialAlarm.objects.count() >= number)
    return list(CredentialAlarm.objects.order_by("pk"))


def test_a_canary_works_nowhere_and_is_heard(
    door: RunningDoor, sender: Sender, eventually: Callable[..., None]
) -> None:
    """Refused like a wrong one, from any address; two attempts in one connection are one alert with a mail."""
    canary, secret = canary_of(sender)
    client = door.client(source="127.0.0.9")
    for _attempt in range(2):
        assert client.say(f"AUTH PLAIN {plain(sender.username, secret)}") == FAILED
    assert reason_of(client.references[0], eventually) == "canary"
    eventually(lambda: sum(CredentialAlarm.objects.values_list("count", flat=True)) == 2)
    alarms.handle_waiting()
    case = Anomaly.objects.get()
    assert (case.kind, case.severity, case.app_password_ids) == (Kind.CANARY, "critical", [canary.pk])
    assert (case.evidence["ip"], case.evidence["client"]) == ("127.0.0.9", "client.example")
    assert not CredentialAlarm.objects.filter(handled_at=None).exists()
    assert alarms.handle_waiting() == 0


@pytest.mark.parametrize("state", ["asleep", "canary"])
def test_a_proof_is_judged_like_a_password(
    door: RunningDoor, sender: Sender, state: str, eventually: Callable[..., None]
) -> None:
    """By SCRAM the secret itself is never sent; the reason is the same, and so is the answer."""
    secret = sender.secret
    if state == "asleep":
        asleep(sender)
    else:
        _canary, secret = canary_of(sender)
    client = door.client()
    exchange = ScramClient(client, sender.username, secret)
    assert exchange.final(exchange.first()) == FAILED
    assert reason_of(client.references[-1], eventually) == state


def test_a_canary_is_told_by_mail_where_alerts_are_not(
    door: RunningDoor, sender: Sender, eventually: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An organization without mails about alerts hears of this one all the same, once for each case."""
    monkeypatch.setattr("audit.anomalies.hooks.on_anomaly", [])
    _canary, secret = canary_of(sender)
    for _time in range(2):
        door.client().say(f"AUTH PLAIN {plain(sender.username, secret)}")
        alarms_of(eventually)
        alarms.handle_waiting()
        CredentialAlarm.objects.all().delete()
    (written,) = mail.outbox
    assert written.to == ["alice@alice.example"] and "wiki page" in written.subject
    assert "127.0.0.1" in str(written.body) and secret not in str(written.body)


@pytest.mark.parametrize("place", ["username", "sender", "message", "client name"])
def test_a_live_secret_in_a_recorded_field_is_heard(
    door: RunningDoor, sender: Sender, eventually: Callable[..., None], place: str
) -> None:
    """Wherever it stands: redacted there, and an alert to its owner."""
    if place == "username":
        door.client().say(f"AUTH PLAIN {plain(sender.secret, sender.username)}")
    elif place == "client name":
        door.client(ehlo=False).say(f"EHLO {sender.secret}")
    else:
        client = door.signed_in(sender)
        subject = sender.secret if place == "message" else "Hello"
        address = f"{sender.secret}@alice.example" if place == "sender" else sender.address
        text = content(sender.address).replace(b"Subject: Hello", f"Subject: {subject}".encode())
        assert client.message(address, "to@dest.example", content=text).startswith("250")
    (row,) = alarms_of(eventually)
    assert (row.kind, row.place, row.app_password_id) == ("seen", place, sender.app_password.pk)
    alarms.handle_waiting()
    assert Anomaly.objects.get().kind == Kind.LEAKED
    assert not AuthEvent.objects.filter(username_given__contains=sender.secret).exists()
    assert not Message.objects.filter(subject__contains=sender.secret).exists()


def test_an_api_key_in_a_subject_is_heard(
    door: RunningDoor, sender: Sender, alice_org: Organization, eventually: Callable[..., None]
) -> None:
    """Keys are secrets too."""
    key = create_api_key(alice_org, name="Export", scopes=["messages:read"], actor=SYSTEM)
    text = content(sender.address).replace(b"Subject: Hello", f"Subject: see {key.secret}".encode())
    door.signed_in(sender).message(sender.address, "to@dest.example", content=text)
    (row,) = alarms_of(eventually)
    assert row.api_key_id == key.api_key.pk
    alarms.handle_waiting()
    assert Anomaly.objects.get().evidence["name"] == "Export"


def test_of_another_customers_session_nothing_is_told(
    door: RunningDoor, sender: Sender, bob_org: Organization, eventually: Callable[..., None]
) -> None:
    """Bob's mail holds alice's secret: alice hears that, and neither his address nor his client's name."""
    bob = create_smtp_user(bob_org, name="bob", excess="refuse", actor=SYSTEM)
    bobs = create_app_password(bob, name="test", actor=SYSTEM)
    client = door.client(source="127.0.0.8")
    assert client.say(f"AUTH PLAIN {plain(bob.username, bobs.secret)}").startswith("235")
    client.say(f"MAIL FROM:<{sender.secret}@bob.example>")
    alarms_of(eventually)
    alarms.handle_waiting()
    case = Anomaly.objects.get()
    assert case.organization_id == sender.smtp_user.organization_id
    assert "127.0.0.8" not in str(case.evidence) and "client.example" not in str(case.evidence)
    assert case.evidence["of_another_customer"] is True


def test_what_is_no_live_secret_leaves_nothing(
    door: RunningDoor, sender: Sender, eventually: Callable[..., None]
) -> None:
    """Made-up ones with a right checksum, wrong checksums, and those that have ended."""
    revoke_app_password(sender.app_password, actor=SYSTEM)
    last = create_app_password(sender.smtp_user, name="live", actor=SYSTEM)
    client = door.client()
    for text in (make_app_secret(), sender.secret[:-1] + "_", sender.secret, "gp_", last.secret):
        client.say(f"MAIL FROM:<{text}@x.example>")
        client.say(f"EHLO {text}")
    (row,) = alarms_of(eventually)
    assert row.app_password_id == last.app_password.pk


def test_a_flood_of_made_up_secrets_is_bounded(
    door: RunningDoor, sender: Sender, eventually: Callable[..., None]
) -> None:
    """More than are looked up at once, and the session lives; a real one afterwards is heard."""
    client = door.signed_in(sender)
    for _number in range(40):
        lines = [f"MAIL FROM:<{make_app_secret()}@x.example>" for _each in range(10)]
        client.send("".join(f"{line}\r\n" for line in lines).encode())
        assert all(client.reply().startswith("550") for _line in lines)
    assert len(door.server.recorder.sightings._seen) <= 200
    client.say(f"MAIL FROM:<{sender.secret}@x.example>")
    assert len(alarms_of(eventually)) == 1
