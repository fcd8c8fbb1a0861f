"""The pages about clients and issuers: what is shown once, what is asked first, and what a form refuses."""

import re
import time
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization, User
from audit.models import ChangeEvent
from relay import tasks
from relay.models import SmtpUser
from relay.oauth.clients import CLIENTS_MAX
from relay.oauth.models import OAuthClient, OutsideIssuer
from relay.oauth.verify import Refused, Verified
from tests.relay.oauth.conftest import verdict
from tests.relay.oauth.flow import App, service, web_app

NEW, LIST, ISSUER_NEW = "/oauth-clients/new/", "/oauth-clients/", "/outside-issuers/new/"
ISSUER = {"name": "Login", "issuer": "https://login.example", "audience": "gp", "claim": "sub", "life_minutes_max": 60}


@pytest.fixture
def browser(alice: User, mail_user: SmtpUser, client_for: Any) -> Client:
    found: Client = client_for(alice)
    return found


def make(browser: Client, **fields: Any) -> Any:
    token = browser.get(NEW).context["token"]
    return browser.post(NEW, {"name": "Tool", "token": token, **fields})


def test_a_secret_is_shown_once_and_works(browser: Client, mail_user: SmtpUser) -> None:
    """On the page that answers the form, which nobody keeps; a second sending makes nothing."""
    token = browser.get(NEW).context["token"]
    fields = {"name": "Billing", "kind": "service", "smtp_user": mail_user.pk, "token": token}
    made = browser.post(NEW, fields)
    assert made.status_code == 200
    (secret,) = set(re.findall(r"gpc_[0-9A-Za-z]{32}", made.content.decode()))
    assert "no-store" in made.headers["Cache-Control"]
    assert secret not in browser.get(LIST).content.decode()
    app = App(made.context["made"])
    assert app.token(grant_type="client_credentials", client_secret=secret).status_code == 200
    assert browser.post(NEW, fields).status_code == 302
    assert OAuthClient.objects.count() == 1
    event = ChangeEvent.objects.get(action="oauth_client.created")
    assert event.values["smtp_user"] == mail_user.username
    assert secret not in str(event.values)


def test_an_app_has_no_secret(browser: Client) -> None:
    """There is nothing to show, and nothing that fits."""
    made = make(browser, kind="native", redirect_uris="http://127.0.0.1/back\nhttps://tool.example/back")
    assert "gpc_" not in made.content.decode()
    client = OAuthClient.objects.get()
    assert (client.client_type, client.client_secret) == ("public", "")
    assert client.redirect_uris.split() == ["http://127.0.0.1/back", "https://tool.example/back"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://tool.example/back", "http://127.0.0.2/back", "http://localhost.example/", "http://[::2]/",
        "tool.example",
        "https://", "https:///back", "https://*.tool.example/", "https://tool.example/*", "https://tool.example/#x",
        "https://user@tool.example/", "https://tool.example\\@x/", "javascript:alert(1)", "data:text/html,x",
        "com.example.app:/back", "ftp://tool.example/", "https://tool.example:99999/", "https://bücher.example/",
        "https://tool.example;sandbox/", "https://tool.example,x/", "https://tool.example;report-uri%20x/back",
        "HTTPS://tool.example/", "https://tool.example/" + "a" * 500, 'https://tool.example/"x', "https://[::1",
    ],
)  # fmt: skip
def test_a_redirect_address_is_https_or_loopback(browser: Client, uri: str) -> None:
    """Whole, plain, without wildcards: anything else is refused at its field."""
    response = make(browser, kind="web", redirect_uris=uri)
    assert response.status_code == 422
    assert response.context["form"].errors["redirect_uris"]
    assert not OAuthClient.objects.exists()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "service"}, "smtp_user"),
        ({"kind": "service", "redirect_uris": "https://tool.example/", "smtp_user": "{mail}"}, "redirect_uris"),
        ({"kind": "web"}, "redirect_uris"),
        ({"kind": "web", "redirect_uris": "https://tool.example/", "smtp_user": "{mail}"}, "smtp_user"),
        ({"kind": "web", "redirect_uris": "\n".join(f"https://tool.example/{n}" for n in range(11))}, "redirect_uris"),
        ({"kind": "implicit"}, "kind"),
        ({}, "kind"),
        ({"kind": "service", "smtp_user": "{mail}", "name": ""}, "name"),
        ({"kind": "service", "smtp_user": "{mail}", "name": "x" * 65}, "name"),
        ({"kind": "service", "smtp_user": "999999"}, "smtp_user"),
        ({"kind": "service", "smtp_user": "x"}, "smtp_user"),
    ],
)
def test_a_form_that_does_not_fit_is_shown_again(
    browser: Client, mail_user: SmtpUser, fields: dict[str, str], field: str
) -> None:
    """With what is wrong, at its field."""
    filled = {name: value.replace("{mail}", str(mail_user.pk)) for name, value in fields.items()}
    response = make(browser, **filled)
    assert response.status_code == 422
    assert response.context["form"].errors[field]
    assert not OAuthClient.objects.exists()


def test_another_organizations_smtp_user_is_no_choice(browser: Client, bob_org: Organization) -> None:
    """However its id was found."""
    from audit.changes import SYSTEM
    from relay.credentials import create_smtp_user

    bobs = create_smtp_user(bob_org, name="mail", excess="refuse", actor=SYSTEM)
    assert make(browser, kind="service", smtp_user=bobs.pk).status_code == 422


def test_there_is_an_end_to_clients(browser: Client, alice_org: Organization) -> None:
    """So that nobody fills the table."""
    OAuthClient.objects.bulk_create(
        OAuthClient(organization=alice_org, client_id=str(number), client_secret="", hash_client_secret=False)
        for number in range(CLIENTS_MAX)
    )
    assert make(browser, kind="web", redirect_uris="https://tool.example/").status_code == 422


def test_changes_ask_who_it_is_first(alice: User, mail_user: SmtpUser, client_for: Any) -> None:
    """Making and deleting clients and issuers: within a quarter of an hour of the last proof."""
    browser = client_for(alice, recent=False)
    client = service(mail_user).made.client
    for path in (NEW, f"{LIST}{client.pk}/delete/", ISSUER_NEW):
        for response in (browser.get(path), browser.post(path, ISSUER)):
            assert response.status_code == 302
            assert "/confirm-identity/" in response.headers["Location"]
    assert OAuthClient.objects.count() == 1
    assert not OutsideIssuer.objects.exists()


def test_a_client_is_deleted_after_a_question(browser: Client, mail_user: SmtpUser) -> None:
    """And it is in the change log."""
    app = service(mail_user)
    path = f"{LIST}{app.made.client.pk}/delete/"
    assert "Billing" in browser.get(path).content.decode()
    assert OAuthClient.objects.exists()
    assert browser.post(path).status_code == 302
    assert not OAuthClient.objects.exists()
    assert ChangeEvent.objects.get(action="oauth_client.deleted").subject == "Billing"
    assert app.token(grant_type="client_credentials").status_code == 401


def test_what_customers_wrote_is_text(browser: Client, alice_org: Organization) -> None:
    """Names and answers of strangers' servers are escaped on every page."""
    bad = "<img src=x onerror=alert(1)>"
    client = web_app(alice_org).made.client
    client.name = bad
    client.save()
    issuer = OutsideIssuer.objects.create(
        organization=alice_org, name=bad, issuer=bad, audience=bad, claim=bad, fetch_problem=bad,
        keys=[{"kid": bad, "alg": "RS256"}],
    )  # fmt: skip
    for path in (LIST, f"{LIST}{client.pk}/delete/", "/outside-issuers/", f"/outside-issuers/{issuer.pk}/"):
        text = browser.get(path).content.decode()
        assert bad not in text
        assert "&lt;img src=x" in text


def test_an_issuer_is_configured_and_its_keys_sent_for(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery is told, by the task's name."""
    sent: list[bool] = []
    monkeypatch.setattr(tasks.fetch_outside_keys, "apply_async", lambda **options: sent.append(options["retry"]))
    response = browser.post(ISSUER_NEW, ISSUER)
    issuer = OutsideIssuer.objects.get()
    assert response.headers["Location"] == f"/outside-issuers/{issuer.pk}/"
    assert sent == [False]
    assert "Being fetched" in browser.get(response.headers["Location"]).content.decode()


def test_without_a_broker_the_page_is_as_quick(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule sees to the keys later."""
    task: Any = tasks.fetch_outside_keys
    monkeypatch.setattr(task.app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    began = time.monotonic()
    assert browser.post(ISSUER_NEW, ISSUER).status_code == 302
    assert time.monotonic() - began < 3
    assert OutsideIssuer.objects.filter(next_fetch_at__lte=timezone.now()).exists()


def test_an_issuer_that_goes_nowhere_is_refused_at_its_field(browser: Client) -> None:
    """Before any network is asked."""
    for changes, field in (
        ({"jwks_url": "http://login.example/keys"}, "jwks_url"),
        ({"issuer": "https://login.example:25/"}, "issuer"),
        ({"life_minutes_max": 100_000}, "life_minutes_max"),
    ):
        response = browser.post(ISSUER_NEW, ISSUER | changes)
        assert response.status_code == 422
        assert response.context["form"].errors[field]


def test_a_subject_is_added_and_removed(browser: Client, alice_org: Organization, mail_user: SmtpUser) -> None:
    """On the issuer's page; twice is once, with a word."""
    issuer = OutsideIssuer.objects.create(organization=alice_org, name="Login", issuer="x", audience="y", claim="sub")
    path = f"/outside-issuers/{issuer.pk}/subjects/"
    fields = {"value": "5f0e", "smtp_user": mail_user.pk}
    assert browser.post(path + "add/", fields).status_code == 302
    again = browser.post(path + "add/", fields)
    assert again.status_code == 422
    assert again.context["form"].errors["value"]
    subject = issuer.subjects.get()
    assert "5f0e" in browser.get(f"/outside-issuers/{issuer.pk}/").content.decode()
    assert browser.post(f"{path}{subject.pk}/remove/").status_code == 302
    assert not issuer.subjects.exists()


def test_consents_are_seen_and_ended(browser: Client, alice_org: Organization, mail_user: SmtpUser) -> None:
    """Who consented, for whom, since when; ended, its tokens are refused and it is in the change log."""
    app = web_app(alice_org)
    path = f"{LIST}{app.made.client.pk}/"
    assert "Nobody has given consent" in browser.get(path).content.decode()
    first = app.exchange(app.code(browser, mail_user)).json()
    second = app.refresh(first["refresh_token"]).json()
    other = app.exchange(app.code(browser, mail_user)).json()
    shown = browser.get(path).context["consents"]
    assert [each.member.email for each in shown] == ["alice@alice.example"] * 2
    ours = min(shown, key=lambda each: each.since)
    assert ours.since < ours.renewed_at
    assert browser.post(f"{path}consents/{ours.family}/end/").status_code == 302
    assert isinstance(verdict(second["access_token"]), Refused)
    assert app.refresh(second["refresh_token"]).status_code == 400
    assert isinstance(verdict(other["access_token"]), Verified)
    assert [each.family for each in browser.get(path).context["consents"]] != [ours.family]
    event = ChangeEvent.objects.get(action="oauth_client.consent_ended")
    assert event.values == {"smtp_user": mail_user.username, "member": "alice@alice.example"}
    assert browser.post(f"{path}consents/{ours.family}/end/").status_code == 302
    assert ChangeEvent.objects.filter(action="oauth_client.consent_ended").count() == 1


def test_an_smtp_users_page_names_what_gets_tokens_for_it(
    browser: Client, alice_org: Organization, mail_user: SmtpUser, vera: User, client_for: Any
) -> None:
    """Its services, and what somebody consented to; nothing else, and not to who may only look."""
    page = f"/smtp-users/{mail_user.pk}/"
    assert "Access tokens" not in browser.get(page).content.decode()
    service(mail_user)
    app = web_app(alice_org)
    shown = browser.get(page)
    assert [each.name for each in shown.context["oauth_clients"]] == ["Billing"]
    app.exchange(app.code(browser, mail_user))
    shown = browser.get(page)
    assert [each.name for each in shown.context["oauth_clients"]] == ["Billing", "Tool"]
    assert "Access tokens" in shown.content.decode()
    assert "Access tokens" not in client_for(vera).get(page).content.decode()
