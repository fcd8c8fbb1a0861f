"""A program that gets its tokens by HTTP and sends with them, from the panel's form to the delivered mail."""

import base64
import hashlib
import re
import secrets
import smtplib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from embedded.program import wait_for
from tests.flows.conftest import Login, message_to
from tests.plugins.running import Running

INPUT = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
VALUE = re.compile(r"<code data-copy-value>([^<]+)</code>")


class Browser:
    """Somebody at the panel, as far as forms need it."""

    def __init__(self, running: Running) -> None:
        self.running, self.session = running, requests.Session()
        customer = running.credentials["customer"]
        self.send("/account/sign-in/", username=customer["email"], password=customer["password"])

    def send(self, path: str, *, follow: bool = True, **fields: str) -> requests.Response:
        url = path if path.startswith("http") else self.running.web_url + path
        page = self.session.get(url)
        assert page.status_code == 200, page.text
        hidden = dict(INPUT.findall(page.text))
        headers = {"Referer": url, "Origin": self.running.web_url}
        return self.session.post(url, hidden | fields, headers=headers, allow_redirects=follow)

    def make_client(self, **fields: str) -> tuple[str, str]:
        """Its id and secret, as the page shows them once."""
        made = self.send("/oauth-clients/new/", name=f"Tool {secrets.token_hex(3)}", **fields)
        assert made.status_code == 200, made.text
        shown = VALUE.findall(made.text)
        return shown[0], next((value for value in shown if value.startswith("gpc_")), "")


@pytest.fixture
def browser(running: Running) -> Browser:
    return Browser(running)


def send(login: Login, token: str, to: str) -> smtplib.SMTP:
    """By XOAUTH2; the session stays open."""
    client = login.session()
    words = f"user={login.username}\x01auth=Bearer {token}\x01\x01"
    client.ehlo()
    client.auth("XOAUTH2", lambda challenge=None: words)
    assert not client.sendmail(login.sender, [to], login.mail(to))
    return client


def metadata(running: Running) -> dict[str, Any]:
    return dict(requests.get(f"{running.web_url}/.well-known/oauth-authorization-server").json())


def test_a_service_sends_with_client_credentials(
    running: Running, browser: Browser, smtp_user: Callable[..., Login], to: str
) -> None:
    """Made in the panel, found by metadata, delivered; when the client is deleted its open session gets 421."""
    login = smtp_user()
    client_id, secret = browser.make_client(kind="service", smtp_user=str(login.id))
    answer = requests.post(
        metadata(running)["token_endpoint"], {"grant_type": "client_credentials"}, auth=(client_id, secret)
    )
    assert answer.status_code == 200, answer.text
    session = send(login, answer.json()["access_token"], to)
    message_to(running, to)
    with login.session() as other:
        other.login(login.username, login.secret)
        number = next(row["id"] for row in running.get("oauth-clients")["items"] if row["client_id"] == client_id)
        browser.send(f"/oauth-clients/{number}/delete/")
        assert session.sock is not None
        session.sock.settimeout(5)
        assert session.getreply()[0] == 421
        assert other.noop()[0] == 250  # an app password's session lives on
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        send(login, answer.json()["access_token"], to)
    assert refused.value.smtp_code == 535


def test_a_member_gives_consent_and_the_program_sends(
    running: Running, browser: Browser, smtp_user: Callable[..., Login], to: str
) -> None:
    """Authorization code with PKCE, then a refresh; the tokens are the chosen SMTP user's and nobody else's."""
    login, other = smtp_user(), smtp_user()
    back = "http://127.0.0.1:1/back"
    client_id, secret = browser.make_client(kind="native", redirect_uris="http://127.0.0.1/back")
    assert secret == ""
    at, verifier = metadata(running), secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    request = requests.Request("GET", at["authorization_endpoint"], params={
        "response_type": "code", "client_id": client_id, "redirect_uri": back, "scope": "smtp.send", "state": "s",
        "code_challenge": challenge, "code_challenge_method": "S256",
    }).prepare()  # fmt: skip
    assert request.url is not None
    answered = browser.send(request.url, follow=False, smtp_user=str(login.id), decision="allow")
    assert answered.status_code == 302, answered.text
    assert answered.headers["Location"].startswith(back)
    code = parse_qs(urlsplit(answered.headers["Location"]).query)["code"][0]
    words = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, "code_verifier": verifier}
    given = requests.post(at["token_endpoint"], words | {"client_id": client_id}).json()
    send(login, given["access_token"], to).quit()
    message_to(running, to)
    with pytest.raises(smtplib.SMTPAuthenticationError):
        send(other, given["access_token"], to)
    words = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"], "client_id": client_id}
    again = requests.post(at["token_endpoint"], words).json()
    send(login, again["access_token"], to).quit()
    running.post(f"smtp-users/{login.id}/disable")
    assert requests.post(at["token_endpoint"], words | {"refresh_token": again["refresh_token"]}).status_code == 400

    def is_refused() -> bool:
        try:
            send(login, again["access_token"], to).quit()
        except smtplib.SMTPAuthenticationError:
            return True
        return False

    assert wait_for(is_refused, seconds=2)


def test_an_issuer_that_cannot_be_reached_is_told_within_seconds(running: Running, browser: Browser) -> None:
    """The form wakes Celery, which finds that the name leads inside, and the page says so."""
    fields = {"name": "Inside", "issuer": "x", "audience": secrets.token_hex(4), "claim": "sub"}
    made = browser.send(
        "/outside-issuers/new/", jwks_url="https://localhost:8443/keys", life_minutes_max="60", **fields
    )
    assert "/outside-issuers/" in made.url
    assert wait_for(lambda: "inside a network" in browser.session.get(made.url).text, seconds=10)
    browser.send(made.url + "remove/")
    assert browser.session.get(made.url).status_code == 404
