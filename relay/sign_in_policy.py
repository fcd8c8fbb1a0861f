"""What an organization refuses although the app password or token is right: old TLS versions, and single mechanisms.

Shapes  Policy: of one organization, as smtpd keeps it with the SMTP user. set_policy() changes it, for whom may.
        It is asked after the secret: the client hears the same 535 as for everything, the audit the true reason.
Units   tls_least: "TLSv1.2" or "TLSv1.3", as Python's ssl names them. Older ones than 1.2 no door speaks.
Errors  PolicyRefused (a ValidationError) with words for a form or an API answer.
Source  RFC 8996 (TLS 1.0 and 1.1 are no more), RFC 8314; docs/security.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from audit.changes import Actor, record_change
from audit.models import Reason
from relay.changes import announce
from relay.models import SignInPolicy

MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")  # in the order of their age
TLS_LEAST = SignInPolicy.Tls.V12.value


class PolicyRefused(ValidationError):
    """A policy that cannot be, and why."""


@dataclass(frozen=True, slots=True)
class Policy:
    tls_least: str = TLS_LEAST
    refused_mechanisms: frozenset[str] = field(default_factory=frozenset)

    def obstacle(self, *, mechanism: str, tls_version: str) -> Reason | None:
        """Why a right secret is refused all the same. A TLS version that nobody knows counts as the oldest."""
        if mechanism in self.refused_mechanisms:
            return Reason.MECHANISM_REFUSED
        if _age(tls_version) < _age(self.tls_least):
            return Reason.TLS_REFUSED
        return None


ANYTHING = Policy()


def policy_of(organization_id: int) -> Policy:
    row = SignInPolicy.objects.filter(pk=organization_id).first()
    return Policy(row.tls_least, frozenset(row.refused_mechanisms)) if row else ANYTHING


@transaction.atomic
def set_policy(
    organization: Organization,
    *,
    actor: Actor,
    tls_least: str | None = None,
    refused_mechanisms: Iterable[str] | None = None,
) -> Policy:
    """Changes what is given, and tells every smtpd. Sessions that are open go on. Raises PolicyRefused."""
    _lock(organization)
    before = policy_of(organization.pk)
    after = Policy(
        before.tls_least if tls_least is None else tls_least,
        before.refused_mechanisms if refused_mechanisms is None else frozenset(refused_mechanisms),
    )
    _refuse(after)
    if after != before:
        values = {"tls_least": after.tls_least, "refused_mechanisms": sorted(after.refused_mechanisms)}
        SignInPolicy.objects.update_or_create(
            organization=organization, defaults={**values, "changed_at": timezone.now()}
        )
        announce(organization.pk)
        _record(organization, before, after, actor)
    return after


@transaction.atomic
def refuse_mechanism(organization: Organization, mechanism: str, *, actor: Actor) -> Policy:
    _lock(organization)  # before reading: two that are switched off at once are both off
    refused = policy_of(organization.pk).refused_mechanisms | {mechanism}
    return set_policy(organization, actor=actor, refused_mechanisms=refused)


@transaction.atomic
def allow_mechanism(organization: Organization, mechanism: str, *, actor: Actor) -> Policy:
    _lock(organization)
    refused = policy_of(organization.pk).refused_mechanisms - {mechanism}
    return set_policy(organization, actor=actor, refused_mechanisms=refused)


def _lock(organization: Organization) -> None:
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)


def _refuse(policy: Policy) -> None:
    if policy.tls_least not in SignInPolicy.Tls.values:
        raise PolicyRefused(_("The least TLS version is TLSv1.2 or TLSv1.3."), code="tls")
    if unknown := policy.refused_mechanisms - set(MECHANISMS):
        raise PolicyRefused(
            _("There is no mechanism “%(name)s”."), code="mechanism", params={"name": min(unknown)[:32]}
        )
    if policy.refused_mechanisms >= set(MECHANISMS) - {"CRAM-MD5"}:
        raise PolicyRefused(_("Leave one mechanism besides CRAM-MD5: nobody could sign in."), code="none")


def _record(organization: Organization, before: Policy, after: Policy, actor: Actor) -> None:
    values = {
        "tls_least": [before.tls_least, after.tls_least],
        "refused_mechanisms": [sorted(before.refused_mechanisms), sorted(after.refused_mechanisms)],
    }
    record_change(
        "sign_in_policy.changed",
        organization_id=organization.pk,
        actor=actor,
        subject=organization.name,
        subject_id=str(organization.pk),
        values=values,
    )


def _age(tls_version: str) -> int:
    return TLS_VERSIONS.index(tls_version) if tls_version in TLS_VERSIONS else -1
