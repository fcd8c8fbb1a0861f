"""relay.oauth.verify: JWTs of issuers that the organization configured, and all that is no such token."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import Reason
from relay.credentials import create_smtp_user, disable_smtp_user
from relay.models import SmtpUser
from relay.oauth.models import OutsideIssuer, OutsideSubject
from relay.oauth.verify import Refused, Verified
from tests.relay.oauth.conftest import AUDIENCE, ISSUER, Signer, make_issuer, make_signer, verdict


def reason_of(token: str, **asked: Any) -> Reason:
    found = verdict(token, **asked)
    return found.reason if isinstance(found, Refused) else Reason.OK


def segment(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_each_algorithm_signs_in(mail_user: SmtpUser, kind: str) -> None:
    """With the username beside it and without."""
    signer = make_signer(kind)
    issuer = make_issuer(mail_user.organization, signer)
    for username in (None, "mail.alice-works"):
        found = verdict(signer.token(), username=username)
        assert isinstance(found, Verified), found
        assert (found.smtp_user_id, found.by) == (mail_user.pk, f"issuer:{issuer.pk}")


def test_the_audience_may_be_one_of_several(issuer: OutsideIssuer, signer: Signer) -> None:
    """RFC 7519 4.1.3."""
    assert reason_of(signer.token({"aud": ["elsewhere", AUDIENCE]})) is Reason.OK


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "elsewhere"},
        {"aud": None},
        {"aud": []},
        {"iss": "https://login.alice.example"},
        {"iss": None},
        {"exp": None},
        {"iat": None},
        {"nbf": datetime.now(UTC) + timedelta(hours=1)},
        {"iat": datetime.now(UTC) + timedelta(hours=1)},
        {"exp": "soon"},
        {"exp": 10**30},
        {"smtp_user": None},
        {"smtp_user": ["mail.alice-works"]},
        {"smtp_user": "mail"},
        {"smtp_user": "none.alice-works"},
        {"smtp_user": "mail.alice-works\0"},
        {"smtp_user": 7},
        {"smtp_user": "x" * 9000},
    ],
)
def test_a_claim_that_does_not_hold_is_refused(issuer: OutsideIssuer, signer: Signer, claims: dict[str, Any]) -> None:
    """Named or not: audience, issuer, times, and the claim for the SMTP user."""
    token = signer.token(claims)
    assert reason_of(token) is Reason.BAD_TOKEN
    assert reason_of(token, username="mail.alice-works") is Reason.BAD_TOKEN


def test_an_expired_token_is_refused_past_the_leeway(issuer: OutsideIssuer, signer: Signer) -> None:
    """30 s between two clocks are forgiven, 40 s are not."""
    now = datetime.now(UTC)
    assert reason_of(signer.token({"exp": now - timedelta(seconds=20)})) is Reason.OK
    assert reason_of(signer.token({"exp": now - timedelta(seconds=40)})) is Reason.TOKEN_EXPIRED


def test_a_token_that_lives_longer_is_taken_for_the_first_hour(issuer: OutsideIssuer, signer: Signer) -> None:
    """Whatever its issuer says; another bound may be chosen."""
    now = datetime.now(UTC)
    claims = {"iat": now - timedelta(minutes=62), "exp": now + timedelta(days=1)}
    assert reason_of(signer.token(claims)) is Reason.TOKEN_EXPIRED
    found = verdict(signer.token({"iat": now, "exp": now + timedelta(days=1)}))
    assert isinstance(found, Verified)
    assert found.expires_at <= now + timedelta(hours=1)
    issuer.life_minutes_max = 120
    issuer.save()
    assert reason_of(signer.token(claims)) is Reason.OK


def test_a_forged_signature_is_refused(issuer: OutsideIssuer, signer: Signer) -> None:
    """Another key under the same kid, a changed claim, a changed signature, and none."""
    assert reason_of(make_signer(kid="one").token()) is Reason.BAD_TOKEN
    header, claims, signature = signer.token().split(".")
    read = json.loads(base64.urlsafe_b64decode(claims + "=="))
    other = segment({**read, "smtp_user": "x.alice-works"})
    assert reason_of(f"{header}.{other}.{signature}") is Reason.BAD_TOKEN
    assert reason_of(f"{header}.{claims}.{signature[:-4]}AAAA") is Reason.BAD_TOKEN
    assert reason_of(f"{header}.{claims}.") is Reason.BAD_TOKEN


def test_the_algorithm_cannot_be_talked_into_anything(issuer: OutsideIssuer, signer: Signer) -> None:
    """ "none" in any spelling, HMAC with the public key as secret, and another algorithm than the key's."""
    _header, claims, signature = signer.token().split(".")
    for algorithm in ("none", "None", "NONE", "", None, 7, ["RS256"], "RS512", "PS256", "HS256"):
        head = segment({"alg": algorithm, "kid": "one"})
        assert reason_of(f"{head}.{claims}.") is Reason.BAD_TOKEN
        assert reason_of(f"{head}.{claims}.{signature}") is Reason.BAD_TOKEN
    public = signer.private.public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(signer.jwk).encode(),
    ):
        head = segment({"alg": "HS256", "kid": "one"})
        mac = hmac.new(secret, f"{head}.{claims}".encode(), hashlib.sha256).digest()
        assert reason_of(f"{head}.{claims}.{segment(mac)}") is Reason.BAD_TOKEN
    for other in ("ES256", "EdDSA"):
        head = segment({"alg": other, "kid": "one"})
        assert reason_of(f"{head}.{claims}.{signature}") is Reason.BAD_TOKEN


def test_no_header_brings_a_key_along(issuer: OutsideIssuer) -> None:
    """jwk, jku, x5u and x5c are not read, and a kid is a word to compare, whatever is in it."""
    thief = make_signer(kid="thief")
    assert reason_of(thief.token(header={"jwk": thief.jwk})) is Reason.BAD_TOKEN
    assert reason_of(thief.token(header={"jku": "https://thief.example/keys"})) is Reason.BAD_TOKEN
    for kid in ("../../../../dev/null", "one' OR '1'='1", "one\0", "", "x" * 5000, "https://thief.example/keys"):
        assert reason_of(thief.token(header={"kid": kid})) is Reason.BAD_TOKEN


def test_what_a_token_asks_to_be_understood_is_not(issuer: OutsideIssuer, signer: Signer) -> None:
    """RFC 7515 4.1.11: an extension that is not understood makes the token invalid."""
    assert reason_of(signer.token(header={"crit": ["exp"]})) is Reason.BAD_TOKEN
    assert reason_of(signer.token(header={"crit": []})) is Reason.BAD_TOKEN


def test_a_token_without_kid_is_taken_only_where_there_is_no_choice(mail_user: SmtpUser, signer: Signer) -> None:
    """One key of its algorithm, or it is refused."""
    issuer = make_issuer(mail_user.organization, signer, make_signer("ES256", kid="two"))
    assert reason_of(signer.token(header={"kid": None})) is Reason.OK
    issuer.keys += [{**issuer.keys[0], "kid": "three"}]
    issuer.save()
    assert reason_of(signer.token(header={"kid": None})) is Reason.BAD_TOKEN


def test_an_unknown_kid_has_the_keys_fetched_soon_and_not_often(issuer: OutsideIssuer, signer: Signer) -> None:
    """The issuer may have a new key; but a guesser does not make us knock at its door all the time."""
    due = issuer.next_fetch_at
    token = signer.token(header={"kid": "new"})
    assert reason_of(token) is Reason.BAD_TOKEN
    issuer.refresh_from_db()
    assert issuer.next_fetch_at == due  # fetched a moment ago
    OutsideIssuer.objects.update(keys_fetched_at=timezone.now() - timedelta(minutes=6))
    assert reason_of(token) is Reason.BAD_TOKEN
    issuer.refresh_from_db()
    assert issuer.next_fetch_at < timezone.now()


def test_keys_that_were_not_confirmed_for_a_day_are_not_trusted(issuer: OutsideIssuer, signer: Signer) -> None:
    """Nor keys that were never fetched."""
    for fetched in (timezone.now() - timedelta(hours=25), None):
        OutsideIssuer.objects.update(keys_fetched_at=fetched)
        assert reason_of(signer.token()) is Reason.BAD_TOKEN


def test_a_subject_stands_for_an_smtp_user(issuer: OutsideIssuer, mail_user: SmtpUser, signer: Signer) -> None:
    """A service account's id, beside the username for whose organization it is configured."""
    OutsideIssuer.objects.update(claim="sub")
    OutsideSubject.objects.create(issuer=issuer, value="5f0e", smtp_user=mail_user)
    assert reason_of(signer.token({"sub": "5f0e"}), username="mail.alice-works") is Reason.OK
    assert reason_of(signer.token({"sub": "5F0E"}), username="mail.alice-works") is Reason.BAD_TOKEN
    assert reason_of(signer.token({"sub": "5f0e"})) is Reason.BAD_TOKEN  # of which organization?


def test_the_named_smtp_user_must_be_the_tokens(issuer: OutsideIssuer, alice_org: Organization, signer: Signer) -> None:
    """Another one of the same organization is refused, and told whose token it is not."""
    other = create_smtp_user(alice_org, name="other", excess="refuse", actor=SYSTEM)
    found = verdict(signer.token(), username=other.username)
    assert isinstance(found, Refused)
    assert (found.reason, found.smtp_user_id) == (Reason.TOKEN_OF_ANOTHER, other.pk)


def test_an_issuer_speaks_for_its_own_organization_alone(
    mail_user: SmtpUser, alice_org: Organization, bob_org: Organization, signer: Signer
) -> None:
    """Bob's issuer, or bob's configuration of the same one, never signs in a user of alice's, nor alice's as bob's."""
    make_issuer(bob_org, signer)
    assert reason_of(signer.token()) is Reason.BAD_TOKEN
    assert reason_of(signer.token(), username="mail.alice-works") is Reason.BAD_TOKEN
    thief = make_signer()
    make_issuer(alice_org, thief)
    assert reason_of(signer.token()) is Reason.BAD_TOKEN
    assert reason_of(thief.token()) is Reason.OK
    bobs = create_smtp_user(bob_org, name="mail", excess="refuse", actor=SYSTEM)
    assert reason_of(thief.token({"smtp_user": bobs.username})) is Reason.BAD_TOKEN
    assert reason_of(thief.token({"smtp_user": bobs.username}), username=bobs.username) is Reason.BAD_TOKEN


def test_a_subject_of_another_organization_signs_in_nobody(
    issuer: OutsideIssuer, bob_org: Organization, signer: Signer
) -> None:
    """Even if the table held such a row."""
    bobs = create_smtp_user(bob_org, name="mail", excess="refuse", actor=SYSTEM)
    OutsideSubject.objects.create(issuer=issuer, value="5f0e", smtp_user=bobs)
    for username in (None, "mail.alice-works", bobs.username):
        assert reason_of(signer.token({"smtp_user": "5f0e"}), username=username) is Reason.BAD_TOKEN


def test_a_token_ends_with_its_smtp_user(issuer: OutsideIssuer, mail_user: SmtpUser, signer: Signer) -> None:
    """Disabled is disabled, whoever signed."""
    token = signer.token()
    disable_smtp_user(mail_user, actor=SYSTEM)
    assert reason_of(token) is Reason.USER_DISABLED


@pytest.mark.parametrize(
    "token",
    [
        "..",
        "a.b.c",
        "é.é.é",
        f"{segment([])}.{segment({})}.",
        f"{segment({'alg': 'RS256'})}.{segment([])}.",
        f"{segment({'alg': 'RS256'})}.{segment(b'[' * 9000)}.",
        f"{segment({'alg': 'RS256'})}.{segment({'iss': ISSUER + chr(0)})}.",
        f"{segment({'alg': 'RS256', 'kid': 'one'})}.{segment({'iss': [ISSUER]})}.AAAA",
        f"{segment({'alg': {'RS256': 1}})}.{segment({'iss': ISSUER})}.AAAA",
        f"{segment({'alg': 'RS256'})}.{segment({'iss': chr(0xDC80)})}.AAAA",
        f"{segment({'alg': 'RS256', 'kid': {'a': 1}})}.{segment({'iss': ISSUER})}.AAAA",
        f"{segment({'alg': 'RS256', 'kid': 'one'})}.{segment({'iss': ISSUER, chr(0): chr(0)})}.AAAA",
        "x" * 12_000,
        "." * 12_000,
    ],
)
def test_what_is_no_token_is_refused_quietly(issuer: OutsideIssuer, token: str) -> None:
    """No form of it raises anything."""
    assert reason_of(token) is Reason.BAD_TOKEN
    assert reason_of(token, username="mail.alice-works") is Reason.BAD_TOKEN
