"""The watch over the real tables: each kind is found with its evidence, once, and what was answered is known."""

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit.anomalies.models import Anomaly, Habit, Kind, SendingHour, Severity, State
from audit.anomalies.reading import full_hour
from audit.anomalies.teaching import dismiss, revoked
from audit.anomalies.watch import KEPT, LOCK, MARK, Watched, forget_old_habits, watch
from audit.changes import Actor
from audit.models import ChangeEvent, RollupMark
from tests.audit.anomalies.conftest import AWAY, CLIENT, HOME, Found, SignIn
from tests.audit.conftest import MakeEvent

ALICE = Actor("alice@alice.example", 1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_an_ordinary_day_is_no_news(ordinary: datetime, sign_in: SignIn, found: Found) -> None:
    """The same client from the same network, and its neighbour's address, open nothing."""
    sign_in(ordinary - MINUTE)
    sign_in(ordinary - MINUTE, ip="192.0.2.200", client_name="web7.shop.example")
    assert found() == {}


def test_a_new_network_is_found_once(ordinary: datetime, sign_in: SignIn, found: Found) -> None:
    """The case names the address, the usual network and the password; the next runs only move its end."""
    sign_in(ordinary - 5 * MINUTE, ip=AWAY)
    case = found()[Kind.NETWORK]
    assert (case.organization_id, case.smtp_user_ids, case.app_password_ids) == (1, [11], [7])
    assert case.evidence["ip"] == AWAY and case.evidence["known_networks"] == ["192.0.2.0/24"]
    sign_in(ordinary - MINUTE, ip="203.0.113.77")
    assert list(found()) == [Kind.NETWORK]
    again = Anomaly.objects.get()
    assert again.pk == case.pk and again.last_at == ordinary - MINUTE


def test_this_was_me_teaches_the_network(ordinary: datetime, sign_in: SignIn, found: Found) -> None:
    """After "this was me" the network opens nothing any more, and the change log has who said so."""
    sign_in(ordinary - 5 * MINUTE, ip=AWAY)
    assert dismiss(found()[Kind.NETWORK], actor=ALICE)
    sign_in(ordinary - MINUTE, ip=AWAY)
    assert found() == {}
    assert not Habit.objects.filter(doubted=True).exists()
    change = ChangeEvent.objects.get(action="anomaly.dismissed")
    assert (change.organization_id, change.actor) == (1, ALICE.name)


def test_after_revoking_the_same_network_is_news_again(ordinary: datetime, sign_in: SignIn, found: Found) -> None:
    """What was revoked is forgotten, so that a login from there opens a new case."""
    sign_in(ordinary - 5 * MINUTE, ip=AWAY)
    with transaction.atomic():
        assert revoked(found()[Kind.NETWORK], actor=ALICE, values={"app_passwords": ["web"]})
    sign_in(timezone.now(), ip=AWAY, app_password_id=8)
    assert list(found()) == [Kind.NETWORK]
    assert list(Anomaly.objects.order_by("pk").values_list("state", flat=True)) == [State.REVOKED, State.OPEN]


def test_not_before_there_is_history(make_event: MakeEvent, sign_in: SignIn) -> None:
    """An SMTP user of a week may come from anywhere."""
    now = timezone.now()
    for day in range(7, 0, -1):
        sign_in(now - day * DAY)
    watch()
    sign_in(now, ip=AWAY)
    assert watch().findings == 0


def test_a_burst_of_failures(ordinary: datetime, make_event: MakeEvent, found: Found) -> None:
    """Thirty wrong passwords from strangers are a case of the organization; from home they are none."""
    make_event(at=ordinary - MINUTE, count=500, ip=HOME)
    assert found() == {}
    for host in range(30):
        make_event(at=ordinary - MINUTE, ip=f"198.51.{host}.9")
    case = found()[Kind.FAILURES]
    assert case.evidence["count"] == 30 and case.evidence["ips_count"] == 30 and case.smtp_user_ids == [11]


def test_failures_of_a_taught_source_are_known(ordinary: datetime, make_event: MakeEvent, found: Found) -> None:
    """ "This was me" on a burst: failures from its networks open nothing any more, not a day later either."""
    make_event(at=ordinary - MINUTE, count=100, ip=AWAY)
    dismiss(found()[Kind.FAILURES], actor=ALICE)
    Anomaly.objects.update(last_at=ordinary - 3 * DAY)  # so that it is not the same case going on
    make_event(at=ordinary - MINUTE, count=100, ip=AWAY)
    assert found() == {}


def test_many_usernames_from_one_address(ordinary: datetime, make_event: MakeEvent, found: Found) -> None:
    """Operators get the address with all names, the customer only the part that concerns its own."""
    for number in range(12):
        make_event(at=ordinary - MINUTE, ip=AWAY, username_given=f"u{number}.bob", organization_id=2, smtp_user_id=None)
    for number in range(3):
        values: dict[str, Any] = {"username_given": f"u{number}.alice", "smtp_user_id": None}
        make_event(at=ordinary - MINUTE, ip=AWAY, **values, reason="unknown_user")
    found()
    cases = {each.organization_id: each for each in Anomaly.objects.filter(kind=Kind.USERNAMES)}
    assert set(cases) == {None, 1, 2}
    assert cases[None].evidence["usernames_count"] == 15
    assert cases[1].evidence["usernames"] == ["u0.alice", "u1.alice", "u2.alice"]


def test_a_folded_flood_counts_its_samples(ordinary: datetime, make_event: MakeEvent, found: Found) -> None:
    """Usernames inside folded rows count as well."""
    names = [f"x{number}.alice" for number in range(10)]
    make_event(at=ordinary, ip=AWAY, count=5_000, samples=names, username_given="x0.alice", smtp_user_id=None)
    found()
    assert Anomaly.objects.get(organization_id=1, kind=Kind.USERNAMES).evidence["usernames_count"] == 10


def test_success_after_guessing(ordinary: datetime, make_event: MakeEvent, sign_in: SignIn, found: Found) -> None:
    """Forty guesses and then a login from the same network is critical."""
    make_event(at=ordinary - 20 * MINUTE, count=40, ip=AWAY)
    sign_in(ordinary - 5 * MINUTE, ip="203.0.113.80")
    case = found()[Kind.GUESSED]
    assert case.severity == Severity.CRITICAL and case.evidence["guesses"] == 40 and case.app_password_ids == [7]


def test_a_sleeping_password_wakes(ordinary: datetime, sign_in: SignIn, found: Found) -> None:
    """An app password that was silent for two months is used again: the case is of that password."""
    sign_in(ordinary - 60 * DAY, app_password_id=6)
    watch()
    sign_in(ordinary - MINUTE, app_password_id=6)
    case = found()[Kind.WOKE]
    assert case.app_password_ids == [6] and case.evidence["slept_days"] == 59


def test_a_new_client_beside_the_usual_one(ordinary: datetime, sign_in: SignIn, found: Found) -> None:
    """A client that comes up while the usual one goes on is a case; alone it might be a rename, and is none yet."""
    sign_in(ordinary - 30 * MINUTE, client_name="kali")
    assert found() == {}
    sign_in(ordinary - 20 * MINUTE, client_name=CLIENT)
    case = found()[Kind.CLIENT]
    assert case.evidence["client"] == "kali" and case.evidence["known_clients"] == ["shop.example"]


def test_a_renamed_server_is_trusted_in_time(ordinary: datetime, sign_in: SignIn, found: Found) -> None:
    """A new client that replaced the old one is trusted after three days, and the old one opens nothing later."""
    for day in range(4):
        sign_in(ordinary + day * DAY, client_name="mx.elsewhere.example")
        assert found() == {}
    assert not Habit.objects.get(kind="client", value="elsewhere.example").doubted


def test_weaker_encryption(ordinary: datetime, sign_in: SignIn, found: Found) -> None:
    """TLS 1.2 after a month of 1.3 is a case; the way up never is."""
    sign_in(ordinary - MINUTE, tls_version="TLSv1.2")
    case = found()[Kind.TLS]
    assert (case.evidence["tls"], case.evidence["usual_tls"]) == ("TLSv1.2", "TLSv1.3")


@pytest.fixture
def sending(ordinary: datetime) -> datetime:
    """SMTP user 11 sends about 200 emails in this hour of the week and its neighbours, for ten weeks. The hour."""
    hour = full_hour(timezone.now())
    same = {"organization_id": 1, "smtp_user_id": 11, "messages": 9}
    rows = [
        SendingHour(hour=hour - week * 7 * DAY - beside * HOUR, recipients=200 + week, **same)
        for week in range(1, 11)
        for beside in (-1, 0, 1)
    ]
    SendingHour.objects.bulk_create(rows)
    return hour


def send(hour: datetime, recipients: int) -> None:
    SendingHour.objects.update_or_create(
        smtp_user_id=11, hour=hour, defaults={"organization_id": 1, "recipients": recipients, "messages": 1}
    )


def test_volume_far_from_its_usual_hour(sending: datetime, found: Found) -> None:
    """Three times the usual is a busy hour, ten times is a case; "this was me" raises what is usual."""
    send(sending, 600)
    assert found() == {}
    send(sending, 2_000)
    case = found()[Kind.VOLUME]
    assert (case.evidence["recipients"], case.evidence["usual"], case.smtp_user_ids) == (2_000, 204, [11])
    dismiss(case, actor=ALICE)
    send(sending, 2_900)
    assert found() == {}
    send(sending, 4_000)
    assert list(found()) == [Kind.VOLUME]


def test_the_first_run_only_learns(sign_in: SignIn) -> None:
    """What happened before anybody watched opens no case, however odd."""
    now = timezone.now()
    for day in range(30, 0, -1):
        sign_in(now - day * DAY)
    sign_in(now, ip=AWAY)
    assert watch().findings == 0 and Habit.objects.filter(kind="network").count() == 2


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once() -> None:
    """While one run has the lock another goes home without doing anything."""
    watch()
    assert RollupMark.objects.filter(name=MARK).exists()
    RollupMark.objects.filter(name=MARK).delete()
    parameters = connection.get_connection_params()
    wanted = {name: parameters[name] for name in ("dbname", "user", "host", "port") if name in parameters}
    with psycopg.connect(**wanted) as other:
        other.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        assert watch() == Watched()
        assert not RollupMark.objects.filter(name=MARK).exists()


def test_what_was_not_seen_for_long_is_forgotten(ordinary: datetime, sign_in: SignIn) -> None:
    """Networks go after their time, unless somebody taught them."""
    later = ordinary + timedelta(days=max(KEPT.values()) + 1)
    Habit.objects.filter(kind="tls").update(taught_at=ordinary)
    forget_old_habits(now=later)
    assert list(Habit.objects.values_list("kind", flat=True)) == ["tls"]


def test_hours_that_were_missed_are_judged_later(sending: datetime) -> None:
    """After a pause of some hours the hours in between are judged too."""
    send(sending - HOUR, 3_000)
    RollupMark.objects.filter(name=MARK).update(done_until=sending - 2 * HOUR)
    watch()
    case = Anomaly.objects.get(kind=Kind.VOLUME)
    assert case.evidence["hour"] == (sending - HOUR).isoformat()
