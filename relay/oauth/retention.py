"""What OAuth leaves behind, deleted when it has ended.

Shapes  Codes and access tokens go when they end; an access token stays while a refresh token counts its days by it.
        Used refresh tokens stay as long as an unused one would live: one that comes again shows a theft.
Source  docs/data.md, Retention. (The library's own sweep reads columns of OpenID Connect, which we do not have.)
"""

from datetime import datetime, timedelta

from django.db.models import Model, Q, QuerySet
from django.utils import timezone
from oauth2_provider.settings import oauth2_settings

from relay.oauth.models import OAuthAccessToken, OAuthGrant, OAuthRefreshToken

BATCH = 1_000


def delete_ended_tokens(*, now: datetime | None = None) -> None:
    now = now or timezone.now()
    unused_since = now - timedelta(seconds=oauth2_settings.REFRESH_TOKEN_EXPIRE_SECONDS)
    old = Q(revoked__lt=unused_since) | Q(revoked=None, access_token__expires__lt=unused_since)
    orphaned = Q(revoked=None, access_token=None, created__lt=unused_since)
    _delete(OAuthGrant.objects.filter(expires__lt=now))
    _delete(OAuthRefreshToken.objects.filter(old | orphaned))
    _delete(OAuthAccessToken.objects.filter(expires__lt=now, refresh_token=None))


def _delete(rows: "QuerySet[Model]") -> None:
    """In short transactions."""
    while found := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        rows.model._default_manager.filter(pk__in=found).delete()
