"""Bearer keys of /api/v1/: made, found, revoked.

Shapes  A key is `gpk_`, 30 random base62 characters (178 bits) and six of a CRC-32 (accounts.checksum); only its
        HMAC-SHA-256 under the first pepper is stored. Keys made before the checksum work like the others.
        `prefix` is its first 12 characters, to tell one from another in lists and in the log ("api:<prefix>").
Units   last_used_at is written once a minute at most.
Errors  ApiKeyRefused (ValidationError).
Source  docs/data.md, ApiKey.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import checksum
from accounts.models import ApiKey, Organization, User
from audit.changes import Actor, record_change

PREFIX: Final = "gpk_"
_RANDOM: Final = 30
_LENGTH: Final = _RANDOM + checksum.LENGTH
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
    secret = checksum.with_checksum(PREFIX + "".join(secrets.choice(checksum.BASE62) for _each in range(_RANDOM)))
    with transaction.atomic():
        api_key = ApiKey.objects.create(
            organization=organization,
            name=name.strip(),
            prefix=secret[:_SHOWN],
            digest=digests(secret)[0],
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
    api_key = ApiKey.objects.select_related("organization").filter(live, digest__in=digests(secret)).first()
    if api_key is not None and (api_key.last_used_at is None or now - api_key.last_used_at > _USE_NOTED_EVERY):
        ApiKey.objects.filter(pk=api_key.pk).update(last_used_at=now)
    return api_key


def revoke_api_key(api_key: ApiKey, *, actor: Actor, now: datetime | None = None, **why: str) -> bool:
    """Twice is once: the time of the first stays, and it alone is True."""
    with transaction.atomic():
        revoked = ApiKey.objects.filter(pk=api_key.pk, revoked_at=None).update(revoked_at=now or timezone.now())
        if revoked:
            _record("api_key.revoked", api_key, actor, why)
    api_key.refresh_from_db(fields=["revoked_at"])
    return bool(revoked)


def _check(name: str, scopes: list[str], expires_at: datetime | None) -> None:
    if not name.strip():
        raise ApiKeyRefused(_("Give the key a name that says what uses it."), code="name")
    if not scopes:
        raise ApiKeyRefused(_("Choose at least one thing the key may do."), code="scopes")
    if unknown := [scope for scope in scopes if scope not in ApiKey.Scope.values]:
        raise ApiKeyRefused(_("There is no scope %(scope)s."), code="scopes", params={"scope": unknown[0]})
    if expires_at is not None and expires_at <= timezone.now():
        raise ApiKeyRefused(_("The end must lie in the future."), code="expires_at")


def _record(action: str, api_key: ApiKey, actor: Actor, values: Mapping[str, object]) -> None:
    record_change(
        action,
        organization_id=api_key.organization_id,
        actor=actor,
        subject=api_key.name,
        subject_id=str(api_key.pk),
        values=values,
    )


def digests(secret: str) -> list[bytes]:
    """Under each pepper, the one that makes new ones first."""
    message = b"api-key:" + secret.encode("utf-8", "surrogatepass")
    return [hmac.new(pepper, message, hashlib.sha256).digest() for pepper in settings.GATEPOST_PEPPERS]
