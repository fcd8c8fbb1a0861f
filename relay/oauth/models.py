"""OAuth clients of an organization, what they were given, and the outside issuers that it trusts.

Shapes  OAuthClient 1-n OAuthGrant, OAuthAccessToken, OAuthRefreshToken, each for exactly one SMTP user.
        OutsideIssuer 1-n OutsideSubject: a value of the issuer's claim that stands for an SMTP user.
Units   `*_at`, expires: aware UTC. life_minutes_max: from a token's `iat`.
Source  RFC 6749, RFC 7636, RFC 7517; docs/data.md. The first four replace django-oauth-toolkit's tables.

At rest there is no secret: codes and tokens are SHA-256 of random text, client secrets HMAC under GATEPOST_PEPPER.
"""

import hashlib
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from oauth2_provider.models import (
    AbstractAccessToken,
    AbstractApplication,
    AbstractGrant,
    AbstractRefreshToken,
    ApplicationManager,
)

from accounts.models import Organization, User
from relay.models import SmtpUser
from relay.oauth.sessions import end_token_sessions

LOOPBACK = ("127.0.0.1", "::1")


class OAuthClient(AbstractApplication):
    """A program that asks for access tokens. `user` stays empty: a client belongs to its organization."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="oauth_clients")
    # Of client credentials: fixed when the client is made. Of a code flow: empty, chosen on the consent page.
    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.CASCADE, null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    last_used_at = models.DateTimeField(null=True, blank=True)  # a token was issued

    objects: ClassVar[ApplicationManager] = ApplicationManager()

    class Meta:
        db_table = "oauth_client"

    def is_usable(self, request: Any) -> bool:
        """No tokens for whom nobody could sign in with."""
        disabled = self.smtp_user is not None and self.smtp_user.disabled_at is not None
        return not disabled and self.organization.state != Organization.State.SUSPENDED

    def redirect_uri_allowed(self, uri: str) -> bool:
        """Character by character; of a loopback address the port is free, since apps listen on any (RFC 8252 7.3)."""
        return any(uri == registered or _same_but_port(uri, registered) for registered in self.redirect_uris.split())


def _same_but_port(uri: str, registered: str) -> bool:
    try:
        asked, known = urlsplit(uri), urlsplit(registered)
        asked_port, known_port = asked.port, known.port
    except ValueError:
        return False
    if known.scheme != "http" or known.hostname not in LOOPBACK or "@" in asked.netloc:
        return False
    return uri.replace(f":{asked_port}", "", 1) == registered.replace(f":{known_port}", "", 1)


class _Stored(str):
    """A digest as it came from the database: not to be hashed again."""

    __slots__ = ()


class DigestField(models.CharField):  # type: ignore[type-arg]  # not subscriptable at run time
    """Keeps SHA-256 of the text that it is given, and finds by the text."""

    def get_prep_value(self, value: Any) -> Any:
        if value is None or isinstance(value, _Stored):
            return value
        return _Stored(hashlib.sha256(str(value).encode("utf-8", "surrogatepass")).hexdigest())

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else _Stored(value)


class OAuthGrant(AbstractGrant):
    """An authorization code: used once, within a minute, by whom holds the PKCE verifier."""

    code = DigestField(max_length=64, unique=True)
    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.CASCADE)

    class Meta:
        db_table = "oauth_grant"


class OAuthAccessToken(AbstractAccessToken):
    """An hour's right to send as one SMTP user. `token` is always empty: token_checksum finds it."""

    id_token = None  # there is no OpenID Connect here
    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.CASCADE)

    class Meta:
        db_table = "oauth_access_token"


class OAuthRefreshToken(AbstractRefreshToken):
    """Used once, for a new pair. One that is used twice was stolen, or its successor was: the family ends."""

    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.CASCADE)

    class Meta(AbstractRefreshToken.Meta):
        db_table = "oauth_refresh_token"
        indexes = [models.Index(fields=["token_family"], name="oauth_refresh_token_family")]

    @classmethod
    def revoke_family(cls, token_family: UUID | None) -> None:
        with transaction.atomic():
            users = list(
                cls.objects.filter(token_family=token_family).values_list("smtp_user_id", flat=True).distinct()
            )
            for smtp_user in SmtpUser.objects.filter(pk__in=users):
                end_token_sessions(smtp_user.organization_id, smtp_user_id=smtp_user.pk)
            super().revoke_family(token_family)


class OutsideIssuer(models.Model):
    """Somebody else's authorization server whose access tokens (JWTs) sign in SMTP users of the organization."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="outside_issuers")
    name = models.CharField(_("Name"), max_length=64)
    issuer = models.CharField(_("Issuer"), max_length=512)  # exactly as in `iss`
    audience = models.CharField(_("Audience"), max_length=255)
    jwks_url = models.CharField(_("Address of the keys"), max_length=1000, blank=True)  # empty: by discovery
    claim = models.CharField(_("Claim that names the SMTP user"), max_length=64)
    life_minutes_max = models.PositiveSmallIntegerField(_("Longest life of a token, minutes"), default=60)
    keys = models.JSONField(default=list)  # public JWKs of the kinds that are accepted
    keys_fetched_at = models.DateTimeField(null=True, blank=True)
    next_fetch_at = models.DateTimeField(default=timezone.now, db_index=True)
    fetch_failed_at = models.DateTimeField(null=True, blank=True)  # empty: the last fetch went well
    fetch_problem = models.CharField(max_length=255, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "oauth_outside_issuer"
        constraints = [
            models.UniqueConstraint(fields=["organization", "issuer", "audience"], name="outside_issuer_once")
        ]
        indexes = [models.Index(fields=["issuer"], name="outside_issuer_issuer")]

    def __str__(self) -> str:
        return self.name


class OutsideSubject(models.Model):
    """A value of the claim that is no username, such as a service account's id, and whom it stands for."""

    issuer = models.ForeignKey(OutsideIssuer, on_delete=models.CASCADE, related_name="subjects")
    value = models.CharField(_("Value of the claim"), max_length=255)
    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.CASCADE)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "oauth_outside_subject"
        constraints = [models.UniqueConstraint(fields=["issuer", "value"], name="outside_subject_once")]
