"""audit/logins.py: accepted sign-ins by day, and every use since, however new."""

from datetime import date, timedelta

import pytest
from django.utils import timezone

from audit.logins import LoginKind, login_counts, logins, roll_up_login_days
from audit.models import LoginDay, RollupMark
from audit.retention import delete_expired
from tests.audit.conftest import NOON, MakeEvent

pytestmark = pytest.mark.django_db
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
OK = {"result": "accepted", "reason": "ok"}


def sums() -> dict[tuple[date, int | None, str, str], int]:
    return {(row.day, row.app_password_id, row.mechanism, row.tls_version): row.count for row in LoginDay.objects.all()}


def test_accepted_ones_are_summed_by_day_and_credential(make_event: MakeEvent) -> None:
    """Counts, not rows; the first and last moment; the client's name of the last one; refusals not at all."""
    make_event(**OK, app_password_id=3, count=40, client_name="old.example")
    make_event(**OK, app_password_id=3, at=NOON + MINUTE, client_name="new.example")
    make_event(**OK, app_password_id=3, mechanism="LOGIN")
    make_event(**OK, app_password_id=3, tls_version="TLSv1.2")
    make_event(**OK, app_password_id=4)
    make_event(**OK, app_password_id=None, at=NOON + DAY)
    make_event(app_password_id=3)
    assert roll_up_login_days() == 2
    assert sums() == {
        (NOON.date(), 3, "PLAIN", "TLSv1.3"): 41,
        (NOON.date(), 3, "LOGIN", "TLSv1.3"): 1,
        (NOON.date(), 3, "PLAIN", "TLSv1.2"): 1,
        (NOON.date(), 4, "PLAIN", "TLSv1.3"): 1,
        ((NOON + DAY).date(), None, "PLAIN", "TLSv1.3"): 1,
    }
    row = LoginDay.objects.get(count=41)
    assert (row.client_name, row.first_at, row.last_at) == ("new.example", NOON, NOON + MINUTE)


def test_a_day_begins_at_midnight_utc(make_event: MakeEvent) -> None:
    """The last microsecond before it belongs to the day before."""
    midnight = NOON.replace(hour=0)
    make_event(**OK, at=midnight)
    make_event(**OK, at=midnight - timedelta(microseconds=1))
    roll_up_login_days()
    assert set(LoginDay.objects.values_list("day", flat=True)) == {NOON.date(), NOON.date() - DAY}


def test_late_rows_and_second_runs_give_the_same_sums(make_event: MakeEvent) -> None:
    """A row that comes late is added to its day; without one nothing is written; what is gone from the log vanishes."""
    event = make_event(**OK, count=3)
    roll_up_login_days()
    first = LoginDay.objects.get().pk
    RollupMark.objects.update(done_until=timezone.now())
    make_event(**OK, at=NOON - MINUTE, count=2)
    make_event(**OK, ip="198.51.100.1")
    assert roll_up_login_days() == 1
    assert (LoginDay.objects.get(pk=first).count, LoginDay.objects.count()) == (5, 2)
    type(event).objects.filter(ip="198.51.100.1").delete()
    RollupMark.objects.all().delete()
    roll_up_login_days()
    assert list(LoginDay.objects.values_list("pk", "count")) == [(first, 5)]


def test_a_use_is_there_before_any_sum(make_event: MakeEvent) -> None:
    """Sums or none, the same uses: what the rollup does not have yet comes from the events."""
    now = timezone.now()
    make_event(**OK, at=now - 3 * DAY, app_password_id=3, count=7, client_name="a.example")
    make_event(**OK, at=now - MINUTE, app_password_id=3, client_name="b.example")
    make_event(**OK, at=now - MINUTE, app_password_id=4, mechanism="LOGIN", ip="2001:db8::1")
    make_event(at=now)
    before = logins(1, since=now - 5 * DAY)
    assert [(use.app_password_id, use.ip, use.mechanism, use.count) for use in before] == [
        (3, "192.0.2.7", "PLAIN", 8),
        (4, "2001:db8::1", "LOGIN", 1),
    ]
    roll_up_login_days()
    assert logins(1, since=now - 5 * DAY) == before
    assert [use.client_name for use in before] == ["b.example", ""]


def test_a_use_after_the_last_sum_is_not_missed(make_event: MakeEvent) -> None:
    """A new address shows up at once, and an old one with its last moment; counts follow with the next run."""
    now = timezone.now()
    make_event(**OK, at=now - DAY, app_password_id=3, count=5)
    roll_up_login_days()
    make_event(**OK, at=now, app_password_id=3, client_name="now.example")
    make_event(**OK, at=now, app_password_id=3, ip="198.51.100.9")
    known, new = logins(1, since=now - 5 * DAY)
    assert (known.ip, known.count, known.last_at, known.client_name) == ("192.0.2.7", 5, now, "now.example")
    assert (new.ip, new.count) == ("198.51.100.9", 1)


def test_only_what_was_asked_for(make_event: MakeEvent) -> None:
    """Of one organization, one SMTP user, one app password, since a day."""
    now = timezone.now()
    make_event(**OK, at=now - 2 * DAY, app_password_id=3)
    make_event(**OK, at=now - 2 * DAY, app_password_id=4, ip="198.51.100.4")
    make_event(**OK, at=now - 2 * DAY, smtp_user_id=12, ip="198.51.100.12")
    make_event(**OK, at=now - 2 * DAY, organization_id=2, smtp_user_id=21, ip="198.51.100.21")
    for _summed in (False, True):
        assert len(logins(None, since=now - 3 * DAY)) == 4
        assert len(logins(1, since=now - 3 * DAY)) == 3
        assert len(logins(1, since=now - 3 * DAY, smtp_user_id=11)) == 2
        assert [use.ip for use in logins(1, since=now - 3 * DAY, app_password_id=4)] == ["198.51.100.4"]
        assert logins(1, since=now - DAY) == []
        roll_up_login_days()
    assert login_counts(1, since=now - 3 * DAY) == {
        LoginKind("PLAIN", "TLSv1.3", True): 2,
        LoginKind("PLAIN", "TLSv1.3", False): 1,
    }
    assert sum(login_counts(None, since=now - 3 * DAY).values()) == 4


def test_days_go_when_the_events_go(make_event: MakeEvent) -> None:
    """The organization's own days, and the default for whoever has none."""
    make_event(**OK, at=NOON)
    make_event(**OK, at=NOON, organization_id=2)
    make_event(**OK, at=NOON + 6 * DAY)
    roll_up_login_days()
    delete_expired(days_of={1: 5}, default=30, now=NOON + 6 * DAY)
    kept = LoginDay.objects.order_by("organization_id").values_list("organization_id", "day")
    assert list(kept) == [(1, (NOON + 6 * DAY).date()), (2, NOON.date())]
