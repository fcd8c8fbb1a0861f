"""The token and revocation endpoints: client credentials, codes, refresh tokens, and what they refuse."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
import structlog
from django.db import connection
from django.test import Client
from django.utils import timezone
from structlog.testing import capture_logs

from accounts.models import Membership, Organization, Role, User
from audit.changes import SYSTEM
from audit.models import Reason
from relay import tasks
from relay.credentials import create_smtp_user, disable_smtp_user, enable_smtp_user
from relay.models import CredentialChange, SmtpUser
from relay.oauth import endpoints
from relay.oauth.clients import delete_client
from relay.oauth.models import OAuthAccessToken, OAuthClient, OAuthGrant, OAuthRefreshToken
from relay.oauth.verify import Refused, Verified
from tests.relay.oauth.conftest import verdict
from tests.relay.oauth.flow import REVOKE, TOKEN, App, service, web_app


@pytest.fixture
def browser(alice: User, mail_user: SmtpUser, client_for: Any) -> Client:
    found: Client = client_for(alice)
    return found


@pytest.fixture
def app(mail_user: SmtpUser) -> App:
    return web_app(mail_user.organization)


def test_a_secret_in_the_wrong_field_is_not_logged(client: Client, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody mixes the two up; the log says that something was asked, and not the secret."""
    with capture_logs() as lines:
        monkeypatch.setattr(endpoints, "log", structlog.get_logger())
        client.post(TOKEN, {"grant_type": "client_credentials", "client_id": app.made.secret, "client_secret": "x"})
    assert [line["event"] for line in lines] == ["oauth.token"]
    assert app.made.secret not in str(lines) and "gpc_…[redacted]" in str(lines)


def reason_of(token: str) -> Reason:
    found = verdict(token)
    return found.reason if isinstance(found, Refused) else Reason.OK


@pytest.mark.parametrize("basic", [True, False])
def test_client_credentials_give_a_token_for_the_clients_smtp_user(mail_user: SmtpUser, basic: bool) -> None:
    """An hour, the scope, no refresh token (RFC 6749 4.4.3); never cached; the client is marked as used."""
    app = service(mail_user)
    response = app.token(grant_type="client_credentials", basic=basic)
    answer = response.json()
    assert response.status_code == 200
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 3600, "smtp.send")
    assert "refresh_token" not in answer
    assert response.headers["Cache-Control"] == "no-store"
    found = verdict(answer["access_token"])
    assert isinstance(found, Verified)
    assert found.smtp_user_id == mail_user.pk
    assert timezone.now() < found.expires_at <= timezone.now() + timedelta(hours=1)
    assert OAuthClient.objects.get().last_used_at is not None


def test_a_code_gives_tokens_for_the_chosen_smtp_user(browser: Client, app: App, alice_org: Organization) -> None:
    """Consent, code, tokens; the other SMTP users are out of reach."""
    other = create_smtp_user(alice_org, name="other", excess="refuse", actor=SYSTEM)
    answer = app.exchange(app.code(browser, other)).json()
    found = verdict(answer["access_token"])
    assert isinstance(found, Verified)
    assert found.smtp_user_id == other.pk
    assert answer["refresh_token"].startswith("gpr_")
    again = app.refresh(answer["refresh_token"]).json()
    found = verdict(again["access_token"])
    assert isinstance(found, Verified)
    assert found.smtp_user_id == other.pk


def test_nothing_at_rest_gives_anything_back(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """Neither secret, code, access token nor refresh token is in any column of ours."""
    code = app.code(browser, mail_user)
    kept = _everything()
    answer = app.exchange(code).json()
    kept += _everything()
    for text in (app.made.secret, code, answer["access_token"], answer["refresh_token"]):
        assert text not in kept
        assert text[4:] not in kept


def _everything() -> str:
    found = ""
    with connection.cursor() as cursor:
        for table in ("oauth_client", "oauth_grant", "oauth_access_token", "oauth_refresh_token", "audit_changeevent"):
            cursor.execute(f"SELECT string_agg({table}::text, ' ') FROM {table}")
            found += str(cursor.fetchone())
    return found


def test_a_code_works_once(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """Used again it gives nothing."""
    code = app.code(browser, mail_user)
    assert app.exchange(code).status_code == 200
    response = app.exchange(code)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")


def test_a_code_that_is_used_twice_at_once_works_once(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """Two requests stand in line at its row."""
    code = app.code(browser, mail_user)
    assert sorted(response.status_code for response in _at_once(lambda: app.exchange(code))) == [200, 400]
    assert OAuthAccessToken.objects.count() == 1


def test_a_code_ends_after_a_minute(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """RFC 6749 4.1.2 allows ten."""
    code = app.code(browser, mail_user)
    left = OAuthGrant.objects.get().expires - timezone.now()
    assert timedelta(0) < left <= timedelta(seconds=60)
    OAuthGrant.objects.update(expires=timezone.now())
    assert app.exchange(code).json()["error"] == "invalid_grant"


def test_a_code_needs_its_verifier_client_and_address(
    browser: Client, app: App, mail_user: SmtpUser, alice_org: Organization
) -> None:
    """Whoever has seen a code go by can do nothing with it."""
    thief = web_app(alice_org)
    thief.verifier = app.verifier
    for attempt in (
        lambda code: app.exchange(code, code_verifier="x" * 64),
        lambda code: app.exchange(code, code_verifier=None),
        lambda code: app.exchange(code, redirect_uri="https://tool.example/other"),
        lambda code: app.exchange(code, client_secret="gpc_" + "x" * 32),
        lambda code: app.exchange(code, client_secret=""),
        thief.exchange,
    ):
        response = attempt(app.code(browser, mail_user))
        assert response.status_code in {400, 401}, response.content
        assert "access_token" not in response.json()
    assert not OAuthAccessToken.objects.exists()


def test_an_app_without_secret_lives_by_pkce(browser: Client, alice_org: Organization, mail_user: SmtpUser) -> None:
    """On a loopback address, whichever port it got this time; with the wrong verifier there is nothing."""
    app = web_app(alice_org, redirect_uri="http://127.0.0.1/back", kind="native")
    app.redirect_uri = "http://127.0.0.1:53124/back"
    assert app.exchange(app.code(browser, mail_user), code_verifier="y" * 50).status_code == 400
    answer = app.exchange(app.code(browser, mail_user)).json()
    assert reason_of(answer["access_token"]) is Reason.OK
    assert app.refresh(answer["refresh_token"]).status_code == 200


def test_refresh_tokens_rotate(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """Each works once, for a new pair."""
    first = app.exchange(app.code(browser, mail_user)).json()
    second = app.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert reason_of(second["access_token"]) is Reason.OK
    assert app.refresh(second["refresh_token"]).status_code == 200


def test_a_stolen_refresh_token_ends_the_family(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """Used a second time, all that came of it is dead, open sessions included (RFC 9700 4.14.2)."""
    first = app.exchange(app.code(browser, mail_user)).json()
    second = app.refresh(first["refresh_token"]).json()
    assert app.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert reason_of(second["access_token"]) is Reason.BAD_TOKEN
    assert app.refresh(second["refresh_token"]).json()["error"] == "invalid_grant"
    _ended(mail_user)


def test_a_refresh_token_that_is_used_twice_at_once_ends_the_family(
    browser: Client, app: App, mail_user: SmtpUser
) -> None:
    """One of two gets a pair, which is dead when the other has been refused; neither is an error of ours."""
    first = app.exchange(app.code(browser, mail_user)).json()
    answers = _at_once(lambda: app.refresh(first["refresh_token"]))
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    given = next(answer.json() for answer in answers if answer.status_code == 200)
    assert given["access_token"].startswith("gpo_")
    assert reason_of(given["access_token"]) is Reason.BAD_TOKEN


def test_an_unused_refresh_token_ends_after_ninety_days(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """Counted from the end of its access token."""
    first = app.exchange(app.code(browser, mail_user)).json()
    OAuthAccessToken.objects.update(expires=timezone.now() - timedelta(days=89))
    second = app.refresh(first["refresh_token"])
    assert second.status_code == 200
    OAuthAccessToken.objects.update(expires=timezone.now() - timedelta(days=91))
    assert app.refresh(second.json()["refresh_token"]).json()["error"] == "invalid_grant"


def test_who_leaves_takes_the_consent_along(browser: Client, app: App, mail_user: SmtpUser, alice: User) -> None:
    """Not a member, or no longer allowed to: neither code nor refresh token gives anything."""
    first = app.exchange(app.code(browser, mail_user)).json()
    code = app.code(browser, mail_user)
    Membership.objects.update(role=Role.VIEWER)
    assert app.exchange(code).json()["error"] == "invalid_grant"
    assert app.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    Membership.objects.all().delete()
    assert app.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"


def test_no_tokens_for_an_smtp_user_that_is_disabled(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """By none of the grants, and again when it is enabled."""
    machine = service(mail_user)
    first = app.exchange(app.code(browser, mail_user)).json()
    code = app.code(browser, mail_user)
    disable_smtp_user(mail_user, actor=SYSTEM)
    assert machine.token(grant_type="client_credentials").status_code == 401
    assert app.exchange(code).status_code == 400
    assert app.refresh(first["refresh_token"]).status_code == 400
    enable_smtp_user(mail_user, actor=SYSTEM)
    assert machine.token(grant_type="client_credentials").status_code == 200


def test_no_tokens_while_the_organization_is_suspended(
    browser: Client, app: App, mail_user: SmtpUser, alice_org: Organization
) -> None:
    """By none of the grants."""
    machine = service(mail_user)
    first = app.exchange(app.code(browser, mail_user)).json()
    code = app.code(browser, mail_user)
    Organization.objects.filter(pk=alice_org.pk).update(state=Organization.State.SUSPENDED)
    assert machine.token(grant_type="client_credentials").status_code == 401
    assert app.exchange(code).status_code in {400, 401}
    assert app.refresh(first["refresh_token"]).status_code in {400, 401}


def test_what_has_ended_is_deleted(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """Every hour; what a live refresh token needs, and used ones that would show a theft, stay."""
    service(mail_user).token(grant_type="client_credentials")
    first = app.exchange(app.code(browser, mail_user)).json()
    second = app.refresh(first["refresh_token"]).json()
    app.code(browser, mail_user)
    OAuthAccessToken.objects.update(expires=timezone.now() - timedelta(minutes=1))
    OAuthGrant.objects.update(expires=timezone.now() - timedelta(minutes=1))
    tasks.delete_expired()
    assert (OAuthAccessToken.objects.count(), OAuthRefreshToken.objects.count()) == (1, 2)
    assert not OAuthGrant.objects.exists()
    assert app.refresh(second["refresh_token"]).status_code == 200
    OAuthRefreshToken.objects.exclude(revoked=None).update(revoked=timezone.now() - timedelta(days=91))
    OAuthAccessToken.objects.update(expires=timezone.now() - timedelta(days=91))
    tasks.delete_expired()
    assert (OAuthAccessToken.objects.count(), OAuthRefreshToken.objects.count()) == (0, 0)


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_a_client_can_end_its_tokens(browser: Client, app: App, mail_user: SmtpUser, which: str) -> None:
    """RFC 7009: the pair dies together, and the sessions with it. An unknown token is no error, and tells nothing."""
    given = app.exchange(app.code(browser, mail_user)).json()
    words = {"client_id": app.client_id, "client_secret": app.made.secret}
    response = Client().post(REVOKE, words | {"token": given[which]})
    assert response.status_code == 200
    assert reason_of(given["access_token"]) is Reason.BAD_TOKEN
    assert app.refresh(given["refresh_token"]).status_code == 400
    _ended(mail_user)
    assert Client().post(REVOKE, words | {"token": "gpo_nothing"}).status_code == 200


def test_nobody_ends_the_tokens_of_another_client(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """Nor without the secret."""
    given = app.exchange(app.code(browser, mail_user)).json()
    other = service(mail_user)
    words = {"client_id": other.client_id, "client_secret": other.made.secret, "token": given["access_token"]}
    assert Client().post(REVOKE, words).status_code == 200
    assert Client().post(REVOKE, {"client_id": app.client_id, "token": given["access_token"]}).status_code == 401
    assert reason_of(given["access_token"]) is Reason.OK


def test_tokens_die_with_their_client(browser: Client, app: App, mail_user: SmtpUser) -> None:
    """Deleted, nothing of it is left, and its sessions end."""
    given = app.exchange(app.code(browser, mail_user)).json()
    delete_client(OAuthClient.objects.get(), actor=SYSTEM)
    assert reason_of(given["access_token"]) is Reason.BAD_TOKEN
    assert not OAuthRefreshToken.objects.exists()
    assert app.refresh(given["refresh_token"]).status_code == 401
    _ended(mail_user)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"grant_type": "password", "username": "alice@alice.example", "password": "gravel-Lantern-47-otter"},
        {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "x"},
        {"grant_type": "implicit"},
        {"grant_type": "client_credentials", "scope": "smtp.send admin"},
        {"grant_type": "client_credentials", "client_secret": "wrong"},
        {"grant_type": "client_credentials", "client_secret": ""},
        {"grant_type": "client_credentials", "client_id": "nobody"},
        {"grant_type": "client_credentials", "client_id": "nobody\0"},
        {"grant_type": "client_credentials", "client_id": "\u202e"},
        {"grant_type": ["client_credentials", "client_credentials"]},
        {"grant_type": "client_credentials", "x": "y" * 5000},
        {"grant_type": "authorization_code", "code": "x"},
        {"grant_type": "authorization_code", "code": "x\0", "code_verifier": "v" * 50},
        {"grant_type": "refresh_token", "refresh_token": "gpr_x"},
        {"grant_type": "refresh_token", "refresh_token": ""},
        {"grant_type": "refresh_token"},
    ],
)
def test_what_is_not_offered_is_an_error_of_the_client(mail_user: SmtpUser, fields: dict[str, Any]) -> None:
    """JSON with `error`, 400 or 401, and no token."""
    response = service(mail_user).token(**fields)
    assert response.status_code in {400, 401}, response.content
    assert json.loads(response.content)["error"]
    assert not OAuthAccessToken.objects.exists()


def test_a_client_with_a_code_has_no_client_credentials(app: App) -> None:
    """A client has the one grant that it was made for."""
    response = app.token(grant_type="client_credentials")
    assert (response.status_code, response.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize("header", ["Basic x", "Basic !!!", "Basic " + "QQ==", "Bearer x", "Basic AGE6YgA=", "Basic"])
def test_headers_that_cannot_be_read_are_an_error_of_the_client(mail_user: SmtpUser, header: str) -> None:
    """Not base64, no colon, NUL in the name."""
    response = Client().post(TOKEN, {"grant_type": "client_credentials"}, headers={"Authorization": header})
    assert response.status_code in {400, 401}


def test_the_secret_does_not_stand_in_the_address(mail_user: SmtpUser) -> None:
    """RFC 6749 2.3.1: addresses get into logs."""
    app = service(mail_user)
    words = f"client_id={app.client_id}&client_secret={app.made.secret}&grant_type=client_credentials"
    assert Client().post(f"{TOKEN}?{words}").status_code == 400
    assert Client().get(f"{TOKEN}?{words}").status_code == 405


def test_who_asks_too_often_waits(mail_user: SmtpUser) -> None:
    """From one address; another one is answered."""
    app = service(mail_user)
    statuses = [app.token(grant_type="client_credentials", client_secret="x").status_code for _ in range(121)]
    assert statuses == [401] * 120 + [429]
    response = app.token(grant_type="client_credentials")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "60")
    other = Client(REMOTE_ADDR="192.0.2.77").post(TOKEN, {"grant_type": "client_credentials"})
    assert other.status_code == 401


def test_the_metadata_names_what_there_is(client: Client, settings: Any, db: None) -> None:
    """RFC 8414: and nothing that there is not."""
    document = client.get("/.well-known/oauth-authorization-server").json()
    assert document["issuer"] == settings.GATEPOST_WEB_URL
    assert document["token_endpoint"] == settings.GATEPOST_WEB_URL + TOKEN
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["grant_types_supported"] == ["authorization_code", "client_credentials", "refresh_token"]


def _ended(smtp_user: SmtpUser) -> None:
    """Sessions of tokens were told to end; those of app passwords were not."""
    before = smtp_user.token_epoch
    smtp_user.refresh_from_db()
    assert smtp_user.token_epoch > before
    told = CredentialChange.objects.filter(smtp_user_id=smtp_user.pk, ends_sessions=True).latest("pk")
    assert told.app_password_id == 0


def _at_once(function: Any) -> list[Any]:
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
