"""Old ways to sign in: who still uses them, and what switching each off would have refused.

Shapes  WAYS: the old ways, in the order of their danger. radar() -> Standing of each, from daily sums.
        switch_off(), switch_on(): where the organization can decide; an old app password is ended on its own page.
Units   DAYS: what the preview looks back, or as long as the plan keeps the log.
Errors  PolicyRefused; a way that has no switch is a ValueError.
Source  RFC 8314, RFC 6331 and RFC 6151 (MD5), draft-murchison-sasl-login (LOGIN is obsolete).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from audit.changes import Actor
from audit.logins import LoginUse, logins
from relay.learning import days_most
from relay.models import AppPassword, SignInPolicy, SmtpUser
from relay.sign_in_policy import TLS_LEAST, Policy, allow_mechanism, policy_of, refuse_mechanism, set_policy

if TYPE_CHECKING:  # the stubs' name for what gettext_lazy gives
    from django.utils.functional import _StrPromise

DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Way:
    """One old way. key stands in addresses and in the API."""

    key: str
    title: "_StrPromise"
    why: "_StrPromise"
    instead: "_StrPromise"
    has_switch: bool = True


CRAM_MD5, LOGIN, TLS_1_2, OLD_PASSWORD = "cram-md5", "login", "tls-1.2", "old-password"
WAYS: Final[dict[str, Way]] = {
    way.key: way
    for way in (
        Way(
            CRAM_MD5,
            _("CRAM-MD5"),
            _("MD5 is broken, and the app password has to be stored so that it can be read again."),
            _("SCRAM-SHA-256; or PLAIN, which TLS protects."),
        ),
        Way(
            LOGIN,
            _("AUTH LOGIN"),
            _("Never a standard, and replaced by PLAIN in 1999. It takes two more round trips and hides nothing."),
            _("PLAIN or SCRAM-SHA-256. Mostly it is one setting, or an update of the mail library."),
        ),
        Way(
            TLS_1_2,
            _("TLS 1.2"),
            _("Still safe as Gatepost speaks it, but TLS 1.3 is from 2018, and faster; what cannot speak it is old."),
            _("An update of the client or of its TLS library (OpenSSL 1.1.1 or newer)."),
        ),
        Way(
            OLD_PASSWORD,
            _("Replaced app passwords"),
            _("Once another one has taken over, the old one should end: two secrets leak more easily than one."),
            _("Put the new app password into the clients named here; then end the old one."),
            has_switch=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class WayUse:
    """One credential from one address, in the old way."""

    smtp_user_id: int | None
    app_password_id: int | None
    username: str
    app_password: str
    ip: str
    client_name: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How an old way stands in an organization. logins: of all its sign-ins of the days."""

    way: Way
    is_off: bool
    days: int
    logins: int
    uses: tuple[WayUse, ...]  # most first
    left: int = 0  # credentials that could use it, though none has

    @property
    def would_refuse(self) -> int:
        return sum(use.count for use in self.uses)

    @property
    def credentials(self) -> int:
        return len({(use.username, use.app_password) for use in self.uses})


def radar(organization: Organization, *, now: datetime | None = None) -> list[Standing]:
    """Every old way, whether or not it is used."""
    now = now or timezone.now()
    days = min(DAYS, days_most(organization))
    uses = logins(organization.pk, since=now - timedelta(days=days), now=now)
    replaced = _replaced(organization.pk, now)
    is_old: dict[str, Callable[[LoginUse], bool]] = {
        CRAM_MD5: lambda use: use.mechanism == "CRAM-MD5",
        LOGIN: lambda use: use.mechanism == "LOGIN",
        TLS_1_2: lambda use: use.tls_version == "TLSv1.2",
        OLD_PASSWORD: lambda use: use.app_password_id in replaced,
    }
    names = _Names(organization.pk, uses)
    policy, total = policy_of(organization.pk), sum(use.count for use in uses)
    left = {CRAM_MD5: SmtpUser.objects.filter(organization=organization, cram_md5_enabled_at__isnull=False).count()}
    left[OLD_PASSWORD] = len(replaced)
    return [
        Standing(
            way,
            is_off(policy, way.key),
            days,
            total,
            names.told(use for use in uses if is_old[way.key](use)),
            left.get(way.key, 0),
        )
        for way in WAYS.values()
    ]


def is_off(policy: Policy, key: str) -> bool:
    if key == TLS_1_2:
        return policy.tls_least != TLS_LEAST
    return key.upper() in policy.refused_mechanisms


def switch_off(organization: Organization, key: str, *, actor: Actor) -> Policy:
    """From the next sign-in on. Raises ValueError for a way without a switch."""
    _must_have_switch(key)
    if key == TLS_1_2:
        return set_policy(organization, actor=actor, tls_least=SignInPolicy.Tls.V13.value)
    return refuse_mechanism(organization, key.upper(), actor=actor)


def switch_on(organization: Organization, key: str, *, actor: Actor) -> Policy:
    _must_have_switch(key)
    if key == TLS_1_2:
        return set_policy(organization, actor=actor, tls_least=TLS_LEAST)
    return allow_mechanism(organization, key.upper(), actor=actor)


def _must_have_switch(key: str) -> None:
    if key not in WAYS or not WAYS[key].has_switch:
        raise ValueError(f"{key!r} has no switch")


def _replaced(organization_id: int, now: datetime) -> set[int]:
    """Live app passwords from which a live one has taken over."""
    live = AppPassword.objects.filter(smtp_user__organization=organization_id, revoked_at=None).exclude(
        expires_at__lte=now
    )
    return set(live.filter(replacements__in=live).values_list("pk", flat=True))


class _Names:
    """Of SMTP users and app passwords, read once for all ways."""

    def __init__(self, organization_id: int, uses: list[LoginUse]) -> None:
        self._users = dict(SmtpUser.objects.filter(organization=organization_id).values_list("pk", "username"))
        wanted = {use.app_password_id for use in uses if use.app_password_id is not None}
        self._passwords = dict(AppPassword.objects.filter(pk__in=wanted).values_list("pk", "name"))

    def told(self, uses: Iterable[LoginUse]) -> tuple[WayUse, ...]:
        found: dict[tuple[int | None, int | None, str], WayUse] = {}
        for use in uses:
            key = (use.smtp_user_id, use.app_password_id, use.ip)
            before = found.get(key)
            newest = use if before is None or use.last_at >= before.last_at else before
            found[key] = WayUse(
                use.smtp_user_id,
                use.app_password_id,
                self._users.get(use.smtp_user_id or 0, ""),
                self._passwords.get(use.app_password_id or 0, ""),
                use.ip,
                newest.client_name,
                use.count + (before.count if before else 0),
                newest.last_at,
            )
        return tuple(sorted(found.values(), key=lambda use: (-use.count, use.username, use.ip)))
