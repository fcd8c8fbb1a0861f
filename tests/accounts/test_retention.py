"""accounts.retention: sessions and failed sign-ins go by themselves."""

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts.retention import delete_ended_sessions, delete_old_failures
from relay.tasks import delete_expired

pytestmark = pytest.mark.django_db


def leave_behind() -> None:
    now = timezone.now()
    Session.objects.create(session_key="ended", session_data="", expire_date=now - timedelta(hours=1))
    Session.objects.create(session_key="live", session_data="", expire_date=now + timedelta(hours=1))
    for name, days in (("old", 2), ("new", 0)):
        attempt = AccessAttempt.objects.create(username=name, ip_address="192.0.2.1", failures_since_start=1)
        AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=now - timedelta(days=days))


def test_only_what_is_over_goes() -> None:
    """A live session and a failure that still counts stay."""
    leave_behind()
    assert (delete_ended_sessions(), delete_old_failures()) == (1, 1)
    assert Session.objects.get().session_key == "live"
    assert AccessAttempt.objects.get().username == "new"


def test_beat_does_it() -> None:
    """Nobody has to remember a command."""
    leave_behind()
    delete_expired()
    assert (Session.objects.count(), AccessAttempt.objects.count()) == (1, 1)
