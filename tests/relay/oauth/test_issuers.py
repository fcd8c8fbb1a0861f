"""relay.oauth.issuers: what may be configured, and how keys come from a real server."""

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.db import connection
from django.utils import timezone
from jwt.algorithms import RSAAlgorithm

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay import tasks
from relay.models import CredentialChange, SmtpUser
from relay.oauth import issuers
from relay.oauth.issuers import IssuerRefused, add_subject, configure_issuer, refresh_due_keys, remove_issuer
from relay.oauth.jwts import KEYS_MAX, usable_keys
from relay.oauth.models import OutsideIssuer
from relay.oauth.verify import Refused, Verified
from tests.relay.oauth.conftest import AUDIENCE, Signer, make_signer, verdict
from tests.relay.outside_server import OutsideServer

HOST = "login.alice.example"
WORDS: dict[str, Any] = {"name": "Login", "audience": AUDIENCE, "claim": "smtp_user", "actor": SYSTEM}


@pytest.fixture
def server(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[OutsideServer]:
    """The issuer's server, by its name."""
    found = OutsideServer(tmp_path, HOST)
    settings.GATEPOST_OUTSIDE_ALLOWED = (ip_network("127.0.0.2/32"),)
    settings.GATEPOST_OUTSIDE_CA_FILE = str(found.ca_file)
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: real("127.0.0.2" if host == HOST else host, *rest, **more),
    )
    yield found
    found.stop()


def publish(server: OutsideServer, *signers: Signer, path: str = "/keys", issuer: str | None = None) -> str:
    """Keys and metadata; returns the issuer."""
    issuer = issuer or server.url("", host=HOST)
    document = {"issuer": issuer, "jwks_uri": server.url(path, host=HOST)}
    server.answers["/.well-known/openid-configuration"] = (200, {}, json.dumps(document).encode())
    server.answers[path] = (200, {}, json.dumps({"keys": [each.jwk for each in signers]}).encode())
    return issuer


def make_due(row: OutsideIssuer) -> None:
    OutsideIssuer.objects.filter(pk=row.pk).update(next_fetch_at=timezone.now())


def test_keys_come_by_discovery_and_sign_somebody_in(
    server: OutsideServer, mail_user: SmtpUser, signer: Signer
) -> None:
    """Configured, fetched by the task, used: nothing is asked of the issuer at a sign-in."""
    issuer = publish(server, signer)
    row = configure_issuer(mail_user.organization, issuer=issuer, **WORDS)
    token = signer.token({"iss": issuer})
    assert isinstance(verdict(token), Refused)
    tasks.fetch_outside_keys()
    asked = list(server.asked)
    assert asked == ["/.well-known/openid-configuration", "/keys"]
    assert isinstance(verdict(token), Verified)
    assert server.asked == asked
    row.refresh_from_db()
    assert timezone.now() + timedelta(minutes=55) < row.next_fetch_at < timezone.now() + timedelta(minutes=65)
    assert refresh_due_keys() == 0


def test_an_issuer_with_a_path_is_found_both_ways(server: OutsideServer, mail_user: SmtpUser, signer: Signer) -> None:
    """OpenID Connect's address first, then RFC 8414's."""
    issuer = server.url("/realms/one", host=HOST)
    publish(server, signer, issuer=issuer)
    moved = server.answers.pop("/.well-known/openid-configuration")
    for path in ("/realms/one/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/realms/one"):
        server.answers[path] = moved
        row = configure_issuer(mail_user.organization, issuer=issuer, **WORDS)
        refresh_due_keys()
        row.refresh_from_db()
        assert (len(row.keys), row.fetch_problem) == (1, "")
        del server.answers[path]
        remove_issuer(row, actor=SYSTEM)


def test_keys_come_from_their_address_where_one_is_given(
    server: OutsideServer, mail_user: SmtpUser, signer: Signer
) -> None:
    """Without discovery; the issuer may then be any text."""
    publish(server, signer)
    url = server.url("/keys", host=HOST)
    row = configure_issuer(mail_user.organization, issuer="alice-login", jwks_url=url, **WORDS)
    refresh_due_keys()
    row.refresh_from_db()
    assert server.asked == ["/keys"]
    assert [key["kid"] for key in row.keys] == ["one"]
    assert isinstance(verdict(signer.token({"iss": "alice-login"})), Verified)


def test_a_key_that_the_issuer_withdraws_ends(server: OutsideServer, mail_user: SmtpUser, signer: Signer) -> None:
    """And a new one begins, after the next fetch."""
    issuer = publish(server, signer)
    row = configure_issuer(mail_user.organization, issuer=issuer, **WORDS)
    refresh_due_keys()
    new = make_signer(kid="two")
    publish(server, new)
    make_due(row)
    refresh_due_keys()
    assert isinstance(verdict(signer.token({"iss": issuer})), Refused)
    assert isinstance(verdict(new.token({"iss": issuer})), Verified)


def _chunked(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((404, {}, b""), "status 404"),
        ((500, {}, b"{}"), "status 500"),
        ((200, {}, b"<html>"), "JSON"),
        ((200, {}, b"[" * 100_000), "JSON"),
        ((200, {}, b"\xff\xfe"), "JSON"),
        ((200, {}, b"[]"), "Key Set"),
        ((200, {}, b'{"keys": {}}'), "Key Set"),
        ((200, {}, b'{"keys": []}'), "no key for"),
        ((200, {}, b'{"keys": [1, null, {}, {"kty": "oct", "k": "AAAA"}]}'), "no key for"),
        ((200, {}, b'{"keys": []}' + b" " * 300_000), "too long"),
        ((302, {"Location": "https://127.0.0.1/keys"}, b""), "inside a network"),
        ((302, {"Location": "http://login.alice.example/keys"}, b""), "https://"),
        (_chunked, "could not be reached"),
    ],
)
def test_an_answer_that_is_no_key_set_is_told_and_changes_nothing(
    server: OutsideServer, mail_user: SmtpUser, signer: Signer, answer: Any, problem: str
) -> None:
    """The keys that there are stay for a day; the next try comes sooner."""
    issuer = publish(server, signer)
    row = configure_issuer(mail_user.organization, issuer=issuer, **WORDS)
    refresh_due_keys()
    server.answers["/keys"] = answer
    make_due(row)
    refresh_due_keys()
    row.refresh_from_db()
    assert problem in row.fetch_problem
    assert len(row.keys) == 1
    assert row.next_fetch_at < timezone.now() + timedelta(minutes=11)
    assert isinstance(verdict(signer.token({"iss": issuer})), Verified)


def test_the_metadata_must_be_the_issuers(server: OutsideServer, mail_user: SmtpUser, signer: Signer) -> None:
    """RFC 8414 3.3: another issuer's keys are not taken for this one's."""
    issuer = publish(server, signer, issuer="https://other.example")
    for document in (b'{"issuer": "https://other.example"}', b"[]", b'{"jwks_uri": 7}'):
        server.answers["/.well-known/openid-configuration"] = (200, {}, document)
        row = configure_issuer(mail_user.organization, issuer=server.url("", host=HOST), **WORDS)
        refresh_due_keys()
        row.refresh_from_db()
        assert (row.keys, bool(row.fetch_problem)) == ([], True), issuer
        remove_issuer(row, actor=SYSTEM)


def test_two_workers_do_not_fetch_the_same(server: OutsideServer, mail_user: SmtpUser, signer: Signer) -> None:
    """A row that one has taken is not another's meanwhile."""
    configure_issuer(mail_user.organization, issuer=publish(server, signer), **WORDS)
    counts: list[int] = []
    answer = server.answers["/keys"]

    def second(handler: BaseHTTPRequestHandler) -> None:
        due = OutsideIssuer.objects.filter(next_fetch_at__lte=timezone.now()).count()
        counts.append(due)
        assert isinstance(answer, tuple)
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + answer[2])

    server.answers["/keys"] = second
    assert refresh_due_keys() == 1
    assert counts == [0]


def test_one_worker_fetches_at_a_time(server: OutsideServer, mail_user: SmtpUser, signer: Signer) -> None:
    """The next goes home, so that slow servers leave workers for everything else; afterwards it is its turn."""
    row = configure_issuer(mail_user.organization, issuer=publish(server, signer), **WORDS)
    answer, others = server.answers["/keys"], []

    def second(handler: BaseHTTPRequestHandler) -> None:
        others.append(refresh_due_keys(now=timezone.now() + timedelta(hours=1)))  # by a connection of its own
        connection.close()
        assert isinstance(answer, tuple)
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + answer[2])

    server.answers["/keys"] = second
    assert refresh_due_keys() == 1
    assert others == [0]
    server.answers["/keys"] = answer
    make_due(row)
    assert refresh_due_keys() == 1


def test_an_issuer_is_not_asked_all_the_time(server: OutsideServer, mail_user: SmtpUser, signer: Signer) -> None:
    """Half a minute must lie between two fetches that a member asks for, whether the first went well or not."""
    row = configure_issuer(mail_user.organization, issuer=publish(server, signer), **WORDS)
    assert issuers.fetch_soon(row)
    refresh_due_keys()
    assert not issuers.fetch_soon(row)
    assert issuers.fetch_soon(row, now=timezone.now() + timedelta(seconds=31))
    server.answers.clear()
    make_due(row)
    refresh_due_keys()
    assert not issuers.fetch_soon(row)


def test_an_issuer_that_is_being_asked_is_not_asked_again(
    server: OutsideServer, mail_user: SmtpUser, signer: Signer
) -> None:
    """A slow server must not occupy a worker for each click."""
    row = configure_issuer(mail_user.organization, issuer=publish(server, signer), **WORDS)
    answer, asked = server.answers["/keys"], []

    def second(handler: BaseHTTPRequestHandler) -> None:
        asked.append(issuers.fetch_soon(row))
        assert isinstance(answer, tuple)
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + answer[2])

    server.answers["/keys"] = second
    assert refresh_due_keys() == 1
    assert asked == [False]


def test_private_parts_and_other_keys_are_left_out() -> None:
    """Of a key only what verifies is kept; keys for encryption, of other kinds and sizes are not."""
    private = rsa.generate_private_key(65537, 2048)
    whole = json.loads(RSAAlgorithm.to_jwk(private)) | {"kid": "one", "x5c": ["AAAA"], "alg": "RS256"}
    del whole["key_ops"]
    (kept,) = usable_keys({"keys": [whole]})
    assert set(kept) == {"kty", "n", "e", "kid", "alg"}
    short = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
    curve = make_signer("ES256").jwk
    others = [
        short,
        {**kept, "use": "enc"},
        {**kept, "key_ops": ["sign"]},
        {**kept, "alg": "RS512"},
        {**kept, "alg": "HS256"},
        {**kept, "e": "A" * 700},
        {**kept, "n": 7},
        {**kept, "n": "!!"},
        {**curve, "x": curve["y"]},
        {**curve, "crv": "P-521"},
        {"kty": "oct", "k": "AAAA"},
        {"kty": ["RSA"]},
        "RSA",
    ]
    assert usable_keys({"keys": others}) == []
    assert len(usable_keys({"keys": [kept] * 200})) == KEYS_MAX


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"issuer": ""}, "issuer"),
        ({"issuer": "https://login.example/\0"}, "issuer"),
        ({"issuer": "https://user@login.example"}, "issuer"),
        ({"issuer": "https://login.example:22"}, "issuer"),
        ({"issuer": "login"}, "jwks_url"),
        ({"issuer": "http://login.example"}, "jwks_url"),
        ({"jwks_url": "http://login.example/keys"}, "jwks_url"),
        ({"jwks_url": "file:///etc/passwd"}, "jwks_url"),
        ({"audience": " "}, "audience"),
        ({"claim": "a\tb"}, "claim"),
        ({"life_minutes_max": 0}, "life_minutes_max"),
        ({"life_minutes_max": 1441}, "life_minutes_max"),
    ],
)
def test_what_cannot_be_configured(mail_user: SmtpUser, changes: dict[str, Any], field: str) -> None:
    """With the field that is wrong."""
    words = {"issuer": "https://login.example", **WORDS, **changes}
    with pytest.raises(IssuerRefused) as refused:
        configure_issuer(mail_user.organization, **words)
    assert refused.value.code == field


def test_an_issuer_is_configured_once_and_not_too_often(mail_user: SmtpUser, bob_org: Organization) -> None:
    """By one organization; another may have the same."""
    for number in range(issuers.ISSUERS_MAX):
        configure_issuer(mail_user.organization, issuer=f"https://login{number}.example", **WORDS)
    with pytest.raises(IssuerRefused):
        configure_issuer(mail_user.organization, issuer="https://one-more.example", **WORDS)
    OutsideIssuer.objects.latest("pk").delete()
    with pytest.raises(IssuerRefused) as refused:
        configure_issuer(mail_user.organization, issuer="https://login0.example", **WORDS)
    assert refused.value.code == "taken"
    configure_issuer(bob_org, issuer="https://login0.example", **WORDS)


def test_changes_are_in_the_log_and_end_sessions(mail_user: SmtpUser, bob_org: Organization) -> None:
    """Configured, subject added and removed, issuer removed."""
    row = configure_issuer(mail_user.organization, issuer="https://login.example", **WORDS)
    subject = add_subject(row, value=" 5f0e ", smtp_user=mail_user, actor=SYSTEM)
    assert subject.value == "5f0e"
    with pytest.raises(IssuerRefused):
        add_subject(row, value="5f0e", smtp_user=mail_user, actor=SYSTEM)
    issuers.remove_subject(subject, actor=SYSTEM)
    assert CredentialChange.objects.latest("pk").smtp_user_id == mail_user.pk
    remove_issuer(row, actor=SYSTEM)
    told = CredentialChange.objects.latest("pk")
    assert (told.organization_id, told.smtp_user_id, told.ends_sessions) == (mail_user.organization_id, None, True)
    actions = ChangeEvent.objects.filter(organization_id=mail_user.organization_id).values_list("action", flat=True)
    assert list(actions.order_by("sequence"))[-4:] == [
        "outside_issuer.configured",
        "outside_subject.added",
        "outside_subject.removed",
        "outside_issuer.removed",
    ]
