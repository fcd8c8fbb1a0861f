"""relay.views.alerts and relay.views.ops.alerts: what people see of alerts, and both answers to them."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Organization, User
from audit.anomalies.models import AlertPreference, Anomaly, Habit, Kind, Severity, State
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.credentials import create_app_password, create_smtp_user
from relay.models import AppPassword, CredentialChange, SmtpUser
from tests.relay.alerts.conftest import AWAY, MakeAlert

EVIL = "<script>alert(1)</script>"


def text(client: Client, path: str, **query: str) -> str:
    response = client.get(path, query)
    assert response.status_code == 200
    return response.content.decode()


def test_nothing_unusual(alice_client: Client) -> None:
    """The empty list says what is watched."""
    assert "Nothing unusual" in text(alice_client, "/alerts/")


def test_the_gravest_open_alert_comes_first(alice_client: Client, alert: MakeAlert) -> None:
    """Open ones by severity; closed ones under their own filter; a kind narrows."""
    alert(Kind.CLIENT, severity=Severity.NOTICE)
    alert(Kind.GUESSED, severity=Severity.CRITICAL)
    Anomaly.objects.filter(pk=alert(Kind.TLS).pk).update(state=State.ENDED)
    titles = [row.anomaly.kind for row in alice_client.get("/alerts/").context["rows"]]
    assert titles == [Kind.GUESSED, Kind.CLIENT]
    closed = alice_client.get("/alerts/", {"state": "closed"}).context["rows"]
    assert [row.anomaly.kind for row in closed] == [Kind.TLS]
    assert len(alice_client.get("/alerts/", {"state": "all", "kind": "client"}).context["rows"]) == 1
    assert alice_client.get("/alerts/", {"state": "x", "kind": "\x00", "page": "99"}).status_code == 200


def test_an_alert_shows_its_evidence(alice_client: Client, alert: MakeAlert) -> None:
    """Address, usual networks, the way to the filtered auth log, and the app password to revoke, chosen already."""
    page = text(alice_client, f"/alerts/{alert().pk}/")
    for each in (AWAY, "192.0.2.0/24", "shop.alice-works", "web-1", "/auth-log/?ip=203.0.113.9&amp;result=accepted"):
        assert each in page
    assert "checked" in page


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_words(alice_client: Client, alert: MakeAlert, kind: Kind) -> None:
    """Each is told in a sentence, with advice, even without evidence."""
    bare = alice_client.get(f"/alerts/{alert(kind, evidence={}).pk}/").context["row"].told
    assert bare.title and bare.summary and bare.advice and "%(" not in bare.summary + bare.advice


def test_markup_in_the_evidence_is_text(alice_client: Client, alert: MakeAlert) -> None:
    """What strangers chose, client names and usernames, is escaped."""
    row = alert(Kind.USERNAMES, evidence={"ip": AWAY, "usernames": [EVIL], "client": EVIL, "count": 3})
    page = text(alice_client, f"/alerts/{row.pk}/")
    assert EVIL not in page and "&lt;script&gt;" in page


def test_this_was_me(alice_client: Client, alert: MakeAlert, alice_org: Organization) -> None:
    """It closes the alert under her name and teaches the network; a second answer is told that it is closed."""
    row = alert()
    page = alice_client.post(f"/alerts/{row.pk}/dismiss/", follow=True).content.decode()
    assert "known from now on" in page
    row.refresh_from_db()
    assert (row.state, row.closed_by) == (State.DISMISSED, "alice@alice.example")
    assert Habit.objects.get(value="203.0.113.0/24").taught_at is not None
    assert ChangeEvent.objects.filter(organization_id=alice_org.pk, action="anomaly.dismissed").count() == 1
    again = alice_client.post(f"/alerts/{row.pk}/dismiss/", follow=True).content.decode()
    assert "closed already" in again
    assert ChangeEvent.objects.filter(action="anomaly.dismissed").count() == 1


def test_revoke(alice_client: Client, alert: MakeAlert, password: AppPassword, shop: SmtpUser) -> None:
    """It ends the chosen app password, tells every smtpd, and closes the alert."""
    other = create_app_password(shop, name="web-2", actor=SYSTEM).app_password
    row = alert()
    alice_client.post(f"/alerts/{row.pk}/revoke/", {"app_password": [str(password.pk)]})
    row.refresh_from_db()
    password.refresh_from_db()
    other.refresh_from_db()
    assert row.state == State.REVOKED and password.revoked_at and other.revoked_at is None
    assert CredentialChange.objects.filter(app_password_id=password.pk, ends_sessions=True).exists()
    assert set(ChangeEvent.objects.values_list("action", flat=True)) >= {"app_password.revoked", "anomaly.revoked"}


def test_revoke_needs_a_recent_second_factor(
    alice: User, alice_org: Organization, client_for: Callable[..., Client], alert: MakeAlert, password: AppPassword
) -> None:
    """Without it nothing is revoked; she is asked who she is."""
    answer = client_for(alice, recent=False).post(f"/alerts/{alert().pk}/revoke/", {"app_password": [password.pk]})
    assert answer.status_code == 302 and "confirm" in answer.headers["Location"]
    password.refresh_from_db()
    assert password.revoked_at is None


@pytest.mark.parametrize("chosen", ["", "x", "0", "99999999999999999999", "²"])
def test_revoke_takes_only_what_the_alert_concerns(alice_client: Client, alert: MakeAlert, chosen: str) -> None:
    """Nonsense and nothing chosen are told, and the alert stays open."""
    row = alert()
    answer = alice_client.post(f"/alerts/{row.pk}/revoke/", {"app_password": [chosen]}, follow=True)
    assert "Choose at least one" in answer.content.decode()
    row.refresh_from_db()
    assert row.is_open


def test_another_customers_app_password_is_never_revoked(
    alice_client: Client, alert: MakeAlert, bob_org: Organization
) -> None:
    """Neither by its id in the form, nor if evidence named it."""
    theirs = create_app_password(
        create_smtp_user(bob_org, name="app", excess="refuse", actor=SYSTEM), name="bobs", actor=SYSTEM
    ).app_password
    row = alert(smtp_user_ids=[theirs.smtp_user_id], app_password_ids=[theirs.pk])
    page = alice_client.post(f"/alerts/{row.pk}/revoke/", {"app_password": [theirs.pk]}, follow=True).content.decode()
    theirs.refresh_from_db()
    assert theirs.revoked_at is None and "bobs" not in page and "app.bob" not in page


def test_a_viewer_looks_and_answers_nothing(vera_client: Client, alert: MakeAlert) -> None:
    """vera sees the evidence without buttons."""
    page = text(vera_client, f"/alerts/{alert().pk}/")
    assert AWAY in page and "This was me" not in page and "Revoke" not in page


def test_the_overview_names_open_alerts(alice_client: Client, alert: MakeAlert) -> None:
    """Among what needs doing."""
    alert()
    assert "1 alert is open." in text(alice_client, "/")


def test_preferences(alice_client: Client, alice_org: Organization) -> None:
    """Mail, severity and roles are saved and recorded; a role that may not answer cannot be chosen."""
    sent = {"mail": "daily", "least": "critical", "roles": ["owner"]}
    assert alice_client.post("/alerts/settings/", sent).status_code == 302
    row = AlertPreference.objects.get(pk=alice_org.pk)
    assert (row.mail, row.least, row.roles) == ("daily", "critical", ["owner"])
    assert ChangeEvent.objects.filter(action="alert_preference.changed", organization_id=alice_org.pk).exists()
    assert alice_client.post("/alerts/settings/", {**sent, "roles": ["viewer"]}).status_code == 422
    assert alice_client.post("/alerts/settings/", {**sent, "mail": "never", "roles": []}).status_code == 302
    assert "Nobody is told" in text(alice_client, "/alerts/")


def test_operators_see_all_and_answer_their_own(
    carol: User, client_for: Callable[..., Client], alert: MakeAlert
) -> None:
    """A customer's alert has no button there; one of no customer has, and its answer is recorded."""
    client, hers = client_for(carol), alert()
    own = alert(Kind.USERNAMES, organization_id=None, key="usernames:203.0.113.9", smtp_user_ids=[])
    listed = text(client, "/ops/alerts/")
    assert "Alice Works" in listed and "the installation" in listed
    assert "Close it" not in text(client, f"/ops/alerts/{hers.pk}/")
    assert client.post(f"/ops/alerts/{hers.pk}/dismiss/").status_code == 404
    assert "Close it" in text(client, f"/ops/alerts/{own.pk}/")
    client.post(f"/ops/alerts/{own.pk}/dismiss/")
    own.refresh_from_db()
    assert own.state == State.DISMISSED
    assert ChangeEvent.objects.filter(organization_id=0, action="anomaly.dismissed").exists()
    assert not client.get("/ops/alerts/", {"customer": "0"}).context["rows"]
    assert client.get("/ops/alerts/", {"customer": "9" * 30}).status_code == 200


def test_operators_settings_need_a_recent_second_factor(carol: User, client_for: Callable[..., Client]) -> None:
    """Like every change on an operator's page: who has only the session cannot silence the alerts."""
    answer = client_for(carol, recent=False).post("/ops/alerts/settings/", {"mail": "never", "least": "critical"})
    assert answer.status_code == 302 and "confirm" in answer.headers["Location"]
    assert not AlertPreference.objects.exists()


@pytest.mark.parametrize("path", ["/alerts/settings/", "/alerts/{}/dismiss/"])
def test_silencing_needs_a_recent_second_factor(
    path: str, alice: User, client_for: Callable[..., Client], alert: MakeAlert
) -> None:
    """Who has only her session can neither stop the mails nor teach that an alert was her."""
    row = alert()
    sent = {"mail": "never", "least": "critical", "roles": ["owner"]}
    answer = client_for(alice, recent=False).post(path.format(row.pk), sent)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(reverse("accounts:confirm_identity"))
    row.refresh_from_db()
    assert row.state == State.OPEN
    assert not AlertPreference.objects.exists() and not Habit.objects.filter(taught_at__isnull=False).exists()


def test_a_long_list_has_pages(alice_client: Client, alert: MakeAlert) -> None:
    """Twenty-five to a page, older ones behind a link."""
    now = timezone.now()
    for number in range(30):
        alert(Kind.CANARY, key=f"canary:{number}", last_at=now - timedelta(minutes=number))
    first = alice_client.get("/alerts/")
    assert len(first.context["rows"]) == 25
    assert len(alice_client.get("/alerts/" + first.context["older"]).context["rows"]) == 5


def test_the_floor_names_critical_alerts(carol: User, client_for: Callable[..., Client], alert: MakeAlert) -> None:
    """Open critical ones of any customer are among what is wrong now; others are not."""
    client = client_for(carol)
    alert(Kind.CLIENT)
    assert "critical alert" not in text(client, "/ops/")
    alert(Kind.GUESSED, severity=Severity.CRITICAL)
    assert "1 critical alert is open." in text(client, "/ops/")
