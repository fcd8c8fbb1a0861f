"""Access tokens of outside issuers: JWTs, judged by keys that were fetched before.

Shapes  read(token) -> Unproved: header and claims as the client sent them, to find whose keys to try.
        prove(unproved, rules, now) -> the claims, proved.
        usable_keys(JWKS) -> the public keys of the kinds that are accepted, with nothing else in them.
Units   LEEWAY_SECONDS: between two clocks. A token lives to its `exp`, and no longer than life_minutes_max after `iat`.
Errors  NotProved, with what is wrong in words for the log; its `reason` is what the audit row says.
Source  RFC 7515, 7517, 7518, 7519, 8037, 8725 (what goes wrong with JWTs); PyJWT verifies.

The key decides on the algorithm, never the token: the header can only fail to name that one. No header names a key but
by `kid`, which is looked up among the issuer's own and otherwise means nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt

from audit.models import Reason

LEEWAY_SECONDS = 30
TOKEN_LENGTH_MAX = 12_288  # what one AUTH response may hold
KEYS_MAX = 50
KEY_LENGTH_MAX = 4_096  # of a JWK as text; RSA with 8,192 bits takes 1,400
RSA_BITS = range(2048, 8193)
RSA_EXPONENT_MAX = 2**32  # a long one makes each verification as slow as a signature
KID_LENGTH_MAX = 255
# (kty, crv): the one algorithm that such a key is used with, and the members that are the key.
KINDS: Mapping[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("RSA", ""): ("RS256", ("n", "e")),
    ("EC", "P-256"): ("ES256", ("crv", "x", "y")),
    ("OKP", "Ed25519"): ("EdDSA", ("crv", "x")),
}
ALGORITHMS = frozenset(algorithm for algorithm, _members in KINDS.values())


class NotProved(Exception):
    """The token says nothing that may be believed."""

    def __init__(self, detail: str, *, reason: Reason = Reason.BAD_TOKEN) -> None:
        super().__init__(detail)
        self.detail, self.reason = detail, reason


class KeyUnknown(NotProved):
    """None of the issuer's keys that we have has this `kid`: perhaps it has a new one."""


@dataclass(frozen=True, slots=True)
class Unproved:
    """What the token claims. Nothing in it may be acted on."""

    token: str = field(repr=False)
    algorithm: str
    kid: str | None
    issuer: str
    claims: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """What an organization configured of one issuer."""

    issuer: str
    audience: str
    keys: Sequence[Mapping[str, str]]
    life: timedelta


def read(token: str) -> Unproved:
    """Raises NotProved for what is no JWT, or one that could not be proved by any key."""
    if len(token) > TOKEN_LENGTH_MAX or token.count(".") != 2 or not token.isascii():
        raise NotProved("no JWT")
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise NotProved("no JWT") from None
    header, claims = parts["header"], parts["payload"]
    algorithm, kid, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise NotProved("its algorithm is not accepted")
    if "crit" in header or "b64" in header:
        raise NotProved("it asks for an extension")
    if not (kid is None or (isinstance(kid, str) and len(kid) <= KID_LENGTH_MAX)) or not _is_text(issuer):
        raise NotProved("its kid or issuer cannot be read")
    return Unproved(token, algorithm, kid, issuer, claims)


def prove(unproved: Unproved, rules: Rules, *, now: datetime) -> dict[str, Any]:
    """The claims, if signature, issuer, audience and times hold. Raises NotProved, KeyUnknown."""
    key = _key_of(unproved, rules.keys)
    try:
        claims: dict[str, Any] = jwt.decode(
            unproved.token,
            key=key,
            algorithms=[unproved.algorithm],
            audience=rules.audience,
            issuer=rules.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "iss", "aud"]},
        )
    except jwt.ExpiredSignatureError:
        raise NotProved("it has expired", reason=Reason.TOKEN_EXPIRED) from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as wrong:
        raise NotProved(f"it is not valid: {type(wrong).__name__}") from None
    if now > end_of(claims, rules) + timedelta(seconds=LEEWAY_SECONDS):
        raise NotProved("it has lived longer than is allowed", reason=Reason.TOKEN_EXPIRED)
    return claims


def usable_keys(document: Any) -> list[dict[str, str]]:
    """Of a JSON Web Key Set. Private members, certificates and keys for other uses are left out."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("It is no JSON Web Key Set.")
    found = [stripped for each in listed[: KEYS_MAX * 2] if (stripped := _stripped(each)) is not None]
    return found[:KEYS_MAX]


def _stripped(jwk: Any) -> dict[str, str] | None:
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    kind = KINDS.get((str(jwk.get("kty")), str(jwk.get("crv", ""))))
    if kind is None or not isinstance(operations, list) or "verify" not in operations:
        return None
    algorithm, members = kind
    if jwk.get("alg", algorithm) not in {algorithm, "Ed25519" if algorithm == "EdDSA" else algorithm}:
        return None
    kept = {"kty": jwk["kty"], "alg": algorithm} | {name: jwk.get(name) for name in members}
    if _is_text(jwk.get("kid")) and len(jwk["kid"]) <= KID_LENGTH_MAX:
        kept["kid"] = jwk["kid"]
    return kept if all(isinstance(value, str) for value in kept.values()) and _is_sound(kept) else None


def _is_sound(jwk: dict[str, str]) -> bool:
    text = json.dumps(jwk, sort_keys=True)
    if len(text) > KEY_LENGTH_MAX:
        return False
    try:
        key = _loaded(text)
        if jwk["kty"] != "RSA":
            return True
        return key.key_size in RSA_BITS and key.public_numbers().e < RSA_EXPONENT_MAX
    except (jwt.PyJWTError, ValueError, TypeError):
        return False


def _key_of(unproved: Unproved, keys: Sequence[Mapping[str, str]]) -> Any:
    """By kid. A token without one is taken only if there is no choice."""
    fitting = [key for key in keys if key["alg"] == unproved.algorithm]
    if unproved.kid is not None:
        fitting = [key for key in fitting if key.get("kid") == unproved.kid]
    if not fitting:
        raise KeyUnknown("its key is not among the issuer's")
    if len(fitting) > 1:
        raise NotProved("it does not say by which of several keys it is signed")
    try:
        return _loaded(json.dumps(dict(fitting[0]), sort_keys=True))
    except (jwt.PyJWTError, ValueError, TypeError):
        raise NotProved("its key cannot be used") from None


@lru_cache(maxsize=1024)
def _loaded(jwk: str) -> Any:
    """By the key's own text, so that nothing in the cache can be out of date."""
    return jwt.PyJWK(json.loads(jwk)).key


def end_of(claims: Mapping[str, Any], rules: Rules) -> datetime:
    """When proved claims end. Raises NotProved."""
    try:
        expires = datetime.fromtimestamp(int(claims["exp"]), UTC)
        issued = datetime.fromtimestamp(int(claims["iat"]), UTC)
        return min(expires, issued + rules.life)
    except (ValueError, OverflowError, OSError, TypeError):
        raise NotProved("its times cannot be read") from None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()
