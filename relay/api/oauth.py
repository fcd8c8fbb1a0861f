"""OAuth clients and outside issuers: listed and ended. They are made in the panel, after a fresh proof of identity."""

from datetime import datetime
from typing import Any

from django.shortcuts import get_object_or_404
from ninja import Field, Router, Status

from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.shapes import Listed, Schema
from relay.oauth.clients import delete_client, kind_of
from relay.oauth.issuers import remove_issuer
from relay.oauth.models import OAuthClient, OutsideIssuer

router = Router(tags=["OAuth"])


class OAuthClientOut(Schema):
    id: int
    name: str
    client_id: str
    kind: str = Field(description="service (client credentials), web or native (authorization code).")
    smtp_user_id: int | None = Field(description="null: chosen when somebody gives consent.")
    redirect_uris: list[str]
    created_at: datetime
    last_used_at: datetime | None = Field(description="When it last got a token.")


class OutsideIssuerOut(Schema):
    id: int
    name: str
    issuer: str
    audience: str
    claim: str
    jwks_url: str
    life_minutes_max: int
    keys: int = Field(description="How many of its keys are known.")
    keys_fetched_at: datetime | None
    fetch_problem: str = Field(description="Why the last fetch of its keys failed; empty if it did not.")
    created_at: datetime


@router.get(
    "/oauth-clients", response=Listed[OAuthClientOut], summary="List OAuth clients", **needs(Scope.SMTP_USERS_READ)
)
def list_oauth_clients(request: ApiRequest) -> Any:
    """All of the organization; their secrets are nowhere."""
    rows = OAuthClient.objects.filter(organization=request.auth.organization).order_by("pk")
    return {"items": [_client(row) for row in rows]}


@router.delete("/oauth-clients/{int:id}", response={204: None}, summary="Delete it", **needs(Scope.SMTP_USERS_WRITE))
def delete_oauth_client(request: ApiRequest, id: int) -> Any:
    """Its tokens are refused at once, and the SMTP sessions that they opened end."""
    row = get_object_or_404(OAuthClient, organization=request.auth.organization, pk=id)
    delete_client(row, actor=actor_of(request))
    return Status(204, None)


@router.get(
    "/outside-issuers",
    response=Listed[OutsideIssuerOut],
    summary="List outside issuers",
    **needs(Scope.SMTP_USERS_READ),
)
def list_outside_issuers(request: ApiRequest) -> Any:
    """All of the organization, with the state of their keys."""
    rows = OutsideIssuer.objects.filter(organization=request.auth.organization).order_by("pk")
    return {"items": [_issuer(row) for row in rows]}


@router.delete("/outside-issuers/{int:id}", response={204: None}, summary="Remove it", **needs(Scope.SMTP_USERS_WRITE))
def remove_outside_issuer(request: ApiRequest, id: int) -> Any:
    """Its tokens are refused at once; SMTP sessions that tokens opened end."""
    row = get_object_or_404(OutsideIssuer, organization=request.auth.organization, pk=id)
    remove_issuer(row, actor=actor_of(request))
    return Status(204, None)


def _client(row: OAuthClient) -> dict[str, Any]:
    return {
        "id": row.pk,
        "name": row.name,
        "client_id": row.client_id,
        "kind": kind_of(row),
        "smtp_user_id": row.smtp_user_id,
        "redirect_uris": row.redirect_uris.split(),
        "created_at": row.created,
        "last_used_at": row.last_used_at,
    }


def _issuer(row: OutsideIssuer) -> dict[str, Any]:
    columns = ("name", "issuer", "audience", "claim", "jwks_url", "life_minutes_max", "fetch_problem")
    return {
        "id": row.pk,
        **{name: getattr(row, name) for name in columns},
        "keys": len(row.keys),
        "keys_fetched_at": row.keys_fetched_at,
        "created_at": row.created_at,
    }
