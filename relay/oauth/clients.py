"""OAuth clients of an organization: made, shown once, deleted.

Shapes  KINDS: "service" has client credentials and its SMTP user from the start; "web" and "native" use an
        authorization code with PKCE, for the SMTP user that is chosen on the consent page. "native" has no secret.
Errors  ClientRefused (a ValidationError) with words for a form.
Source  RFC 6749 2.1, RFC 8252 (native apps), RFC 9700 4.1 (redirect URIs).
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, Subquery
from django.utils.translation import gettext as _

from accounts.models import Organization, User
from audit.changes import Actor, record_change
from relay.models import SmtpUser
from relay.oauth import tokens
from relay.oauth.models import OAuthAccessToken, OAuthClient, OAuthRefreshToken
from relay.oauth.sessions import end_token_sessions

SERVICE, WEB, NATIVE = "service", "web", "native"
KINDS: Final = (SERVICE, WEB, NATIVE)
CLIENTS_MAX = 100  # of one organization
CONSENTS_SHOWN = 200
REDIRECTS_MAX = 10
REDIRECT_LENGTH_MAX = 500
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
_NETLOC = re.compile(r"[A-Za-z0-9._:\[\]-]+")  # it goes into the consent page's CSP, where ; and , mean something


class ClientRefused(ValidationError):
    """The client cannot be made like this."""


@dataclass(frozen=True, slots=True)
class NewClient:
    """The one moment at which the secret exists in clear; empty for a native app, which has none."""

    client: OAuthClient
    secret: str


@dataclass(frozen=True, slots=True)
class Consent:
    """A member's consent that still gives tokens: the family of its refresh tokens."""

    family: UUID | None
    member: User
    smtp_user: SmtpUser
    since: datetime
    renewed_at: datetime


def consents_of(client: OAuthClient) -> list[Consent]:
    """The newest use first."""
    began = Subquery(
        OAuthRefreshToken.objects.filter(token_family=OuterRef("token_family")).order_by("pk").values("created")[:1]
    )
    live = OAuthRefreshToken.objects.filter(
        application=client, revoked=None, access_token__isnull=False, token_family__isnull=False
    )
    rows = live.select_related("user", "smtp_user").annotate(began=began).order_by("-created")[:CONSENTS_SHOWN]
    return [Consent(row.token_family, row.user, row.smtp_user, row.began, row.created) for row in rows]


def clients_for(smtp_user: SmtpUser) -> list[OAuthClient]:
    """Those that may get tokens for it: its own services, and what a member has consented to."""
    live = OAuthRefreshToken.objects.filter(
        application=OuterRef("pk"), smtp_user=smtp_user, revoked=None, access_token__isnull=False
    )
    mine = OAuthClient.objects.filter(organization_id=smtp_user.organization_id)
    return list(mine.filter(Q(smtp_user=smtp_user) | Exists(live)).order_by("name", "pk"))


@transaction.atomic
def end_consent(client: OAuthClient, family: UUID, *, actor: Actor) -> bool:
    """Its tokens are refused at once, and their sessions end. False if there is none."""
    mine = OAuthRefreshToken.objects.select_for_update().filter(application=client, token_family=family, revoked=None)
    row = mine.select_related(None).first()
    if row is None:
        return False
    OAuthRefreshToken.revoke_family(family)
    values = {"smtp_user": row.smtp_user.username, "member": row.user.email}
    _record("oauth_client.consent_ended", client, actor, values)
    return True


def kind_of(client: OAuthClient) -> str:
    if client.authorization_grant_type == OAuthClient.GRANT_CLIENT_CREDENTIALS:
        return SERVICE
    return WEB if client.client_type == OAuthClient.CLIENT_CONFIDENTIAL else NATIVE


@transaction.atomic
def create_client(
    organization: Organization,
    *,
    name: str,
    kind: str,
    actor: Actor,
    smtp_user: SmtpUser | None = None,
    redirect_uris: Sequence[str] = (),
    created_by: User | None = None,
) -> NewClient:
    """Raises ClientRefused."""
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)  # one at a time against CLIENTS_MAX
    _check(organization, name=name.strip(), kind=kind, smtp_user=smtp_user, redirect_uris=redirect_uris)
    secret = "" if kind == NATIVE else tokens.make_client_secret()
    client = OAuthClient.objects.create(
        organization=organization,
        smtp_user=smtp_user,
        name=name.strip(),
        client_id=secrets.token_hex(16),
        client_secret=tokens.secret_digest(secret) if secret else "",
        hash_client_secret=False,  # it is a digest already, under the pepper
        client_type=OAuthClient.CLIENT_PUBLIC if kind == NATIVE else OAuthClient.CLIENT_CONFIDENTIAL,
        authorization_grant_type=(
            OAuthClient.GRANT_CLIENT_CREDENTIALS if kind == SERVICE else OAuthClient.GRANT_AUTHORIZATION_CODE
        ),
        redirect_uris=" ".join(redirect_uris),
        created_by=created_by,
    )
    values = {"kind": kind, "client_id": client.client_id, "redirect_uris": list(redirect_uris)}
    _record("oauth_client.created", client, actor, values | {"smtp_user": smtp_user.username if smtp_user else None})
    return NewClient(client, secret)


@transaction.atomic
def delete_client(client: OAuthClient, *, actor: Actor) -> None:
    """Its tokens die with it, and the sessions that they opened."""
    users = set() if client.smtp_user_id is None else {client.smtp_user_id}
    for model in (OAuthRefreshToken, OAuthAccessToken):  # locked, in the order of the token endpoint
        rows = model.objects.select_for_update().filter(application=client).order_by("pk")
        users |= set(rows.values_list("smtp_user_id", flat=True))
    for smtp_user_id in sorted(users):
        end_token_sessions(client.organization_id, smtp_user_id=smtp_user_id)
    _record("oauth_client.deleted", client, actor, {"client_id": client.client_id})
    client.delete()


def _check(
    organization: Organization, *, name: str, kind: str, smtp_user: SmtpUser | None, redirect_uris: Sequence[str]
) -> None:
    if not name or len(name) > 64 or not name.isprintable():
        raise ClientRefused(_("Give it a name of up to 64 characters that says what it is."), code="name")
    if kind not in KINDS:
        raise ClientRefused(_("Say what kind of program it is."), code="kind")
    if OAuthClient.objects.filter(organization=organization).count() >= CLIENTS_MAX:
        raise ClientRefused(
            _("An organization has %(most)d clients at most."), code="full", params={"most": CLIENTS_MAX}
        )
    if kind == SERVICE:
        _check_service(organization, smtp_user, redirect_uris)
    elif smtp_user is not None:
        raise ClientRefused(_("Whom it sends for is chosen on the consent page."), code="smtp_user")
    else:
        _check_redirects(redirect_uris)


def _check_service(organization: Organization, smtp_user: SmtpUser | None, redirect_uris: Sequence[str]) -> None:
    if smtp_user is None or smtp_user.organization_id != organization.pk:
        raise ClientRefused(_("Choose the SMTP user that it sends for."), code="smtp_user")
    if smtp_user.disabled_at is not None:
        raise ClientRefused(_("This SMTP user is disabled. Enable it first."), code="disabled")
    if redirect_uris:
        raise ClientRefused(_("A service without people has no redirect address."), code="redirect_uris")


def _check_redirects(redirect_uris: Sequence[str]) -> None:
    if not redirect_uris:
        raise ClientRefused(_("Enter the address to which it is sent back with the code."), code="redirect_uris")
    if len(redirect_uris) > REDIRECTS_MAX:
        raise ClientRefused(_("%(most)d addresses at most."), code="redirect_uris", params={"most": REDIRECTS_MAX})
    for uri in redirect_uris:
        if not _may_redirect_to(uri):
            text = _("%(uri)s cannot be used: https://…, or http:// with 127.0.0.1, [::1] or localhost; no # and no *.")
            raise ClientRefused(text, code="redirect_uris", params={"uri": uri[:100]})


def _may_redirect_to(uri: str) -> bool:
    """Whole and plain, so that comparing it character by character decides everything."""
    if len(uri) > REDIRECT_LENGTH_MAX or not uri.isascii() or not uri.isprintable() or set(uri) & set(' "<>\\^`{|}#*'):
        return False
    try:
        parts = urlsplit(uri)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or not _NETLOC.fullmatch(parts.netloc) or not uri.startswith(("https://", "http://")):
        return False
    return parts.scheme == "https" or host in LOOPBACK_HOSTS


def _record(action: str, client: OAuthClient, actor: Actor, values: Mapping[str, object]) -> None:
    record_change(
        action,
        organization_id=client.organization_id,
        actor=actor,
        subject=client.name,
        subject_id=str(client.pk),
        values=values,
    )
