"""The consent page: whose request it is, who may answer it, and where the browser goes then."""

from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.credentials import create_smtp_user, disable_smtp_user
from relay.models import SmtpUser
from relay.oauth.models import OAuthGrant
from tests.conftest import make_organization
from tests.relay.oauth.flow import AUTHORIZE, BACK, App, sent_back, web_app


@pytest.fixture
def browser(alice: User, mail_user: SmtpUser, client_for: Any) -> Client:
    found: Client = client_for(alice)
    return found


@pytest.fixture
def app(mail_user: SmtpUser) -> App:
    return web_app(mail_user.organization)


def test_the_page_tells_who_asks_and_where_it_goes(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """The client's name, the organization, the host; the browser may follow the redirect there, and only there."""
    response = app.ask(browser)
    text = response.content.decode()
    assert response.status_code == 200
    for word in ("Tool", "Alice Works", "tool.example", mail_user.username):
        assert word in text
    assert "form-action 'self' https://tool.example;" in response.headers["Content-Security-Policy"] + ";"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert "no-store" in response.headers["Cache-Control"]


def test_consent_leads_back_with_a_code(browser: Client, app: App, mail_user: SmtpUser, settings: Any) -> None:
    """With the state unchanged and our name (RFC 9207); it stands in the change log."""
    response = app.answer(browser, mail_user)
    assert response.status_code == 302
    assert response.headers["Location"].startswith(BACK + "?")
    back = sent_back(response)
    assert (back["state"], back["iss"]) == (app.state, settings.GATEPOST_WEB_URL)
    grant = OAuthGrant.objects.get()
    assert (grant.smtp_user, grant.code_challenge_method) == (mail_user, "S256")
    event = ChangeEvent.objects.get(action="oauth_client.allowed")
    assert (event.actor, event.subject, event.values["smtp_user"]) == (
        "alice@alice.example",
        "Tool",
        "mail.alice-works",
    )


def test_a_no_leads_back_with_an_error(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """access_denied, whatever was chosen."""
    back = sent_back(app.answer(browser, mail_user, decision="deny"))
    assert (back["error"], back["state"]) == ("access_denied", app.state)
    assert not OAuthGrant.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": "nobody\0"},
        {"client_id": None},
        {"redirect_uri": "https://thief.example/back"},
        {"redirect_uri": "https://tool.example/back/"},
        {"redirect_uri": "https://tool.example/back?x=1"},
        {"redirect_uri": "https://tool.example/back#x"},
        {"redirect_uri": "https://tool.example.thief.example/back"},
        {"redirect_uri": "https://tool.example@thief.example/back"},
        {"redirect_uri": "https://TOOL.example/back"},
        {"redirect_uri": "https://tool.example:443/back"},
        {"redirect_uri": "http://tool.example/back"},
        {"redirect_uri": "https://tool.example/../back"},
        {"redirect_uri": "//tool.example/back"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "https://tool.example/back\r\nX: y"},
        {"state": "x" * 3000},
        {"state": "a\0b"},
    ],
)
def test_a_request_that_is_not_the_clients_leads_nowhere(
    browser: Client, app: App, mail_user: SmtpUser, changes: dict[str, Any]
) -> None:
    """A page of ours, no redirect, by GET and by POST."""
    for response in (app.ask(browser, **changes), app.answer(browser, mail_user, **changes)):
        assert response.status_code == 400
        assert "Location" not in response.headers
    assert not OAuthGrant.objects.exists()


def test_an_error_sends_no_stranger_anywhere(app: App, bob: User, bob_org: Organization, client_for: Any) -> None:
    """A link to us with another organization's client and a mistake in it is no link to that client's site."""
    response = app.ask(client_for(bob), scope="everything")
    assert response.status_code == 403
    assert "Location" not in response.headers


@pytest.mark.parametrize("given", [{"smtp_user": "1"}, {"decision": "allow"}, {"state": ["a", "b"]}])
def test_an_address_cannot_fill_in_the_form(browser: Client, app: App, given: dict[str, Any]) -> None:
    """Nor say anything twice."""
    url = f"{AUTHORIZE}?{urlencode(app.query(**given), doseq=True)}"
    for response in (browser.get(url), browser.post(url, {})):
        assert response.status_code == 400
        assert "Location" not in response.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unauthorized_client"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"scope": "smtp.send admin"}, "invalid_scope"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
    ],
)
def test_a_request_that_is_wrong_leads_back_with_an_error(
    browser: Client, app: App, mail_user: SmtpUser, changes: dict[str, Any], error: str
) -> None:
    """To the client's own address, with iss."""
    for response in (app.ask(browser, **changes), app.answer(browser, mail_user, **changes)):
        assert response.status_code == 302, response.content
        back = sent_back(response)
        assert back["error"] == error
        assert back["iss"]
    assert not OAuthGrant.objects.exists()


def test_the_scope_may_be_left_out(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """There is but one."""
    assert app.ask(browser, scope=None).status_code == 200


def test_only_own_smtp_users_that_are_enabled_can_be_chosen(
    browser: Client, app: App, alice_org: Organization, bob_org: Organization
) -> None:
    """Another organization's, a disabled one and none are no choice."""
    bobs = create_smtp_user(bob_org, name="mail", excess="refuse", actor=SYSTEM)
    old = create_smtp_user(alice_org, name="old", excess="refuse", actor=SYSTEM)
    disable_smtp_user(old, actor=SYSTEM)
    for chosen in (bobs, old, None):
        response = app.answer(browser, chosen)
        assert response.status_code == 422
        assert bobs.username not in response.content.decode()
    assert not OAuthGrant.objects.exists()


def test_who_may_not_change_smtp_users_gives_no_consent(
    app: App, mail_user: SmtpUser, vera: User, bob: User, bob_org: Organization, client_for: Any
) -> None:
    """A viewer, and a member of another organization, who learns nothing of this one."""
    for person in (vera, bob):
        browser = client_for(person)
        for response in (app.ask(browser), app.answer(browser, mail_user)):
            assert response.status_code == 403
            if person is bob:
                assert "Alice Works" not in response.content.decode()
    assert not OAuthGrant.objects.exists()


def test_the_clients_organization_decides_not_the_one_that_is_shown(
    app: App, mail_user: SmtpUser, alice: User, client_for: Any
) -> None:
    """A member of two gives consent for the client's."""
    second = make_organization("Second", "second", alice)
    browser = client_for(alice)
    browser.post("/account/organization/switch/", {"organization": second.pk})
    assert "Alice Works" in app.ask(browser).content.decode()
    assert sent_back(app.answer(browser, mail_user))["code"]


def test_nobody_gives_consent_while_the_organization_is_suspended(
    browser: Client, app: App, mail_user: SmtpUser, alice_org: Organization
) -> None:
    """As no other credential is made: its clients are nobody's."""
    Organization.objects.filter(pk=alice_org.pk).update(state=Organization.State.SUSPENDED)
    assert app.ask(browser).status_code == 400
    assert app.answer(browser, mail_user).status_code == 400
    assert not OAuthGrant.objects.exists()


def test_a_stranger_signs_in_first_and_comes_back(app: App, client: Client) -> None:
    """The whole request is in `next`."""
    response = app.ask(client)
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/account/sign-in/?next=/oauth/authorize/%3F")
    assert app.client_id in response.headers["Location"]


def test_the_second_factor_comes_first(app: App, alice_org: Organization, alice: User, client_for: Any) -> None:
    """Where the organization asks for one, and where it was not asked of late."""
    assert "/confirm-identity/" in app.ask(client_for(alice, recent=False)).headers["Location"]
    Organization.objects.filter(pk=alice_org.pk).update(mfa_required=True)
    assert "/account/security/authenticator/" in app.ask(client_for(alice)).headers["Location"]


def test_a_form_of_another_site_gives_no_consent(app: App, mail_user: SmtpUser, alice: User) -> None:
    """Without our token it is refused."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    assert app.answer(browser, mail_user).status_code == 403
    assert not OAuthGrant.objects.exists()


def test_names_are_text(alice_org: Organization, mail_user: SmtpUser, browser: Client) -> None:
    """Markup in a client's name is shown, not followed."""
    app = web_app(alice_org)
    app.made.client.name = "<script>alert(1)</script>"
    app.made.client.save()
    text = app.ask(browser).content.decode()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_an_organization_without_smtp_users_is_told_so(alice: User, alice_org: Organization, client_for: Any) -> None:
    """And can still say no."""
    app = web_app(alice_org)
    browser = client_for(alice)
    assert "no SMTP user" in app.ask(browser).content.decode()
    assert sent_back(app.answer(browser, None, decision="deny"))["error"] == "access_denied"
