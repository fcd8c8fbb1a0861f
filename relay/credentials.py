"""SMTP users and app passwords: made, changed, ended, verified.

Shapes  verify() judges a UserState that `relay.directory` read; it touches nothing and may be called in any loop.
Errors  CredentialRefused (a ValidationError) with words for a form or an API answer.
Source  RFC 4954, RFC 4616; docs/security.md.

Locks   A change that ends something first locks the organization's limit row, as the writer does: what the writer
        commits afterwards has read the new state, so nothing is accepted after a revocation has been answered.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import plans
from accounts.models import Organization, User
from audit.changes import Actor, record_change
from audit.models import Reason
from relay import app_passwords, cram_md5, limits, password_policy
from relay.changes import announce
from relay.models import AppPassword, Network, SmtpUser
from relay.networks import Address, Range, allowed

NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
USERNAME_MAX = 32
DESCRIPTION_MAX = 120
LIMIT_MAX = 2**31 - 1
LIVE_PASSWORDS_MAX = 50  # of one SMTP user; every one is tried at each sign-in


class CredentialRefused(ValidationError):
    """A change that cannot be made, and why."""


class NameTaken(CredentialRefused):
    pass


class NameInvalid(CredentialRefused):
    pass


class PlanFull(CredentialRefused):
    pass


class Disabled(CredentialRefused):
    pass


class AllowlistNeeded(CredentialRefused):
    pass


@dataclass(frozen=True, slots=True)
class NewAppPassword:
    """The one moment at which the secret exists in clear."""

    app_password: AppPassword
    secret: str


@dataclass(frozen=True, slots=True)
class PasswordState:
    id: int
    digest: bytes
    revoked: bool
    expires_at: datetime | None
    networks: tuple[Range, ...] | None = None
    needs_allowlist: bool = False  # a device password: too short to be tried from anywhere
    asleep: bool = False  # unused for long; a member can wake it
    canary: bool = False  # there to be found and tried; it works nowhere
    scram_keys: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)  # StoredKey, ServerKey by spelling
    cram_md5_secret: bytes | None = field(default=None, repr=False)  # sealed


@dataclass(frozen=True, slots=True)
class UserState:
    """What a sign-in needs to know of one SMTP user."""

    smtp_user_id: int
    organization_id: int
    username: str
    organization_state: str
    disabled: bool
    passwords: tuple[PasswordState, ...]
    organization_networks: tuple[Range, ...] | None = None
    networks: tuple[Range, ...] | None = None
    scram_salt: bytes = b""
    scram_iterations: int = app_passwords.SCRAM_ITERATIONS
    cram_md5: bool = False
    token_epoch: int = 0  # sessions of access tokens that began in an earlier one have ended


class Proof(Protocol):
    """What a client showed for an app password: relay.proofs has the kinds."""

    def find(self, state: UserState, /) -> PasswordState | None: ...

    def why_not(self, state: UserState, /) -> Reason:
        """The true reason if it finds nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """The true outcome. app_password_id is set whenever the secret was one of this SMTP user's, ended or not."""

    reason: Reason
    app_password_id: int | None = None

    @property
    def accepted(self) -> bool:
        return self.reason is Reason.OK


def verify(state: UserState, proof: Proof, *, ip: Address, now: datetime) -> Verdict:
    """The secret first: what else is wrong is only told of somebody who has it."""
    password = proof.find(state)
    if password is None:
        return Verdict(proof.why_not(state))
    return Verdict(_obstacle(state, password, ip=ip, now=now) or Reason.OK, password.id)


def _obstacle(state: UserState, password: PasswordState, *, ip: Address, now: datetime) -> Reason | None:
    if password.revoked:
        return Reason.REVOKED
    if password.expires_at and password.expires_at <= now:
        return Reason.EXPIRED
    if password.canary:
        return Reason.CANARY
    if password.asleep:
        return Reason.ASLEEP
    return obstacle_of_user(state, ip=ip, own=password.networks, needs_allowlist=password.needs_allowlist)


def obstacle_of_user(
    state: UserState, *, ip: Address, own: tuple[Range, ...] | None = None, needs_allowlist: bool = False
) -> Reason | None:
    """What stands against the SMTP user itself, whatever it signs in with. own: the allowlist of an app password."""
    if state.disabled:
        return Reason.USER_DISABLED
    if state.organization_state == Organization.State.SUSPENDED:
        return Reason.ORGANIZATION_SUSPENDED
    lists = (state.organization_networks, state.networks, own)
    if not allowed(ip, *lists) or (needs_allowlist and not any(lists)):
        return Reason.NETWORK
    return None


@transaction.atomic
def create_smtp_user(
    organization: Organization,
    *,
    name: str,
    excess: str,
    actor: Actor,
    description: str = "",
    recipients_per_hour: int | None = None,
    recipients_per_hour_per_ip: int | None = None,
) -> SmtpUser:
    """Makes `<name>.<slug>`. Raises NameInvalid, NameTaken, PlanFull, or CredentialRefused for a bad excess."""
    username = f"{_checked_name(name, organization)}.{organization.slug}"
    if excess not in SmtpUser.Excess.values:
        raise CredentialRefused(_("Say what sends here: refuse or hold."), code="excess")
    limits_given = {
        "recipients_per_hour": recipients_per_hour,
        "recipients_per_hour_per_ip": recipients_per_hour_per_ip,
    }
    _refuse_fields({"description": description.strip(), **limits_given})
    _lock_against_plan(organization.pk)
    _refuse_beyond_plan(organization)
    try:
        with transaction.atomic():
            smtp_user = SmtpUser.objects.create(
                organization=organization,
                username=username,
                description=description.strip(),
                excess=excess,
                **limits_given,
                scram_salt=app_passwords.scram_salt(username),
            )
    except IntegrityError:
        raise NameTaken(
            _("There is, or was, an SMTP user %(username)s."), code="taken", params={"username": username}
        ) from None
    announce(organization.pk)
    _record("smtp_user.created", smtp_user, actor, {"excess": excess, "description": smtp_user.description})
    return smtp_user


CHANGEABLE = ("description", "excess", "recipients_per_hour", "recipients_per_hour_per_ip", "may_send_null")


@transaction.atomic
def update_smtp_user(smtp_user: SmtpUser, *, actor: Actor, **fields: Any) -> SmtpUser:
    """Changes description, excess, limits or may_send_null; anything else is a TypeError."""
    if unknown := set(fields) - set(CHANGEABLE):
        raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")
    if "excess" in fields and fields["excess"] not in SmtpUser.Excess.values:
        raise CredentialRefused(_("Say what sends here: refuse or hold."), code="excess")
    _refuse_fields(fields)
    row = SmtpUser.objects.select_for_update(no_key=True).get(pk=smtp_user.pk)
    changes = {name: [getattr(row, name), value] for name, value in fields.items() if getattr(row, name) != value}
    if changes:
        for name, (_before, after) in changes.items():
            setattr(row, name, after)
        row.save(update_fields=list(changes))
        announce(row.organization_id, smtp_user_id=row.pk)
        _record("smtp_user.changed", row, actor, changes)
    return row


def disable_smtp_user(smtp_user: SmtpUser, *, actor: Actor) -> None:
    """Ends its sessions; every sign-in is refused until it is enabled again."""
    _set_disabled(smtp_user, timezone.now(), "smtp_user.disabled", actor)


def enable_smtp_user(smtp_user: SmtpUser, *, actor: Actor) -> None:
    """It counts against the plan again. Raises PlanFull."""
    _set_disabled(smtp_user, None, "smtp_user.enabled", actor)


@transaction.atomic
def _set_disabled(smtp_user: SmtpUser, disabled_at: datetime | None, action: str, actor: Actor) -> None:
    _lock_against_plan(smtp_user.organization_id)
    limits.lock_organization(smtp_user.organization_id)
    row = SmtpUser.objects.select_for_update(no_key=True).get(pk=smtp_user.pk)
    if bool(row.disabled_at) != bool(disabled_at):
        if disabled_at is None:
            _refuse_beyond_plan(row.organization)
        row.disabled_at = disabled_at
        row.save(update_fields=["disabled_at"])
        announce(row.organization_id, smtp_user_id=row.pk, ends_sessions=bool(disabled_at))
        _record(action, row, actor, {})
    smtp_user.disabled_at = row.disabled_at


@transaction.atomic
def create_app_password(
    smtp_user: SmtpUser,
    *,
    name: str,
    actor: Actor,
    kind: str = AppPassword.Kind.APP,
    expires_at: datetime | None = None,
    created_by: User | None = None,
    replaces: AppPassword | None = None,
) -> NewAppPassword:
    """Makes a secret, stores what verifies it, and returns it this once. Raises Disabled, AllowlistNeeded, PlanFull,
    PolicyRefused. Without an end it gets the latest that the organization's policy allows."""
    if replaces is None:  # in an overlap both count as one
        _refuse_passwords_beyond_plan(smtp_user.organization)
    row = SmtpUser.objects.select_for_update(no_key=True).get(pk=smtp_user.pk)
    _refuse_app_password(row, name=name.strip(), kind=kind, expires_at=expires_at, replaces=replaces)
    expires_at = password_policy.end_within(row.organization_id, expires_at, kind=kind)
    secret = app_passwords.make_device_secret() if kind == AppPassword.Kind.DEVICE else app_passwords.make_app_secret()
    forms = app_passwords.stored_forms(secret, salt=bytes(row.scram_salt), iterations=row.scram_iterations)
    app_password = AppPassword.objects.create(
        smtp_user=row,
        name=name.strip(),
        kind=kind,
        hint=forms.hint,
        digest=forms.digest,
        scram_stored_key=forms.scram_stored_key,
        scram_server_key=forms.scram_server_key,
        scram_keys_as_shown=forms.scram_keys_as_shown,
        cram_md5_secret=cram_md5.kept(row, secret),
        expires_at=expires_at,
        created_by=created_by,
        replaces=replaces,
    )
    announce(row.organization_id, smtp_user_id=row.pk, app_password_id=app_password.pk)
    values = {"name": app_password.name, "kind": kind, "expires_at": expires_at.isoformat() if expires_at else None}
    values |= {"replaces": replaces.name} if replaces else {}
    record_password("app_password.created", app_password, actor, values)
    return NewAppPassword(app_password, secret)


@transaction.atomic
def revoke_app_password(
    app_password: AppPassword, *, actor: Actor, because: str = AppPassword.Because.MEMBER, **more: Any
) -> bool:
    """Ends it now and for good; its open sessions are closed with 421. False if it had ended: nothing changes then."""
    limits.lock_organization(app_password.smtp_user.organization_id)
    row = AppPassword.objects.select_for_update(no_key=True).select_related(None).get(pk=app_password.pk)
    if ends := row.revoked_at is None:
        row.revoked_at, row.cram_md5_secret = timezone.now(), None  # what ended need not be readable any more
        row.revoked_because = because
        row.save(update_fields=["revoked_at", "revoked_because", "cram_md5_secret"])
        owner = app_password.smtp_user
        announce(owner.organization_id, smtp_user_id=owner.pk, app_password_id=row.pk, ends_sessions=True)
        record_password("app_password.revoked", row, actor, {"name": row.name, "because": because, **more})
    app_password.revoked_at, app_password.revoked_because = row.revoked_at, row.revoked_because
    return ends


def organization_changed(organization: Organization) -> None:
    """For accounts: an organization was suspended, activated, or moved to another plan."""
    limits.lock_organization(organization.pk)
    announce(organization.pk, ends_sessions=organization.state == Organization.State.SUSPENDED)


def smtp_users_of(organization_id: int) -> int:
    """How many SMTP users count against the plan: those not disabled."""
    return SmtpUser.objects.filter(organization_id=organization_id, disabled_at=None).count()


def app_passwords_of(organization_id: int) -> int:
    """How many app passwords count against the plan: those that have not ended."""
    rows = AppPassword.objects.filter(smtp_user__organization=organization_id, revoked_at=None)
    return rows.exclude(expires_at__lte=timezone.now()).count()


def _checked_name(name: str, organization: Organization) -> str:
    name = name.strip().lower()
    room = USERNAME_MAX - len(organization.slug) - 1
    if not NAME_PATTERN.fullmatch(name):
        raise NameInvalid(
            _("Use lower-case letters, digits and hyphens, and begin and end with a letter or digit."), code="name"
        )
    if len(name) > room:
        raise NameInvalid(_("The name may have %(room)d characters at most."), code="length", params={"room": room})
    return name


def _refuse_fields(fields: dict[str, Any]) -> None:
    """What a column would not take, in words."""
    if len(fields.get("description") or "") > DESCRIPTION_MAX:
        raise CredentialRefused(
            _("The description may have %(most)d characters at most."), code="length", params={"most": DESCRIPTION_MAX}
        )
    for name in ("recipients_per_hour", "recipients_per_hour_per_ip"):
        limit = fields.get(name)
        if limit is not None and not 1 <= limit <= LIMIT_MAX:
            raise CredentialRefused(
                _("A limit is a number from 1 to %(most)d."), code="limit", params={"most": LIMIT_MAX}
            )


def _lock_against_plan(organization_id: int) -> None:
    """One at a time against the plan's number."""
    Organization.objects.select_for_update(no_key=True).get(pk=organization_id)


def _refuse_beyond_plan(organization: Organization) -> None:
    most = organization.subscription.plan.smtp_users_max
    if most is not None and smtp_users_of(organization.pk) >= most:
        raise PlanFull(_("The plan has room for %(most)d SMTP users."), code="plan", params={"most": most})


def _refuse_passwords_beyond_plan(organization: Organization) -> None:
    if organization.subscription.plan.app_passwords_max is not None:
        _lock_against_plan(organization.pk)
        try:
            plans.refuse_if_full(organization, "app_passwords")
        except plans.PlanFull as full:
            raise PlanFull(full) from None


def _refuse_app_password(
    smtp_user: SmtpUser, *, name: str, kind: str, expires_at: datetime | None, replaces: AppPassword | None
) -> None:
    if not name:
        raise CredentialRefused(_("Give it a name, so that you know later what uses it."), code="name")
    if len(name) > 64:
        raise CredentialRefused(_("The name may have 64 characters at most."), code="length")
    if kind not in AppPassword.Kind.values:
        raise CredentialRefused(_("The kind is app, device or canary."), code="kind")
    if expires_at is not None and expires_at <= timezone.now():
        raise CredentialRefused(_("The expiry lies in the past."), code="expired")
    if smtp_user.disabled_at is not None:
        raise Disabled(_("This SMTP user is disabled. Enable it first."), code="disabled")
    inherited = replaces is not None and replaces.networks.exists()
    if kind == AppPassword.Kind.DEVICE and not (inherited or _has_allowlist(smtp_user)):
        raise AllowlistNeeded(
            _("A device password is short, so it needs an allowlist. Add a network first."), code="allowlist"
        )
    count = smtp_user.app_passwords.filter(revoked_at=None).exclude(expires_at__lte=timezone.now()).count()
    if count >= LIVE_PASSWORDS_MAX:
        raise PlanFull(
            _("An SMTP user has %(most)d app passwords at most."), code="full", params={"most": LIVE_PASSWORDS_MAX}
        )


def _has_allowlist(smtp_user: SmtpUser) -> bool:
    mine = Q(smtp_user=None, app_password=None) | Q(smtp_user=smtp_user, app_password=None)
    return Network.objects.filter(mine, organization=smtp_user.organization_id).exists()


def _record(action: str, smtp_user: SmtpUser, actor: Actor, values: dict[str, Any]) -> None:
    record_change(
        action,
        organization_id=smtp_user.organization_id,
        actor=actor,
        subject=smtp_user.username,
        subject_id=str(smtp_user.pk),
        values=values,
    )


def record_password(action: str, app_password: AppPassword, actor: Actor, values: dict[str, Any]) -> None:
    owner = app_password.smtp_user
    record_change(
        action,
        organization_id=owner.organization_id,
        actor=actor,
        subject=f"{owner.username}: {app_password.name}",
        subject_id=str(app_password.pk),
        values=values,
    )
