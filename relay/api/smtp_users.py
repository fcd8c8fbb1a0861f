"""SMTP users: list, create, change, disable, enable."""

from datetime import datetime
from typing import Any, Literal

from django.db import transaction
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Status

from relay import cram_md5, credentials
from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.shapes import PAGE, Body, CursorText, Limit, Listed, Schema, Text, bad_cursor, cursor_of, place_of
from relay.models import SmtpUser

router = Router(tags=["SMTP users"])

PER_HOUR = Field(default=None, ge=1, le=2_147_483_647)
EXCESS = Field(
    description="What happens to mail beyond the limit. refuse: a mail server or library with a queue of its own sends "
    "here, and gets 451. hold: an application or device sends here, and its mail waits until there is room."
)


class SmtpUserOut(Schema):
    id: int
    username: str
    description: str
    excess: Literal["refuse", "hold"]
    recipients_per_hour: int | None
    recipients_per_hour_per_ip: int | None
    cram_md5_enabled_at: datetime | None = Field(
        description="Since when app passwords are kept readable for CRAM-MD5; null: it is off."
    )
    disabled_at: datetime | None
    created_at: datetime


class SmtpUserNew(Body):
    name: Text = Field(max_length=32, description="The part before the dot: lower-case letters, digits and hyphens.")
    excess: Literal["refuse", "hold"] = EXCESS
    description: Text = Field(default="", max_length=120)
    recipients_per_hour: int | None = PER_HOUR
    recipients_per_hour_per_ip: int | None = PER_HOUR


class SmtpUserChange(Body):
    """Only what is sent changes; null takes a limit away."""

    description: Text | None = Field(default=None, max_length=120)
    excess: Literal["refuse", "hold"] | None = None
    recipients_per_hour: int | None = PER_HOUR
    recipients_per_hour_per_ip: int | None = PER_HOUR
    cram_md5: bool | None = Field(
        default=None,
        strict=True,
        description="true: app passwords made from now on are kept encrypted beside their hash and work with CRAM-MD5,"
        " where the operator allows it (422 otherwise). false: they are forgotten. Weak: only for devices that know"
        " nothing else.",
    )


def own_smtp_user(request: ApiRequest, id: int) -> SmtpUser:
    """Another organization's is not found, like one that does not exist."""
    return get_object_or_404(SmtpUser, organization=request.auth.organization, pk=id)


@router.get("/smtp-users", response=Listed[SmtpUserOut], summary="List SMTP users", **needs(Scope.SMTP_USERS_READ))
def list_smtp_users(request: ApiRequest, limit: Limit = PAGE, cursor: CursorText = "") -> Any:
    """In the order of their names."""
    found = SmtpUser.objects.filter(organization=request.auth.organization).order_by("username")
    if cursor:
        match place_of(cursor):
            case [str(after)] if after.isprintable():
                found = found.filter(username__gt=after)
            case _:
                raise bad_cursor()
    rows = list(found[: limit + 1])
    return {"items": rows[:limit], "next_cursor": cursor_of(rows[limit - 1].username) if len(rows) > limit else None}


@router.post("/smtp-users", response={201: SmtpUserOut}, summary="Create an SMTP user", **needs(Scope.SMTP_USERS_WRITE))
def create_smtp_user(request: ApiRequest, data: SmtpUserNew) -> Any:
    """Its username is the name, a dot, and the slug of the organization. It is never used again for another one."""
    return Status(201, credentials.create_smtp_user(request.auth.organization, actor=actor_of(request), **data.dict()))


@router.get("/smtp-users/{int:id}", response=SmtpUserOut, summary="Get an SMTP user", **needs(Scope.SMTP_USERS_READ))
def get_smtp_user(request: ApiRequest, id: int) -> Any:
    return own_smtp_user(request, id)


@router.patch("/smtp-users/{int:id}", response=SmtpUserOut, summary="Change it", **needs(Scope.SMTP_USERS_WRITE))
def change_smtp_user(request: ApiRequest, id: int, data: SmtpUserChange) -> Any:
    """What is not sent stays as it is; null takes a limit away."""
    sent = data.dict(exclude_unset=True)
    smtp_user = own_smtp_user(request, id)
    wanted = sent.pop("cram_md5", None)
    for name in ("description", "excess"):
        if sent.get(name, "") is None:
            del sent[name]  # these have no "none": null leaves them as they are
    with transaction.atomic():  # all of it, or nothing
        if wanted is not None:
            (cram_md5.enable if wanted else cram_md5.disable)(smtp_user, actor=actor_of(request))
        return credentials.update_smtp_user(smtp_user, actor=actor_of(request), **sent)


@router.post(
    "/smtp-users/{int:id}/disable", response=SmtpUserOut, summary="Disable it", **needs(Scope.SMTP_USERS_WRITE)
)
def disable_smtp_user(request: ApiRequest, id: int) -> Any:
    """Sign-in is refused and open sessions are ended within a second. Its app passwords stay for when it is enabled."""
    smtp_user = own_smtp_user(request, id)
    credentials.disable_smtp_user(smtp_user, actor=actor_of(request))
    return smtp_user


@router.post("/smtp-users/{int:id}/enable", response=SmtpUserOut, summary="Enable it", **needs(Scope.SMTP_USERS_WRITE))
def enable_smtp_user(request: ApiRequest, id: int) -> Any:
    smtp_user = own_smtp_user(request, id)
    credentials.enable_smtp_user(smtp_user, actor=actor_of(request))
    return smtp_user
