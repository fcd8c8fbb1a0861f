"""What django-oauth-toolkit asks of us: client secrets, and the one SMTP user that every code and token is for.

Shapes  The consent page puts the SMTP user's id into the authorization request's credentials (SMTP_USER); from the code
        it goes to the tokens, and from a refresh token to its successors. Client credentials have the client's own.
Errors  None beyond the library's: what may no longer be given is `invalid_grant` to the client.
Source  RFC 6749, RFC 7009, RFC 9700; oauth2_provider.oauth2_validators.

The library's request object answers for attributes that it lacks with the client's parameters, so an SMTP user is only
ever read from the client, the stored code or the stored refresh token, never from an attribute of the request.
"""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.settings import oauth2_settings
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749 import errors

from accounts import roles
from accounts.models import Membership, Organization, User
from relay.models import SmtpUser
from relay.oauth import tokens
from relay.oauth.models import OAuthAccessToken, OAuthClient, OAuthGrant, OAuthRefreshToken
from relay.oauth.sessions import end_token_sessions

SMTP_USER = "gatepost_smtp_user"
CODE_LIFE = timedelta(seconds=oauth2_settings.AUTHORIZATION_CODE_EXPIRE_SECONDS)


def may_send_for(user: User, client: OAuthClient, smtp_user: SmtpUser) -> bool:
    """The person who consented still decides here, and the SMTP user may still send."""
    membership = Membership.objects.filter(user=user, organization=client.organization).first()
    return (
        user.is_active
        and roles.can(membership, roles.SMTP_USERS_CHANGE)
        and smtp_user.organization_id == client.organization_id
        and smtp_user.disabled_at is None
        and client.organization.state != Organization.State.SUSPENDED
    )


class Validator(OAuth2Validator):
    def _load_application(self, client_id: str, request: Request) -> Any:
        """An id that PostgreSQL would not take is nobody's."""
        if not isinstance(client_id, str) or not client_id.isprintable():
            return None
        return super()._load_application(client_id, request)  # type: ignore[no-untyped-call]  # the library has no types

    def _check_secret(self, provided_secret: str, stored_secret: str) -> bool:
        return tokens.secret_fits(provided_secret, stored_secret)

    def validate_code(
        self, client_id: str, code: str, client: Any, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        """The row is locked: of two that use a code at once, the second finds none."""
        grant = OAuthGrant.objects.select_for_update().filter(code=code, application=client).first()
        return (
            grant is not None
            and super().validate_code(client_id, code, client, request, *args, **kwargs)  # type: ignore[no-untyped-call]
            and may_send_for(grant.user, client, grant.smtp_user)
        )

    def validate_refresh_token(
        self, refresh_token: str, client: Any, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        """Locked too: the second of two finds it used, and the family ends."""
        list(OAuthRefreshToken.objects.select_for_update().filter(token_checksum=tokens.checksum(refresh_token)))
        if not super().validate_refresh_token(refresh_token, client, request, *args, **kwargs):  # type: ignore[no-untyped-call]
            return False
        kept = request.refresh_token_instance
        return may_send_for(kept.user, client, kept.smtp_user)

    def _create_authorization_code(
        self, request: Request, code: dict[str, str], expires: datetime | None = None
    ) -> Any:
        """The plain PKCE method is refused by the library before; a code without a challenge cannot come here."""
        if request.code_challenge_method != "S256":
            raise errors.InvalidRequestError(description="code_challenge_method must be S256.", request=request)
        chosen = request.__dict__.get(SMTP_USER)
        smtp_user = SmtpUser.objects.get(pk=chosen, organization=request.client.organization)
        return OAuthGrant.objects.create(
            application=request.client,
            user=request.user,
            smtp_user=smtp_user,
            code=code["code"],
            expires=expires or timezone.now() + CODE_LIFE,
            redirect_uri=request.redirect_uri,
            scope=" ".join(request.scopes),
            code_challenge=request.code_challenge or "",
            code_challenge_method=request.code_challenge_method,
        )

    def _create_access_token(
        self, expires: datetime, request: Request, token: dict[str, Any], source_refresh_token: Any = None
    ) -> OAuthAccessToken:
        if request.grant_type == "client_credentials":
            smtp_user_id = request.client.smtp_user_id
        elif source_refresh_token is not None:
            smtp_user_id = source_refresh_token.smtp_user_id
        else:
            smtp_user_id = OAuthGrant.objects.get(code=request.code, application=request.client).smtp_user_id
        access_token = OAuthAccessToken(
            user=request.user,
            scope=token["scope"],
            expires=expires,
            application=request.client,
            source_refresh_token=source_refresh_token,
            smtp_user_id=smtp_user_id,
        )
        self._set_token_value(access_token, token["access_token"])
        access_token.save()
        OAuthClient.objects.filter(pk=request.client.pk).update(last_used_at=timezone.now())
        return access_token

    def _create_refresh_token(
        self, request: Request, refresh_token_code: str, access_token: Any, previous_refresh_token: Any
    ) -> OAuthRefreshToken:
        refresh_token = OAuthRefreshToken(
            user=request.user,
            application=request.client,
            access_token=access_token,
            token_family=previous_refresh_token.token_family if previous_refresh_token else uuid.uuid4(),
            smtp_user_id=access_token.smtp_user_id,
        )
        self._set_token_value(refresh_token, refresh_token_code)
        refresh_token.save()
        return refresh_token

    def revoke_token(self, token: str, token_type_hint: str, request: Request, *args: Any, **kwargs: Any) -> None:
        """RFC 7009. What it opened on SMTP ends with it."""
        with transaction.atomic():
            found = {"token_checksum": tokens.checksum(token), "application": request.client}
            for model in (OAuthAccessToken, OAuthRefreshToken):
                for row in model.objects.filter(**found).select_related("smtp_user"):
                    end_token_sessions(row.smtp_user.organization_id, smtp_user_id=row.smtp_user_id)
            super().revoke_token(token, token_type_hint, request, *args, **kwargs)  # type: ignore[no-untyped-call]
