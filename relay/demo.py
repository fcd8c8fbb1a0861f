"""The demo: an operator, a customer, and everything needed to send a first mail, with secrets of its own.

Shapes  <state>/demo.json, 0600: the secrets in clear. The database holds their digests as for anybody else.
        Each part is looked at by itself: what the file holds and the database still takes is kept, the rest is made
        anew, so a lost file, a lost database or a crash in between end in a demo whose credentials work.
Errors  NoDemo: there is none, or there may be none here (users of somebody else's are in the database).
Source  docs/operations.md, "The demo".
"""

import json
import os
import secrets
from base64 import b32decode, b32encode
from binascii import hexlify
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.api_keys import create_api_key, find_api_key, revoke_api_key
from accounts.models import ApiKey, Organization, User
from accounts.organizations import activate, create_organization
from audit.changes import SYSTEM
from embedded.runs import addresses_of
from relay.certificate import ensure_certificate
from relay.credentials import create_app_password, create_smtp_user, enable_smtp_user, revoke_app_password
from relay.demo_history import make_history
from relay.domains import add_domain, add_sender, mark_verified
from relay.models import AppPassword, SendingDomain, SmtpUser

OPERATOR = "operator@gatepost.example"
CUSTOMER = "customer@demo.example"
SLUG = "demo"
SMTP_USER = "app"
DOMAIN = "demo.example"
SENDER = "hello@demo.example"
NAME = "Demo"  # of the app password and the API key
LOCK = 0x67705F64656D6F  # PostgreSQL's advisory lock of this seed


class NoDemo(Exception):  # a fact for the person who asked, not a fault
    """There is no demo here, and why."""


@dataclass(slots=True)
class Secrets:
    """What demo.json holds."""

    operator_password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    totp_secret: str = field(default_factory=lambda: b32encode(secrets.token_bytes(20)).decode())
    customer_password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    app_password: str = ""
    app_password_id: int = 0
    api_token: str = ""


def seed(state: Path) -> bool:
    """Makes the demo, or mends what is missing of it. True if it was made just now. Raises NoDemo."""
    if not settings.GATEPOST_DEMO:
        raise NoDemo("GATEPOST_DEMO is 0: this installation has no demo.")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        organization = Organization.objects.filter(slug=SLUG).first()
        fresh = organization is None
        if organization is None and not settings.GATEPOST_EMBEDDED_DATABASE and User.objects.exists():
            raise NoDemo(
                "The database holds users already, and demo data is only put into an empty one. Unset GATEPOST_DEMO."
            )
        kept = _read(state) or Secrets()
        _operator(kept)
        organization = _organization(organization, _customer(kept))
        smtp_user = _smtp_user(organization)
        _app_password(smtp_user, kept)
        _api_key(organization, kept)
        if fresh:
            make_history(smtp_user)
        # Before the commit: a crash in between leaves secrets that nothing takes, and the next start makes new ones.
        _write(state, kept)
    return fresh


def credentials(state: Path) -> dict[str, Any]:
    """What `make demo-credentials` prints; the addresses of a run that is up are its own word. Raises NoDemo."""
    kept = _required(state)
    files = ensure_certificate(state, settings.GATEPOST_HOSTNAME)
    return {
        "web_url": settings.GATEPOST_WEB_URL,
        "smtp_host": settings.GATEPOST_BIND,
        "smtp_port": settings.GATEPOST_SMTP_PORT,
        "smtps_port": settings.GATEPOST_SMTPS_PORT,
        **addresses_of(state),
        "ca_file": str(files.ca or files.certificate),
        "operator": {"email": OPERATOR, "password": kept.operator_password, "totp_secret": kept.totp_secret},
        "customer": {"email": CUSTOMER, "password": kept.customer_password},
        "smtp_user": f"{SMTP_USER}.{SLUG}",
        "app_password": kept.app_password,
        "sender": SENDER,
        "api_token": kept.api_token,
    }


def operator_code(state: Path) -> str:
    """The six digits that the operator's authenticator shows now. Raises NoDemo."""
    return f"{totp(b32decode(_required(state).totp_secret)):06d}"


def _required(state: Path) -> Secrets:
    if not settings.GATEPOST_DEMO:
        raise NoDemo("GATEPOST_DEMO is 0: this installation has no demo.")
    kept = _read(state)
    if kept is None or not kept.api_token:
        raise NoDemo(f"There is no demo in {state} yet: start it with `make run`.")
    return kept


def _operator(kept: Secrets) -> None:
    user = _user(OPERATOR, kept.operator_password, name="Demo operator", is_operator=True)
    key = hexlify(b32decode(kept.totp_secret)).decode()
    if not TOTPDevice.objects.filter(user=user, key=key, confirmed=True).exists():
        TOTPDevice.objects.filter(user=user).delete()
        TOTPDevice.objects.create(user=user, name="Authenticator", key=key, confirmed=True)


def _customer(kept: Secrets) -> User:
    return _user(CUSTOMER, kept.customer_password, name="Demo customer")


def _user(email: str, password: str, **fields: Any) -> User:
    user = User.objects.filter(email=email).first()
    if user is None:
        return User.objects.create_user(email, password, email_confirmed_at=timezone.now(), **fields)
    if not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
    return user


def _organization(organization: Organization | None, owner: User) -> Organization:
    if organization is None:
        active = Organization.State.ACTIVE
        return create_organization(
            name="Demo Company", owner=owner, plan_code="standard", state=active, slug=SLUG, actor=SYSTEM
        )
    if organization.state != Organization.State.ACTIVE:
        activate(organization, actor=SYSTEM)
    return organization


def _smtp_user(organization: Organization) -> SmtpUser:
    """With its domain verified and its sender, as an operator would have left it."""
    if not SendingDomain.objects.filter(organization=organization, name=DOMAIN).exists():
        mark_verified(add_domain(organization, name=DOMAIN, actor=SYSTEM), actor=SYSTEM, verified_by=None)
    smtp_user = SmtpUser.objects.filter(organization=organization, username=f"{SMTP_USER}.{SLUG}").first()
    if smtp_user is None:
        excess, description = SmtpUser.Excess.REFUSE, "Web shop"
        smtp_user = create_smtp_user(organization, name=SMTP_USER, excess=excess, description=description, actor=SYSTEM)
    if smtp_user.disabled_at is not None:
        enable_smtp_user(smtp_user, actor=SYSTEM)
    if not smtp_user.senders.filter(pattern=f"@{DOMAIN}").exists():
        add_sender(smtp_user, pattern=f"@{DOMAIN}", actor=SYSTEM)
    return smtp_user


def _app_password(smtp_user: SmtpUser, kept: Secrets) -> None:
    mine = AppPassword.objects.filter(smtp_user=smtp_user, name=NAME, revoked_at=None)
    if kept.app_password and mine.filter(id=kept.app_password_id).exists():
        return
    for lost in mine:
        revoke_app_password(lost, actor=SYSTEM)
    made = create_app_password(smtp_user, name=NAME, actor=SYSTEM)
    kept.app_password, kept.app_password_id = made.secret, made.app_password.pk


def _api_key(organization: Organization, kept: Secrets) -> None:
    if kept.api_token and find_api_key(kept.api_token) is not None:
        return
    for lost in ApiKey.objects.filter(organization=organization, name=NAME, revoked_at=None):
        revoke_api_key(lost, actor=SYSTEM)
    kept.api_token = create_api_key(organization, name=NAME, scopes=ApiKey.Scope.values, actor=SYSTEM).secret


def _read(state: Path) -> Secrets | None:
    try:
        return Secrets(**json.loads((state / "demo.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(state: Path, kept: Secrets) -> None:
    state.mkdir(parents=True, exist_ok=True)
    values = {name: getattr(kept, name) for name in Secrets.__slots__}
    draft = state / f"demo.json.{os.getpid()}.new"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(state / "demo.json")
