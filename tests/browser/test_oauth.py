"""A client is made in the panel, and gets its token after consent: the browser follows the redirect to the app."""

import base64
import hashlib
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage, sign_in
from tests.browser.test_first_mail import make_credential_by_script
from tests.plugins.running import Running

pytestmark = pytest.mark.browser


class Loopback(HTTPServer):
    """The app on its own computer, waiting for the code."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/back"):
                    outer.paths.append(self.path)
                body = b"<!doctype html><title>App</title><h1>Go back to the app</h1>"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/back"


@pytest.fixture
def app() -> Iterator[Loopback]:
    found = Loopback()
    yield found
    found.shutdown()
    found.server_close()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_consent_in_a_browser(
    running: Running, new_page: NewPage, customer: dict[str, str], app: Loopback, scripts: bool
) -> None:
    """Made, consented, sent back with a code past the content policy, and exchanged; then deleted, and refused."""
    login = make_credential_by_script(running, customer["domain"])
    watched = new_page(java_script_enabled=scripts)
    page = watched.page
    sign_in(watched, customer["email"], customer["password"])
    client_id = make_client(page)
    verifier = secrets.token_urlsafe(48)
    page.goto(f"/oauth/authorize/?{urlencode(request_of(client_id, app.url, verifier))}")
    expect(page.get_by_role("heading", name="Let “Mail app” send mail?")).to_be_visible()
    page.get_by_role("button", name="Allow", exact=True).click()
    expect(page.get_by_text("Choose the SMTP user that it sends as.")).to_be_visible()
    watched.problems = [each for each in watched.problems if not each.endswith(": 422")]  # that was the one
    page.get_by_label("SMTP user that it sends as").select_option(login.username)
    page.get_by_role("button", name="Allow", exact=True).click()
    expect(page.get_by_role("heading", name="Go back to the app")).to_be_visible()
    code = parse_qs(urlsplit(app.paths[0]).query)["code"][0]
    words = {"grant_type": "authorization_code", "code": code, "redirect_uri": app.url, "code_verifier": verifier}
    given = requests.post(f"{running.web_url}/oauth/token/", words | {"client_id": client_id})
    assert given.status_code == 200, given.text

    page.goto(f"/oauth/authorize/?{urlencode(request_of(client_id, app.url, verifier))}")
    page.get_by_role("button", name="Do not allow").click()
    expect(page.get_by_role("heading", name="Go back to the app")).to_be_visible()
    assert "error=access_denied" in app.paths[1]

    page.goto("/oauth-clients/")
    page.get_by_role("link", name="Mail app").click()
    expect(page.get_by_role("row").filter(has_text=login.username)).to_be_visible()  # the consent
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="No client yet")).to_be_visible()
    words = {"grant_type": "refresh_token", "refresh_token": given.json()["refresh_token"], "client_id": client_id}
    assert requests.post(f"{running.web_url}/oauth/token/", words).status_code == 401


def make_client(page: Page) -> str:
    """By way of the empty page; its id is shown with a button to copy it."""
    page.goto("/oauth-clients/")
    page.get_by_role("link", name="Make the first one").click()
    page.get_by_label("Name").fill("Mail app")
    page.get_by_label("An app on computers or phones").check()
    page.get_by_label("Redirect addresses").fill("http://127.0.0.1/back")
    page.get_by_role("button", name="Make the client").click()
    expect(page.get_by_role("heading", name="The client “Mail app”")).to_be_visible()
    return page.locator("[data-copy-value]").first.inner_text()


def request_of(client_id: str, redirect_uri: str, verifier: str) -> dict[str, str]:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    return {
        "response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri, "scope": "smtp.send",
        "code_challenge": challenge, "code_challenge_method": "S256", "state": secrets.token_urlsafe(8),
    }  # fmt: skip
