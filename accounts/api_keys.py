"""Bearer keys of /api/v1/: made, found, revoked.

Shapes  A key is `gpk_` and 36 base62 characters (214 bits); only its HMAC-SHA-256 under the first pepper is stored.
        `prefix` is its first 12 characters, to tell one from another in lists and in the log ("api:<prefix>").
Units   last_used_at is written once a minute at most.
Errors  ApiKeyRefused (ValidationError).
Source  docs/data.md, ApiKey.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiKey, Organization, User
from audit.changes import Actor, record_change

PREFIX: Final = "gpk_"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH: Final = 36
_SHOWN: Final = 12
_USE_NOTED_EVERY: Final = timedelta(minutes=1)


class ApiKeyRefused(ValidationError):
    """The key cannot be made like this."""


@dataclass(frozen=True, slots=True)
class NewApiKey:
    api_key: ApiKey
    secret: str  # shown once; it cannot be read again


def create_api_key(
    organization: Organization,
    *,
    name: str,
    scopes: Iterable[str],
    actor: Actor,
    created_by: User | None = None,
    expires_at: datetime | None = None,
) -> NewApiKey:
    wanted = sorted(set(scopes))
    _check(name, wanted, expires_at)
    secret = PREFIX + "".join(secrets.choice(_ALPHABET) for _character in range(_LENGTH))
    with transaction.atomic():
        api_key = ApiKey.objects.create(
            organization=organization,
            name=name.strip(),
            prefix=secret[:_SHOWN],
            digest=_digests(secret)[0],
            scopes=wanted,
            created_by=created_by,
            expires_at=expires_at,
        )
        _record("api_key.created", api_key, actor, {"scopes": wanted, "expires_at": expires_at})
    return NewApiKey(api_key, secret)


def find_api_key(secret: str, *, now: datetime | None = None) -> ApiKey | None:
    """A live key, with its organization; None for unknown, revoked and expired alike."""
    now = now or timezone.now()
    if not secret.startswith(PREFIX) or len(secret) != len(PREFIX) + _LENGTH:
        return None
    live = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    api_key = ApiKey.objects.select_related("organization").filter(live, digest__in=_digests(secret)).first()
    if api_key is not None and (api_key.last_used_at is None or now - api_key.last_used_at > _USE_NOTED_EVERY):
        ApiKey.objects.filter(pk=api_key.pk).update(last_used_at=now)
    return api_key


def revoke_api_key(api_key: ApiKey, *, actor: Actor, now: datetime | None = None) -> None:
    """Twice is once: the time of the first stays."""
    with transaction.atomic():
        revoked = ApiKey.objects.filter(pk=api_key.pk, revoked_at=None).update(revoked_at=now or timezone.now())
        if revoked:
            _record("api_key.revoked", api_key, actor, {})
    api_key.refresh_from_db(fields=["revoked_at"])


def _check(name: str, scopes: list[str], expires_at: datetime | None) -> None:
    if not name.strip():
        raise ApiKeyRefused(_("Give the key a name that says what uses it."), code="name")
    if not scopes:
        raise ApiKeyRefused(_("Choose at least one thing the key may do."), code="scopes")
    if unknown := [scope for scope in scopes if scope not in ApiKey.Scope.values]:
        raise ApiKeyRefused(_("There is no scope %(scope)s."), code="scopes", params={"scope": unknown[0]})
    if expires_at is not None and expires_at <= timezone.now():
        raise ApiKeyRefused(_("The end must lie in the future."), code="expires_at")


def _record(action: str, api_key: ApiKey, actor: Actor, values: dict[str, object]) -> None:
    record_change(
        action,
        organization_id=api_key.organization_id,
        actor=actor,
        subject=api_key.name,
        subject_id=str(api_key.pk),
        values=values,
    )


def _digests(secret: str) -> list[bytes]:
    """Under each pepper, the one that makes new ones first."""
    message = b"api-key:" + secret.encode("utf-8", "surrogatepass")
    return [hmac.new(pepper, message, hashlib.sha256).digest() for pepper in settings.GATEPOST_PEPPERS]
