"""Secrets of OAuth as text: made, told from each other, and turned into what is stored.

Shapes  "gpo_" access token, "gpr_" refresh token, "gpc_" client secret: each + 32 random base62 characters (190 bits).
Source  RFC 6749 10.10 (guessing); RFC 6750.
"""

import hashlib
import hmac
import secrets
from typing import Any

from django.conf import settings

from relay.app_passwords import BASE62

ACCESS, REFRESH, CLIENT_SECRET = "gpo_", "gpr_", "gpc_"
RANDOM_LENGTH = 32


def make_access_token(request: Any = None, refresh_token: Any = None) -> str:
    """As django-oauth-toolkit calls its generators."""
    return _make(ACCESS)


def make_refresh_token(request: Any = None, refresh_token: Any = None) -> str:
    return _make(REFRESH)


def make_client_secret() -> str:
    return _make(CLIENT_SECRET)


def checksum(token: str) -> str:
    """What finds a token: its text is random, so a fast hash tells nothing of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def secret_digest(secret: str) -> str:
    """What is stored of a client secret."""
    return _digests(secret)[0]


def secret_fits(secret: str, stored: str) -> bool:
    """Under whichever pepper it was stored; nothing fits an empty one."""
    return bool(stored) and any(hmac.compare_digest(each, stored) for each in _digests(secret))


def _make(prefix: str) -> str:
    return prefix + "".join(secrets.choice(BASE62) for _ in range(RANDOM_LENGTH))


def _digests(secret: str) -> list[str]:
    message = b"oauth-client:" + secret.encode("utf-8", "surrogatepass")
    return [hmac.new(pepper, message, hashlib.sha256).hexdigest() for pepper in settings.GATEPOST_PEPPERS]
