"""Endpoints of an organization: made, changed, their secrets rotated, disabled and enabled, deleted.

Shapes  create_endpoint(…) and rotate_secret(…) answer with the secret, which nothing else ever shows. Every change is
        in the change log, in its own transaction; word of it reaches the writers of events within
        relay.webhooks.interest.FRESH_SECONDS.
Units   OVERLAP: after a rotation both secrets sign. ENDPOINTS_MAX: of one organization.
Errors  EndpointRefused (a ValidationError) with words for a form; its code names the field.
Source  Standard Webhooks, Signature scheme; docs/webhooks.md.
"""

import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization, User
from audit.changes import Actor, changed, record_change
from relay import notices
from relay.models import SmtpUser
from relay.outside import OutsideRefused, check_where
from relay.sealed import sealed
from relay.webhooks import interest
from relay.webhooks.kinds import Event
from relay.webhooks.models import Endpoint

PREFIX: Final = "whsec_"
SECRET_OCTETS: Final = 32
OVERLAP: Final = timedelta(hours=24)
ENDPOINTS_MAX: Final = 20


class EndpointRefused(ValidationError):
    """The endpoint cannot be like this."""


@dataclass(frozen=True, slots=True)
class Made:
    endpoint: Endpoint
    secret: str  # shown once; it cannot be read again


def endpoints_of(organization_id: int) -> list[Endpoint]:
    return list(Endpoint.objects.filter(organization=organization_id, deleted_at=None).order_by("pk"))


def create_endpoint(
    organization: Organization,
    *,
    url: str,
    events: Iterable[str],
    actor: Actor,
    description: str = "",
    smtp_user_ids: Iterable[int] = (),
    created_by: User | None = None,
) -> Made:
    """Raises EndpointRefused."""
    _demand_open(url)
    values = {"url": url, "events": events, "description": description, "smtp_user_ids": smtp_user_ids}
    return _create(organization, values, actor=actor, created_by=created_by)


@transaction.atomic
def _create(organization: Organization, given: dict[str, Any], *, actor: Actor, created_by: User | None) -> Made:
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)  # one at a time against ENDPOINTS_MAX
    if Endpoint.objects.filter(organization=organization, deleted_at=None).count() >= ENDPOINTS_MAX:
        text = _("An organization has %(most)d endpoints at most.") % {"most": ENDPOINTS_MAX}
        raise EndpointRefused(text, code="full")
    values = _checked(organization.pk, **given)
    secret = _new_secret()
    endpoint = Endpoint.objects.create(
        organization=organization, secret=sealed(secret), created_by=created_by, **values
    )
    _record("webhook.created", endpoint, actor, _told(values))
    return Made(endpoint, secret)


def change_endpoint(
    endpoint: Endpoint,
    *,
    url: str,
    events: Iterable[str],
    actor: Actor,
    description: str = "",
    smtp_user_ids: Iterable[int] = (),
) -> None:
    """Raises EndpointRefused. What waits already goes to the new address."""
    _demand_open(url)
    values = {"url": url, "events": events, "description": description, "smtp_user_ids": smtp_user_ids}
    _change(endpoint, values, actor=actor)


@transaction.atomic
def _change(endpoint: Endpoint, given: dict[str, Any], *, actor: Actor) -> None:
    row = _locked(endpoint)
    before = {"url": row.url, "description": row.description, "events": row.events, "smtp_user_ids": row.smtp_user_ids}
    values = _checked(row.organization_id, **given)
    if not (new := changed(_told(before), _told(values))) and values["url"] == row.url:
        return
    Endpoint.objects.filter(pk=row.pk).update(**values)
    _record("webhook.changed", row, actor, new)


@transaction.atomic
def rotate_secret(endpoint: Endpoint, *, actor: Actor, now: datetime | None = None) -> Made:
    """The old secret signs beside the new one for OVERLAP; the one before it ends at once."""
    row = _locked(endpoint)
    until = (now or timezone.now()) + OVERLAP
    secret = _new_secret()
    row.previous_secret, row.previous_secret_until, row.secret = row.secret, until, sealed(secret)
    row.save(update_fields=["previous_secret", "previous_secret_until", "secret"])
    _record("webhook.secret_rotated", row, actor, {"previous_until": until.isoformat()})
    return Made(row, secret)


@transaction.atomic
def end_overlap(endpoint: Endpoint, *, actor: Actor) -> None:
    """Once every receiver knows the new secret, or if the old one has leaked."""
    row = _locked(endpoint)
    row.previous_secret = row.previous_secret_until = None
    row.save(update_fields=["previous_secret", "previous_secret_until"])
    _record("webhook.previous_secret_ended", row, actor, {})


@transaction.atomic
def disable_endpoint(endpoint: Endpoint, *, actor: Actor, why: str = Endpoint.Why.MEMBER) -> bool:
    """What waits goes on waiting, and no new events are written. Who has not done it is told by mail."""
    row = _locked(endpoint)
    if row.disabled_at is not None:
        return False
    row.disabled_at, row.disabled_why = timezone.now(), why
    row.save(update_fields=["disabled_at", "disabled_why"])
    if why != Endpoint.Why.MEMBER:
        notices.write(
            row.organization,
            name="webhook_disabled",
            subject=_("Webhook endpoint disabled: %(url)s") % {"url": _public(row.url)[:100]},
            context={"endpoint": row, "link": notices.link("relay:webhook", row.pk)},
            also=[row.created_by_id],
        )
    _record("webhook.disabled", row, actor, {"why": str(why)})
    return True


@transaction.atomic
def enable_endpoint(endpoint: Endpoint, *, actor: Actor) -> bool:
    """With what waits; what failed meanwhile can be replayed."""
    row = _locked(endpoint)
    if row.disabled_at is None:
        return False
    row.disabled_at, row.disabled_why, row.enabled_at = None, "", timezone.now()
    row.failures, row.failing_since, row.paused_until = 0, None, None
    row.save()
    _record("webhook.enabled", row, actor, {})
    return True


@transaction.atomic
def delete_endpoint(endpoint: Endpoint, *, actor: Actor) -> None:
    """Nothing is posted from now on; its log is cleared away by relay.webhooks.retention."""
    row = _locked(endpoint)
    if row.deleted_at is None:
        row.deleted_at, row.secret, row.previous_secret = timezone.now(), b"", None
        row.save(update_fields=["deleted_at", "secret", "previous_secret"])
        _record("webhook.deleted", row, actor, {})


def _demand_open(url: str) -> None:
    """Outside of any transaction: the DNS is asked."""
    try:
        check_where(url.strip())
    except OutsideRefused as refused:
        raise EndpointRefused(str(refused), code="url") from None


def _checked(
    organization_id: int, *, url: str, description: str, events: Iterable[str], smtp_user_ids: Iterable[int]
) -> dict[str, Any]:
    url, description = url.strip(), description.strip()
    wanted, users = sorted(set(events)), sorted(set(smtp_user_ids))
    if len(description) > 200 or not description.isprintable():
        raise EndpointRefused(_("A description has up to 200 characters, on one line."), code="description")
    if not wanted or not set(wanted) <= set(Event.values):
        raise EndpointRefused(_("Choose at least one event."), code="events")
    if SmtpUser.objects.filter(organization=organization_id, pk__in=users).count() != len(users):
        raise EndpointRefused(_("Choose from the organization's SMTP users."), code="smtp_user_ids")
    return {"url": url, "description": description, "events": wanted, "smtp_user_ids": users}


def _told(values: dict[str, Any]) -> dict[str, object]:
    return {**values, "url": _public(str(values["url"]))}


def _public(url: str) -> str:
    """Without the query, which may hold a secret: the change log is for good."""
    return url.partition("?")[0][:320]


def _new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_OCTETS)).decode()


def _locked(endpoint: Endpoint) -> Endpoint:
    return (
        Endpoint.objects.select_for_update(no_key=True, of=("self",)).select_related("organization").get(pk=endpoint.pk)
    )


def _record(action: str, row: Endpoint, actor: Actor, values: dict[str, Any]) -> None:
    record_change(
        action,
        organization_id=row.organization_id,
        actor=actor,
        subject=_public(row.url),
        subject_id=row.pk,
        values=values,
    )
    transaction.on_commit(interest.forget)
