"""A program that speaks OAuth with the installation, over Django's test client: PKCE, consent, token, refresh.

Shapes  App(client_id, secret, redirect_uri): app.authorize(browser, smtp_user) -> code; app.token(**fields) -> answer.
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from django.test import Client

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.models import SmtpUser
from relay.oauth.clients import NewClient, create_client

BACK = "https://tool.example/back"
AUTHORIZE, TOKEN, REVOKE = "/oauth/authorize/", "/oauth/token/", "/oauth/revoke/"


@dataclass
class App:
    made: NewClient
    redirect_uri: str = BACK
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    state: str = "a state & more"

    @property
    def client_id(self) -> str:
        return self.made.client.client_id

    def query(self, **changes: Any) -> dict[str, Any]:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        words = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "smtp.send",
            "state": self.state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in words.items() if value is not None}

    def ask(self, browser: Client, **changes: Any) -> Any:
        return browser.get(f"{AUTHORIZE}?{urlencode(self.query(**changes))}")

    def answer(self, browser: Client, smtp_user: SmtpUser | None, *, decision: str = "allow", **changes: Any) -> Any:
        fields = {"smtp_user": smtp_user.pk if smtp_user else "", "decision": decision}
        return browser.post(f"{AUTHORIZE}?{urlencode(self.query(**changes))}", fields)

    def code(self, browser: Client, smtp_user: SmtpUser) -> str:
        response = self.answer(browser, smtp_user)
        assert response.status_code == 302, response.content
        return sent_back(response)["code"]

    def token(self, *, basic: bool = False, **fields: Any) -> Any:
        words, headers = dict(fields), {}
        if basic:
            pair = f"{self.client_id}:{self.made.secret}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            words = {"client_id": self.client_id, **words}
            if self.made.secret:
                words.setdefault("client_secret", self.made.secret)
        return Client().post(
            TOKEN, {name: value for name, value in words.items() if value is not None}, headers=headers
        )

    def exchange(self, code: str, **changes: Any) -> Any:
        fields = {"code": code, "redirect_uri": self.redirect_uri, "code_verifier": self.verifier, **changes}
        return self.token(grant_type="authorization_code", **fields)

    def refresh(self, token: str) -> Any:
        return self.token(grant_type="refresh_token", refresh_token=token)


def sent_back(response: Any) -> dict[str, str]:
    """What the redirect tells the program."""
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["Location"]).query).items()}


def service(smtp_user: SmtpUser) -> App:
    return App(create_client(smtp_user.organization, name="Billing", kind="service", smtp_user=smtp_user, actor=SYSTEM))


def web_app(organization: Organization, *, redirect_uri: str = BACK, kind: str = "web") -> App:
    made = create_client(organization, name="Tool", kind=kind, redirect_uris=[redirect_uri], actor=SYSTEM)
    return App(made, redirect_uri)
