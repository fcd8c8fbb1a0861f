"""App passwords: list, create (the secret is in that one answer and nowhere else), revoke."""

from datetime import datetime
from typing import Any, Literal

from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Field, Router, Status

from relay import credentials
from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.shapes import Body, Listed, Moment, Schema, Text
from relay.api.smtp_users import own_smtp_user
from relay.models import AppPassword

router = Router(tags=["App passwords"])


class AppPasswordOut(Schema):
    id: int
    smtp_user_id: int
    name: str
    kind: Literal["app", "device"]
    hint: str = Field(description="The beginning of the secret: enough to tell one from another.")
    state: Literal["live", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    last_used_ip: str | None
    last_used_client: str

    @staticmethod
    def resolve_state(row: AppPassword) -> str:
        if row.revoked_at is not None:
            return "revoked"
        return "expired" if row.expires_at is not None and row.expires_at <= timezone.now() else "live"


class AppPasswordMade(AppPasswordOut):
    secret: str = Field(description="Shown in this answer only. Keep it in the environment of the application.")


class AppPasswordNew(Body):
    name: Text = Field(max_length=64, description="What uses it.")
    kind: Literal["app", "device"] = Field(
        default="app", description="device: 16 characters for printers and cameras, only with an allowlist."
    )
    expires_at: Moment | None = None


@router.get(
    "/smtp-users/{int:id}/app-passwords",
    response=Listed[AppPasswordOut],
    summary="List an SMTP user's app passwords",
    **needs(Scope.SMTP_USERS_READ),
)
def list_app_passwords(request: ApiRequest, id: int) -> Any:
    """The newest first, ended ones too."""
    return {"items": list(own_smtp_user(request, id).app_passwords.order_by("-created_at", "-pk"))}


@router.post(
    "/smtp-users/{int:id}/app-passwords",
    response={201: AppPasswordMade},
    summary="Create an app password",
    **needs(Scope.SMTP_USERS_WRITE),
)
def create_app_password(request: ApiRequest, id: int, data: AppPasswordNew) -> Any:
    """The answer holds the secret, which cannot be read again."""
    made = credentials.create_app_password(own_smtp_user(request, id), actor=actor_of(request), **data.dict())
    shown = AppPasswordOut.from_orm(made.app_password).dict()
    return Status(201, AppPasswordMade.model_construct(**shown, secret=made.secret))


@router.post(
    "/app-passwords/{int:id}/revoke",
    response=AppPasswordOut,
    summary="Revoke an app password",
    **needs(Scope.SMTP_USERS_WRITE),
)
def revoke_app_password(request: ApiRequest, id: int) -> Any:
    """For good, within a second, in open sessions too. Revoking twice changes nothing."""
    mine = AppPassword.objects.select_related("smtp_user")
    row = get_object_or_404(mine, smtp_user__organization=request.auth.organization, pk=id)
    credentials.revoke_app_password(row, actor=actor_of(request))
    return row
