"""relay.alert_mail: one mail for each case at most, to whom it concerns, when they want it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core import mail as outbox
from django.utils import timezone

from accounts.models import Membership, Organization, Role, User
from audit.anomalies.models import AlertMail, AlertPreference, Anomaly, Kind, Severity, State
from relay.alert_mail import APART, GATHER, HOURLY, send_due_alert_mails
from relay.models import Recipient
from tests.conftest import make_user
from tests.relay.alerts.conftest import MakeAlert

SECOND = timedelta(seconds=1)


@pytest.fixture
def sent(settings: Any) -> Callable[..., list[tuple[list[str], str]]]:
    """Sends what is due at that moment: [(to, subject)]."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    outbox.outbox = []

    def send(at: datetime) -> list[tuple[list[str], str]]:
        del outbox.outbox[:]
        send_due_alert_mails(at)
        return [(message.to, message.subject) for message in outbox.outbox]

    return send


def test_cases_that_come_together_are_one_mail(alert: MakeAlert, sent: Any) -> None:
    """Two cases within two minutes: one mail with both, and none again, whatever goes on."""
    now = timezone.now()
    alert(Kind.CLIENT, now=now)
    alert(Kind.GUESSED, severity=Severity.CRITICAL, now=now + 60 * SECOND)
    assert sent(now + GATHER - SECOND) == []
    assert sent(now + GATHER) == [(["alice@alice.example"], "2 alerts: Alice Works")]
    body = outbox.outbox[0].body
    assert body.index("Critical: Success after guessing") < body.index("A client that was not seen before")
    alert(Kind.CLIENT, now=now + timedelta(hours=1))
    assert sent(now + timedelta(days=2)) == []


def test_a_mail_holds_nothing_that_a_stranger_chose(alert: MakeAlert, sent: Any) -> None:
    """No client name and no username tried: a mail is not a way to write to our customers."""
    now = timezone.now()
    evil = "buy at http://spam.example"
    alert(Kind.USERNAMES, evidence={"ip": "203.0.113.9", "usernames": [evil], "client": evil}, now=now)
    sent(now + GATHER)
    assert "spam.example" not in outbox.outbox[0].body and "/alerts/" in outbox.outbox[0].body


def test_mails_keep_apart_unless_critical(alert: MakeAlert, sent: Any) -> None:
    """After a mail the next waits a quarter of an hour, but a critical case does not."""
    now = timezone.now()
    alert(Kind.CLIENT, now=now)
    assert len(sent(now + GATHER)) == 1
    later = now + GATHER + 60 * SECOND
    alert(Kind.TLS, now=later)
    assert sent(later + GATHER) == []
    alert(Kind.CANARY, severity=Severity.CRITICAL, now=later)
    assert sent(later + GATHER) == [(["alice@alice.example"], "2 alerts: Alice Works")]
    assert sent(now + GATHER + APART) == []


def test_what_was_closed_meanwhile_is_no_news(alert: MakeAlert, sent: Any) -> None:
    """A case answered before its mail was due is not mailed any more."""
    now = timezone.now()
    Anomaly.objects.filter(pk=alert(now=now).pk).update(state=State.DISMISSED)
    assert sent(now + GATHER) == []
    assert not AlertMail.objects.filter(sent_at=None).exists()


def test_to_members_who_may_answer(alert: MakeAlert, sent: Any, alice_org: Organization, vera: User, bob: User) -> None:
    """Owner and developer get it; a viewer, billing, an unconfirmed member and other customers do not."""
    for name, role in (("dora", Role.DEVELOPER), ("bill", Role.BILLING)):
        Membership.objects.create(user=make_user(f"{name}@alice.example"), organization=alice_org, role=role)
    new = make_user("new@alice.example", email_confirmed_at=None)
    Membership.objects.create(user=new, organization=alice_org, role=Role.OWNER)
    now = timezone.now()
    alert(now=now)
    assert [to for to, _subject in sent(now + GATHER)] == [["alice@alice.example"], ["dora@alice.example"]]


def test_preferences_are_kept(alert: MakeAlert, sent: Any, alice_org: Organization) -> None:
    """Never, from a severity on, chosen roles, and once a day at seven."""
    preference = AlertPreference.objects.create(pk=alice_org.pk, mail="never")
    now = timezone.now().replace(hour=9)
    alert(Kind.CLIENT, now=now)
    assert not AlertMail.objects.exists()
    AlertPreference.objects.update(mail="daily", least="warning", roles=["owner"])
    alert(Kind.TLS, severity=Severity.NOTICE, now=now)
    assert not AlertMail.objects.exists()
    alert(Kind.NETWORK, now=now)
    due_at = AlertMail.objects.get().due_at
    assert (due_at.hour, due_at.minute, due_at.date()) == (7, 0, now.date() + timedelta(days=1))
    assert sent(due_at - SECOND) == [] and len(sent(due_at)) == 1
    assert preference.pk == alice_org.pk


def test_a_case_that_becomes_grave_enough_is_mailed_then(alert: MakeAlert, sent: Any, alice_org: Organization) -> None:
    """Below the chosen severity nothing; when the same case turns critical, its one mail."""
    AlertPreference.objects.create(pk=alice_org.pk, least="critical")
    now = timezone.now()
    alert(now=now)
    assert sent(now + GATHER) == []
    alert(severity=Severity.CRITICAL, now=now + timedelta(hours=1))
    assert len(sent(now + timedelta(hours=2))) == 1


def test_operators_are_told_of_what_is_nobodys(alert: MakeAlert, sent: Any, carol: User) -> None:
    """A case without a customer goes to operators, with the operator's page."""
    now = timezone.now()
    alert(Kind.USERNAMES, organization_id=None, smtp_user_ids=[], now=now)
    assert sent(now + GATHER) == [([carol.email], "Many usernames from one address: Gatepost")]
    assert "/ops/alerts/" in outbox.outbox[0].body


def test_no_alarm_floods_a_mailbox(alert: MakeAlert, sent: Any) -> None:
    """Six mails in an hour; critical cases beyond them wait, and are told together."""
    now = timezone.now()
    mails = []
    for number in range(8):
        at = now + number * 3 * GATHER
        alert(Kind.CANARY, key=f"canary:{number}", severity=Severity.CRITICAL, now=at)
        mails += sent(at + GATHER)
    assert len(mails) == HOURLY
    assert sent(now + timedelta(hours=2)) == [(["alice@alice.example"], "2 alerts: Alice Works")]
    assert not AlertMail.objects.filter(sent_at=None).exists()


def test_the_mail_leaves_through_the_own_queue(alert: MakeAlert, alice: User, settings: Any) -> None:
    """With Gatepost's own backend the mail is a message of the system organization."""
    settings.EMAIL_BACKEND = "relay.system_mail.EmailBackend"
    now = timezone.now()
    alert(now=now)
    assert send_due_alert_mails(now + GATHER) == 1
    assert Recipient.objects.filter(address=alice.email, message__organization__is_system=True).count() == 1
