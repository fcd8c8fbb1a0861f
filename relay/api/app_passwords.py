"""App passwords: list, create and rotate (the secret is in that one answer and nowhere else), revoke, who uses one.

A sleeping one is woken in the panel alone: that asks for a second factor, which a key does not have.
"""

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Field, Router, Status

from relay import credentials, password_life
from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.shapes import Body, Listed, Moment, Schema, Text
from relay.api.smtp_users import own_smtp_user
from relay.models import AppPassword
from relay.password_policy import policy_of, set_policy

USES_DAYS = 30
Kind = Literal["app", "device", "canary"]
State = Literal["live", "ending", "asleep", "canary", "expired", "revoked"]

router = Router(tags=["App passwords"])


class AppPasswordOut(Schema):
    id: int
    smtp_user_id: int
    name: str
    kind: Kind
    hint: str = Field(description="The beginning of the secret: enough to tell one from another.")
    state: State = Field(description="ending: another one takes over. asleep: unused for long, woken in the panel.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_because: Literal["", "member", "replaced", "leaked"]
    slept_at: datetime | None
    replaces_id: int | None = Field(description="The one from which it takes over.")
    last_used_at: datetime | None
    last_used_ip: str | None
    last_used_client: str

    @staticmethod
    def resolve_state(row: AppPassword) -> str:
        state = password_life.state_of(row, now=timezone.now())
        return "live" if state == "active" else state


class AppPasswordMade(AppPasswordOut):
    secret: str = Field(description="Shown in this answer only. Keep it in the environment of the application.")


class AppPasswordNew(Body):
    name: Text = Field(max_length=64, description="What uses it.")
    kind: Kind = Field(
        default="app",
        description="device: 16 characters for printers and cameras, only with an allowlist. canary: works nowhere, and"
        " raises an alert when it is tried.",
    )
    expires_at: Moment | None = Field(
        default=None, description="Not set: never, or as late as the organization's policy allows."
    )


class Rotation(Body):
    name: Text = Field(default="", max_length=64, description="Of the new one. Empty: the old one's with today's date.")
    old_ends_at: Moment = Field(description="Until then both work. Within a year.")
    expires_at: Moment | None = Field(default=None, description="The end of the new one.")


class UseOut(Schema):
    ip: str
    client_name: str
    count: int = Field(description="Sign-ins, as of the last sum; it is made every two minutes.")
    last_at: datetime


class PolicyOut(Schema):
    max_days: int | None = Field(description="Days that an app password may live. null: no such rule.")
    unused_notice_days: int | None = Field(description="Days without a sign-in until a mail says so.")
    sleep_days: int | None = Field(description="Days without a sign-in until it goes to sleep.")


class PolicySet(PolicyOut):
    ends_set: int = Field(description="How many app passwords got an end, of which a mail tells.")


class PolicyChange(Body):
    max_days: int | None = None
    unused_notice_days: int | None = None
    sleep_days: int | None = None


@router.get(
    "/smtp-users/{int:id}/app-passwords",
    response=Listed[AppPasswordOut],
    summary="List an SMTP user's app passwords",
    **needs(Scope.SMTP_USERS_READ),
)
def list_app_passwords(request: ApiRequest, id: int) -> Any:
    """The newest first, ended ones too."""
    rows = own_smtp_user(request, id).app_passwords.prefetch_related("replacements")
    return {"items": list(rows.order_by("-created_at", "-pk"))}


@router.post(
    "/smtp-users/{int:id}/app-passwords",
    response={201: AppPasswordMade},
    summary="Create an app password",
    **needs(Scope.SMTP_USERS_WRITE),
)
def create_app_password(request: ApiRequest, id: int, data: AppPasswordNew) -> Any:
    """The answer holds the secret, which cannot be read again."""
    made = credentials.create_app_password(own_smtp_user(request, id), actor=actor_of(request), **data.dict())
    return _made(made)


def _made(made: credentials.NewAppPassword) -> Any:
    shown = AppPasswordOut.from_orm(made.app_password).dict()
    return Status(201, AppPasswordMade.model_construct(**shown, secret=made.secret))


def _own(request: ApiRequest, id: int) -> AppPassword:
    mine = AppPassword.objects.select_related("smtp_user").prefetch_related("replacements")
    return get_object_or_404(mine, smtp_user__organization=request.auth.organization, pk=id)


@router.post(
    "/app-passwords/{int:id}/rotate",
    response={201: AppPasswordMade},
    summary="Replace an app password",
    **needs(Scope.SMTP_USERS_WRITE),
)
def rotate_app_password(request: ApiRequest, id: int, data: Rotation) -> Any:
    """A new one of the same kind and networks takes over; the old one goes on until old_ends_at."""
    made = password_life.rotate_app_password(
        _own(request, id),
        name=data.name,
        ends_at=data.old_ends_at,
        expires_at=data.expires_at,
        actor=actor_of(request),
    )
    return _made(made)


@router.get(
    "/app-passwords/{int:id}/uses",
    response=Listed[UseOut],
    summary="Who uses an app password",
    **needs(Scope.SMTP_USERS_READ),
)
def list_uses(request: ApiRequest, id: int) -> Any:
    """Addresses and clients of the last 30 days, or since it is being replaced; the latest first, 50 at most."""
    row, now = _own(request, id), timezone.now()
    replacement = password_life.replacement_of(row, now=now)
    since = replacement.created_at if replacement else now - timedelta(days=USES_DAYS)
    return {"items": password_life.uses_of(row, since=since, now=now)}


@router.get(
    "/app-password-policy",
    response=PolicyOut,
    summary="Get the policy for app passwords",
    **needs(Scope.SMTP_USERS_READ),
)
def get_app_password_policy(request: ApiRequest) -> Any:
    return policy_of(request.auth.organization_id)


@router.patch(
    "/app-password-policy",
    response=PolicySet,
    summary="Change the policy for app passwords",
    **needs(Scope.POLICIES_WRITE),
)
def change_app_password_policy(request: ApiRequest, data: PolicyChange) -> Any:
    """What is left out stays. Those that would live longer get an end, never sooner than in 14 days."""
    policy = replace(policy_of(request.auth.organization_id), **data.dict(exclude_unset=True))
    ended = set_policy(request.auth.organization, policy=policy, actor=actor_of(request))
    return {**asdict(policy), "ends_set": len(ended)}


@router.post(
    "/app-passwords/{int:id}/revoke",
    response=AppPasswordOut,
    summary="Revoke an app password",
    **needs(Scope.SMTP_USERS_WRITE),
)
def revoke_app_password(request: ApiRequest, id: int) -> Any:
    """For good, within a second, in open sessions too. Revoking twice changes nothing."""
    row = _own(request, id)
    credentials.revoke_app_password(row, actor=actor_of(request))
    return row
