"""Clients of the API: `call` sends alice's key, `key_with(scopes)` makes another one of hers."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from accounts.api_keys import create_api_key
from accounts.models import ApiKey, Organization
from audit.changes import SYSTEM
from relay.credentials import create_smtp_user
from relay.models import SmtpUser

Call = Callable[..., HttpResponse]


@pytest.fixture
def key_with(alice_org: Organization) -> Callable[..., str]:
    def make(*scopes: str, organization: Organization = alice_org, **fields: Any) -> str:
        return create_api_key(
            organization, name="Test", scopes=scopes or ApiKey.Scope.values, actor=SYSTEM, **fields
        ).secret

    return make


def caller(key: str) -> Call:
    client = Client(raise_request_exception=False)

    def send(method: str, path: str, body: Any = None, **query: Any) -> HttpResponse:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return client.generic(
            method,
            f"/api/v1{path}",
            data,
            content_type="application/json",
            query_params=query or None,
            headers={"Authorization": f"Bearer {key}"},
        )

    return send


@pytest.fixture
def call(key_with: Callable[..., str]) -> Call:
    return caller(key_with())


@pytest.fixture
def bob_call(key_with: Callable[..., str], bob_org: Organization) -> Call:
    return caller(key_with(organization=bob_org))


@pytest.fixture
def shop(alice_org: Organization) -> SmtpUser:
    return create_smtp_user(alice_org, name="shop", excess="refuse", actor=SYSTEM)
