"""Clients, tokens and issuers for the tests of OAuth.

Shapes  mail_user: an SMTP user of alice's organization. verdict(token, username=…) -> Verified or Refused, by a pool
        and a directory of its own. Signer: an outside issuer's key; signer.token(claims, header) -> JWT.
        make_issuer(organization, signer, …) -> OutsideIssuer whose keys have been fetched.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.utils import timezone
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.connections import make_pool
from relay.credentials import create_smtp_user
from relay.directory import Directory
from relay.models import SmtpUser
from relay.oauth import tokens
from relay.oauth.jwts import usable_keys
from relay.oauth.models import OAuthAccessToken, OAuthClient, OutsideIssuer
from relay.oauth.verify import Refused, Verified, verify_token

ISSUER = "https://login.alice.example/"
AUDIENCE = "gatepost"


@dataclass(frozen=True)
class Signer:
    """A key of an outside issuer. jwk is its public half, as the issuer publishes it."""

    algorithm: str
    private: Any
    jwk: dict[str, Any]

    def token(self, claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None, **options: Any) -> str:
        now = datetime.now(UTC)
        words = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + timedelta(minutes=30),
            "smtp_user": "mail.alice-works",
            **(claims or {}),
        }
        words = {name: value for name, value in words.items() if value is not None}
        headers = {"kid": self.jwk["kid"], **(header or {})}
        return jwt.encode(
            words,
            options.get("key", self.private),
            algorithm=options.get("algorithm", self.algorithm),
            headers={name: value for name, value in headers.items() if value is not None},
        )


def make_signer(kind: str = "RS256", *, kid: str = "one") -> Signer:
    makers: dict[str, tuple[Callable[[], Any], Any]] = {
        "RS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
        "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
        "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
    }
    make, algorithm = makers[kind]
    private = make()
    public = json.loads(algorithm.to_jwk(private.public_key()))
    return Signer(kind, private, {**public, "kid": kid, "alg": kind, "use": "sig"})


@pytest.fixture(scope="session")
def signer() -> Signer:
    return make_signer()


@pytest.fixture
def mail_user(transactional_db: None, alice_org: Organization) -> SmtpUser:
    return create_smtp_user(alice_org, name="mail", excess="refuse", actor=SYSTEM)


def make_issuer(organization: Organization, *signers: Signer, **columns: Any) -> OutsideIssuer:
    values = {
        "name": "Company login",
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "claim": "smtp_user",
        "keys": usable_keys({"keys": [each.jwk for each in signers]}),
        "keys_fetched_at": timezone.now(),
        "next_fetch_at": timezone.now() + timedelta(hours=1),
        **columns,
    }
    return OutsideIssuer.objects.create(organization=organization, **values)


@pytest.fixture
def issuer(mail_user: SmtpUser, signer: Signer) -> OutsideIssuer:
    return make_issuer(mail_user.organization, signer)


def make_token(smtp_user: SmtpUser, *, life: timedelta = timedelta(hours=1), scope: str = "smtp.send") -> str:
    """An access token of ours, without the endpoint."""
    client = OAuthClient.objects.create(
        organization=smtp_user.organization,
        smtp_user=smtp_user,
        name="Billing",
        client_type=OAuthClient.CLIENT_CONFIDENTIAL,
        authorization_grant_type=OAuthClient.GRANT_CLIENT_CREDENTIALS,
        client_secret="",
        hash_client_secret=False,
    )
    token = tokens.make_access_token()
    row = OAuthAccessToken(application=client, smtp_user=smtp_user, expires=timezone.now() + life, scope=scope)
    row._raw_token, row.token = token, ""
    row.save()
    return token


def verdict(token: str, *, username: str | None = None, ip: str = "192.0.2.1") -> Verified | Refused:
    async def run() -> Verified | Refused:
        async with make_pool(name="test") as pool:
            return await verify_token(pool, Directory(pool), token, username=username, ip=ip_address(ip))

    return asyncio.run(run())
