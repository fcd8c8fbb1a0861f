"""Organizations: how they come to be, are activated, and are suspended.

Shapes  create_organization makes Organization, Subscription and the owner's Membership in one transaction.
        on_state_change: called inside the changing transaction with the organization; relay fills it at start, because
        accounts must not know relay. A hook that raises undoes the change.
Errors  AlreadySo (a ValidationError): the organization is in that state already, or may not change (the system's own).
Source  docs/flow.md.
"""

import secrets
from collections.abc import Callable

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from accounts.models import Membership, Organization, Plan, Role, Subscription, User
from audit.changes import Actor, changed, record_change

on_state_change: list[Callable[[Organization], None]] = []

SLUG_LENGTH = 14  # leaves 17 characters of a username's 32 for the part before the dot


class AlreadySo(ValidationError):
    """Nothing to do, or not to be done."""


def create_organization(
    *,
    name: str,
    owner: User,
    actor: Actor,
    plan_code: str = "trial",
    state: str = Organization.State.PENDING,
    slug: str | None = None,
) -> Organization:
    """A given slug that is taken raises IntegrityError; a derived one gets a random end until it is free."""
    with transaction.atomic():
        organization = _insert(name, state, slug)
        Subscription.objects.create(
            organization=organization, plan=Plan.objects.get(code=plan_code, superseded_at=None)
        )
        Membership.objects.create(user=owner, organization=organization, role=Role.OWNER)
        record_change(
            "organization.created",
            organization_id=organization.pk,
            actor=actor,
            subject=organization.name,
            subject_id=str(organization.pk),
            values={"slug": organization.slug, "plan": plan_code, "state": str(state), "owner": owner.email},
        )
    return organization


def activate(organization: Organization, *, actor: Actor) -> None:
    """From pending or suspended: mail leaves by the installation's route again."""
    _change_state(organization, Organization.State.ACTIVE, reason="", action="organization.activated", actor=actor)


def suspend(organization: Organization, *, reason: str, actor: Actor) -> None:
    """Nothing is accepted from it until it is activated again; sessions that are open end."""
    if not reason.strip():
        raise AlreadySo(_("Say why: the customer sees the reason."), code="reason")
    _change_state(
        organization, Organization.State.SUSPENDED, reason=reason.strip(), action="organization.suspended", actor=actor
    )


def hold(organization: Organization, *, reason: str, actor: Actor) -> None:
    """New mail is put off with 450 and what was accepted waits, until it is activated again; the panel stays open."""
    _change_state(organization, Organization.State.HELD, reason=reason, action="organization.held", actor=actor)


def system_organization() -> Organization:
    """The owner of Gatepost's own mail, made by a migration."""
    return Organization.objects.get(is_system=True)


def update_organization(organization: Organization, *, actor: Actor, **fields: object) -> None:
    """Name and rules for members; what did not change is not recorded."""
    with transaction.atomic():
        locked = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        values = changed({name: getattr(locked, name) for name in fields}, fields)
        if not values:
            return
        for name in values:
            setattr(locked, name, fields[name])
        locked.save(update_fields=list(values))
        record_change(
            "organization.updated",
            organization_id=locked.pk,
            actor=actor,
            subject=locked.name,
            subject_id=str(locked.pk),
            values=values,
        )
    organization.refresh_from_db()


def _change_state(organization: Organization, state: str, *, reason: str, action: str, actor: Actor) -> None:
    with transaction.atomic():
        locked = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        if locked.is_system:
            raise AlreadySo(_("Gatepost's own organization stays as it is."), code="system")
        if locked.state == state:
            raise AlreadySo(_("The organization is in this state already."), code="state")
        before, locked.state, locked.state_reason = locked.state, state, reason[:255]
        locked.save(update_fields=["state", "state_reason"])
        for hook in on_state_change:
            hook(locked)
        record_change(
            action,
            organization_id=locked.pk,
            actor=actor,
            subject=locked.name,
            subject_id=str(locked.pk),
            values={"from": before, "to": str(state), "reason": locked.state_reason},
        )
    organization.state, organization.state_reason = locked.state, locked.state_reason


def _insert(name: str, state: str, slug: str | None) -> Organization:
    if slug is not None:
        return Organization.objects.create(name=name, slug=slug, state=state)
    stem = slugify(name)[:SLUG_LENGTH].strip("-_").replace("_", "-") or "customer"
    candidate = stem
    while True:
        try:
            with transaction.atomic():  # a savepoint: two that want the same slug at once both get one
                return Organization.objects.create(name=name, slug=candidate, state=state)
        except IntegrityError:
            candidate = f"{stem}-{secrets.token_hex(2)}"
