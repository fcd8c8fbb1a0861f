"""Endpoints at a server on 127.0.0.2 that is allowed, under a name whose addresses a test chooses.

Shapes  hook: the server; hook.answers[path], hook.bodies, hook.headers. names({host: [[address, …], …]}): what the
        resolver answers, one after the other. endpoint(path="/hook", events=…) -> Endpoint of alice's organization,
        with its secret as .text. post_all() runs a sender until nothing is due.
"""

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from accounts.api_keys import create_api_key
from accounts.models import ApiKey, Organization
from audit.changes import SYSTEM
from relay.credentials import create_smtp_user
from relay.models import SmtpUser
from relay.webhooks import interest
from relay.webhooks.endpoints import create_endpoint
from relay.webhooks.kinds import Event
from relay.webhooks.models import Endpoint
from tests.relay.outside_server import OutsideServer

HOST = "hooks.alice.example"
Names = Callable[[dict[str, list[list[str]]]], list[str]]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    interest.forget()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Each answer is used up, but the last; the names that were asked for, as the list grows."""
    asked: list[str] = []
    answers: dict[str, list[list[str]]] = {HOST: [["127.0.0.2"]]}
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **named: Any) -> list[Any]:
        if host not in answers:
            return real(host, port, *args, **named)  # PostgreSQL's and Valkey's
        asked.append(host)
        left = answers[host]
        found = left.pop(0) if len(left) > 1 else left[0]
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(family[ip_address(each).version], socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def set_answers(given: dict[str, list[list[str]]]) -> list[str]:
        answers.update(given)
        return asked

    return set_answers


@pytest.fixture
def hook(tmp_path: Path, settings: Any, names: Names) -> Iterator[OutsideServer]:
    found = OutsideServer(tmp_path, HOST)
    settings.GATEPOST_OUTSIDE_ALLOWED = (ip_network("127.0.0.2/32"),)
    settings.GATEPOST_OUTSIDE_CA_FILE = str(found.ca_file)
    found.answers["/hook"] = (200, {}, b"thanks")
    yield found
    found.stop()


@pytest.fixture
def shop(alice_org: Organization) -> SmtpUser:
    return create_smtp_user(alice_org, name="shop", excess="refuse", actor=SYSTEM)


@pytest.fixture
def endpoint(hook: OutsideServer, alice_org: Organization) -> Callable[..., Endpoint]:
    def make(
        path: str = "/hook", *, organization: Organization = alice_org, host: str = HOST, **values: Any
    ) -> Endpoint:
        made = create_endpoint(
            organization,
            **{"url": hook.url(path, host=host), "events": Event.values, "actor": SYSTEM, **values},
        )
        interest.forget()
        made.endpoint.text = made.secret  # type: ignore[attr-defined]
        return made.endpoint

    return make


@pytest.fixture
def key_with(alice_org: Organization) -> Callable[..., str]:
    def make(*scopes: str, organization: Organization = alice_org) -> str:
        given = scopes or ApiKey.Scope.values
        return create_api_key(organization, name="Test", scopes=given, actor=SYSTEM).secret

    return make
