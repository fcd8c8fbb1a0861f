"""Guessing at the door: who is put off, who is banned, what is recorded of a flood, and what holds with Valkey away."""

import re
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.db.models import Sum
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import AuthEvent, Reason
from relay.guessing import bans
from relay.guessing import model as rules
from relay.guessing.guard import TOLD_MAX
from relay.models import Ban
from tests.smtp.conftest import Client, Processes, RunningDoor, Sender, plain
from tests.smtp.test_auth import INVALID, OK, event_of
from tests.smtp.test_proxy import ProxiedClient

STRANGER = "203.0.113.7"
Eventually = Callable[..., None]


@pytest.fixture(autouse=True)
def _peers(settings: Any) -> Iterator[None]:
    """The door believes 127.0.0.9, so that clients may come from anywhere."""
    settings.GATEPOST_PROXY_PEERS = (ip_network("127.0.0.9/32"),)
    yield


def client_of(port: int, ip: str = STRANGER, *, ehlo: bool = True, tls: bool = True) -> Client:
    family = "TCP6" if ":" in ip else "TCP4"
    client = ProxiedClient(port, f"PROXY {family} {ip} {ip} 4000 465\r\n".encode(), tls=tls)
    if ehlo and client.greeting.startswith("220"):
        assert client.say("EHLO client.example").startswith("250-")
    return client


def attempt(port: int, username: str, secret: str, ip: str = STRANGER) -> str:
    """One login on a connection of its own; "closed" if there was not even a handshake."""
    try:
        client = client_of(port, ip)
    except (ConnectionError, ssl.SSLError):
        return "closed"
    answer = client.greeting
    if answer.startswith("220"):
        answer = client.say(f"AUTH PLAIN {plain(username, secret)}")
    client.socket.close()
    return answer


def seconds_of(login: Callable[[], str]) -> float:
    began = time.monotonic()
    assert login() == OK
    return time.monotonic() - began


def spray(door: RunningDoor, ip: str = STRANGER, times: int = 1000) -> list[str]:
    """Different names until the address is turned away at the greeting."""
    answers: list[str] = []
    while len(answers) < times and not (answers and answers[-1].startswith("421")):
        client = client_of(door.tls_port, ip)
        if not client.greeting.startswith("220"):
            answers.append(client.greeting)
        for _try in range(3) if client.greeting.startswith("220") else ():
            answers.append(client.say(f"AUTH PLAIN {plain(f'user{len(answers)}.x', 'Winter2026')}"))
        client.socket.close()
    return answers


def test_guesses_are_put_off(door: RunningDoor, sender: Sender) -> None:
    """Five wrong passwords of one name from one address, then 454 with the wait, never 535."""
    answers = [attempt(door.tls_port, sender.username, f"guess{number}") for number in range(7)]
    assert answers[:5] == [INVALID] * 5
    for answer in answers[5:]:
        found = re.fullmatch(
            r"454 4\.7\.0 Too many failed logins from your address; try again in (\d+) seconds", answer
        )
        assert found and 30 < int(found[1]) <= 60
    assert attempt(door.tls_port, sender.username, sender.secret).startswith("454")  # a guess like the others
    assert attempt(door.tls_port, sender.username, sender.secret, ip="203.0.113.8") == OK


def test_an_unknown_name_is_put_off_alike(door: RunningDoor, sender: Sender) -> None:
    """The same number of tries, the same words: the throttle does not tell who exists."""
    known = [attempt(door.tls_port, sender.username, f"guess{number}", ip="203.0.113.20") for number in range(7)]
    unknown = [attempt(door.tls_port, "nobody.nowhere", f"guess{number}", ip="203.0.113.21") for number in range(7)]
    assert [re.sub(r"\d+ seconds", "", each) for each in known] == [
        re.sub(r"\d+ seconds", "", each) for each in unknown
    ]


def test_what_was_put_off_is_recorded(door: RunningDoor, sender: Sender) -> None:
    """The reference of a 454 finds a row whose reason is the throttle, and the third one ends the connection."""
    for number in range(5):
        attempt(door.tls_port, sender.username, f"guess{number}")
    client = client_of(door.tls_port)
    for number in range(3):
        assert client.say(f"AUTH PLAIN {plain(sender.username, f'more{number}')}").startswith("454 4.7.0")
        event = event_of(client)
        assert (event.result, event.reason, event.ip) == ("refused", Reason.THROTTLED, STRANGER)
    assert client.reply() == "421 4.7.0 Too many failed authentications, closing the connection"


def test_an_old_password_counts_once(door: RunningDoor, sender: Sender) -> None:
    """A device that repeats one wrong password hears 535 each time, and others at its address sign in."""
    answers = {attempt(door.tls_port, sender.username, "gp_old") for _time in range(12)}
    assert answers == {INVALID}
    assert attempt(door.tls_port, sender.username, sender.secret) == OK


def test_the_password_that_works_is_never_held_back(door: RunningDoor, sender: Sender) -> None:
    """Behind one address: somebody guesses at a name, and its owner signs in all the same."""
    assert attempt(door.tls_port, sender.username, sender.secret) == OK
    for number in range(9):
        attempt(door.tls_port, sender.username, f"guess{number}")
    assert attempt(door.tls_port, sender.username, "guess99").startswith("454")
    assert attempt(door.tls_port, sender.username, sender.secret) == OK


def test_spraying_is_banned_with_evidence(
    door: RunningDoor, sender: Sender, eventually: Eventually, settings: Any
) -> None:
    """Twenty names are judged, the rest waits, then 421 at the greeting; the row says why, and until when."""
    answers = spray(door)
    judged = sum(answer.startswith("535") for answer in answers)
    assert rules.ADDRESS.most <= judged <= rules.ADDRESS.most + 2  # one more for each half minute that the test takes
    assert answers[-1].startswith("421 4.7.0 Your address is banned for ")
    eventually(lambda: Ban.objects.filter(cidr=f"{STRANGER}/32").exists())
    ban = Ban.objects.get()
    assert ban.turn == 1 and ban.ends_at - ban.began_at == timedelta(minutes=15)
    assert ban.evidence["failures"] >= rules.ADDRESS_PRESSURE.most
    assert ban.evidence["names"][:2] == ["user0.x", "user1.x"]
    assert attempt(door.tls_port, sender.username, sender.secret, ip="203.0.113.8") == OK  # its neighbour


def test_a_banned_greeting_is_recorded(door: RunningDoor, sender: Sender, eventually: Eventually) -> None:
    """On both ports the reference of the 421 finds a row with the reason, before any name was said."""
    Ban.objects.create(cidr=f"{STRANGER}/32", ends_at=timezone.now() + timedelta(hours=1), worker="test")
    eventually(lambda: client_of(door.tls_port, ehlo=False).greeting.startswith("421"))
    for port, tls in ((door.tls_port, True), (door.starttls_port, False)):
        client = client_of(port, ehlo=False, tls=tls)
        assert client.greeting.startswith("421 4.7.0 Your address is banned for ")
        assert client.closed()
        event = event_of(client)
        assert (event.reason, event.ip, event.username_given) == (Reason.BANNED, STRANGER, "")


def test_a_banned_address_that_keeps_coming_gets_no_handshake(
    door: RunningDoor, sender: Sender, eventually: Eventually
) -> None:
    """Ten times a minute it is told; then its connections are closed before TLS, and others are greeted as ever."""
    Ban.objects.create(cidr=f"{STRANGER}/32", ends_at=timezone.now() + timedelta(hours=1), worker="test")
    eventually(lambda: door.server.guard.banned(STRANGER))
    told = 0
    with pytest.raises((ConnectionError, ssl.SSLError)):
        while told < 3 * TOLD_MAX:  # a minute may end meanwhile
            assert client_of(door.tls_port, ehlo=False).greeting.startswith("421")
            told += 1
    assert told >= TOLD_MAX - 1  # one more may have been told while we waited
    assert attempt(door.tls_port, sender.username, sender.secret, ip="203.0.113.8") == OK


def test_bans_end_by_themselves_and_grow(door: RunningDoor, sender: Sender, eventually: Eventually) -> None:
    """A ban that is over holds nobody; the next of the same range within a month is four times as long."""
    past = timezone.now() - timedelta(days=1)
    for _ban in range(2):
        Ban.objects.create(cidr=f"{STRANGER}/32", began_at=past, ends_at=past, worker="test")
    assert attempt(door.tls_port, sender.username, "wrong") == INVALID
    spray(door)
    eventually(lambda: Ban.objects.filter(turn=3).exists())
    ban = Ban.objects.get(turn=3)
    assert ban.ends_at - ban.began_at == timedelta(minutes=15 * 16)


def test_lifting_is_known_at_once(door: RunningDoor, sender: Sender, eventually: Eventually) -> None:
    """An operator lifts a ban: the address is greeted at once, and nothing is held against it."""
    spray(door)
    eventually(Ban.objects.exists)
    bans.lift_ban(Ban.objects.get(), actor=SYSTEM)
    eventually(lambda: attempt(door.tls_port, sender.username, sender.secret) == OK, seconds=2)


def test_a_protected_range_is_never_banned(door: RunningDoor, sender: Sender, eventually: Eventually) -> None:
    """An operator's range: names are put off one by one, and the address is greeted whatever it does."""
    bans.protect_range(cidr="203.0.113.0/24", label="monitoring", actor=SYSTEM)
    eventually(lambda: STRANGER in door.server.guard.protected)
    answers = spray(door, times=90)
    assert len(answers) == 90 and {answer[:3] for answer in answers} == {"535"}
    assert not Ban.objects.exists()


def test_who_signed_in_lately_is_not_banned_after_a_restart(
    door: RunningDoor, sender: Sender, alice_org: Organization, eventually: Eventually
) -> None:
    """What a process has forgotten stands in the database: no row is made against an address with a recent success."""
    from audit.models import AuthHour

    now = timezone.now()
    AuthHour.objects.create(
        hour=now.replace(minute=0, second=0, microsecond=0), organization_id=alice_org.pk, ip=STRANGER,
        smtp_user_id=sender.smtp_user.pk, result="accepted", reason="ok", count=1, first_at=now, last_at=now,
    )  # fmt: skip
    spray(door, times=90)
    eventually(lambda: attempt(door.tls_port, sender.username, sender.secret, ip=STRANGER)[:3] in {"235", "454"})
    assert not Ban.objects.exists()


def test_with_valkey_away_nobody_waits_and_bans_hold(
    door: RunningDoor, sender: Sender, valkey_server: Any, eventually: Eventually
) -> None:
    """Counting, banning and lifting go on by the database; a login takes no longer."""
    quiet = seconds_of(lambda: attempt(door.tls_port, sender.username, sender.secret, ip="203.0.113.8"))
    valkey_server.stop()
    away = seconds_of(lambda: attempt(door.tls_port, sender.username, sender.secret, ip="203.0.113.9"))
    assert away < 3 * quiet + 0.5
    assert spray(door)[-1].startswith("421")
    eventually(Ban.objects.exists)
    bans.lift_ban(Ban.objects.get(), actor=SYSTEM)
    eventually(lambda: attempt(door.tls_port, sender.username, sender.secret) == OK, seconds=4)


def test_processes_count_together(sender_of: Any, alice_org: Organization, smtpd: Callable[..., Processes]) -> None:
    """Two processes with two doors: what one has judged, the other puts off."""
    sender = sender_of(alice_org)
    first = smtpd(1, GATEPOST_PROXY_PEERS="127.0.0.9/32")
    second = smtpd(1, GATEPOST_PROXY_PEERS="127.0.0.9/32")
    for number in range(5):
        assert attempt(first.tls_port, sender.username, f"guess{number}") == INVALID
    until = time.monotonic() + 5
    number = 5
    while not (answer := attempt(second.tls_port, sender.username, f"guess{number}")).startswith("454"):
        assert time.monotonic() < until, answer
        number += 1
    assert number <= 7
    Ban.objects.create(cidr="203.0.113.99/32", ends_at=timezone.now() + timedelta(hours=1), worker="test")
    for each in (first, second):
        while client_of(each.tls_port, "203.0.113.99", ehlo=False).greeting.startswith("220"):
            assert time.monotonic() < until + 2


def test_a_flood_is_folded(door: RunningDoor, sender: Sender, eventually: Eventually) -> None:
    """Forty failures of one name from one range: five rows, and one that counts the rest under one reference."""
    references = []
    for number in range(40):
        client = client_of(door.tls_port, f"203.0.113.{number + 1}")
        assert client.say(f"AUTH PLAIN {plain(sender.username, 'the same')}") == INVALID
        references.append(client.references[-1])
        client.socket.close()
    eventually(lambda: door.server.recorder.waiting == 0)
    rows = AuthEvent.objects.filter(reason=Reason.WRONG_PASSWORD)
    assert rows.aggregate(Sum("count"))["count__sum"] == 40
    assert set(rows.values_list("reference", flat=True)) == set(references)
    minutes = len({row.at.replace(second=0, microsecond=0) for row in rows})  # the test may run over a minute's end
    assert len(rows) <= 6 * minutes
    folded = rows.order_by("-count").first()
    assert folded is not None and folded.count >= 10
    assert folded.samples == [sender.username] and folded.smtp_user_id == sender.smtp_user.pk
    assert folded.first_at is not None and folded.at <= folded.first_at < folded.last_at
    assert folded.network == "203.0.113.0/24"
