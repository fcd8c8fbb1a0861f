"""Sending domains and senders: who may put which address into From.

Shapes  A sender pattern is one address ("news@example.com") or "@example.com": every address of exactly that domain.
Errors  DomainRefused (a ValidationError) with words for a form.
Source  RFC 5321 4.1.2 (Mailbox), RFC 5890 (A-labels).

A domain is verified by its DNS (relay.dns_records.keep), or by an operator's word, which is recorded here.
"""

import re
from functools import lru_cache

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization, User
from accounts.plans import PlanFull, refuse_if_full
from audit.changes import Actor, record_change
from relay.changes import announce
from relay.models import Proof, SenderAddress, SendingDomain, SmtpUser

# Two readings of IDNA disagree on these: mapped by one, names of their own by the other. A-labels say which is meant.
DEVIATIONS = frozenset("ßς\u200c\u200d")
PROOF_HOST = "_gatepost"  # below it stands the TXT record that proves a domain
DOMAINS_MAX = 1000  # each is asked about again and again
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")


class DomainRefused(ValidationError):
    """A domain or sender that cannot be taken, and why."""


@lru_cache(maxsize=10_000)
def canonical_domain(text: str) -> str:
    """Lower-case A-labels without a final dot. Raises DomainRefused."""
    name = text.strip().rstrip(".").lower()
    try:
        ascii_name = name.encode("idna").decode() if not name.isascii() else name
    except UnicodeError:
        ascii_name = ""
    if not DEVIATIONS.isdisjoint(name):
        ascii_name = ""
    labels = ascii_name.split(".")
    if len(labels) < 2 or len(ascii_name) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise DomainRefused(
            _("“%(name)s” is not a domain name, like example.com."), code="malformed", params={"name": name[:64]}
        )
    return ascii_name


def canonical_sender(text: str) -> str:
    """A sender pattern with its domain in A-labels. Raises DomainRefused."""
    local, at, domain = text.strip().rpartition("@")
    if not at:
        raise DomainRefused(_("Write an address, or @example.com for every address of a domain."), code="malformed")
    pattern = f"{local}@{canonical_domain(domain)}"
    if local:
        try:
            validate_email(pattern)
        except ValidationError:
            raise DomainRefused(
                _("“%(text)s” is not an address."), code="malformed", params={"text": text[:64]}
            ) from None
    return pattern


@transaction.atomic
def add_domain(organization: Organization, *, name: str, actor: Actor) -> SendingDomain:
    name = canonical_domain(name)
    _refuse_beyond_plan(organization)
    if organization.domains.count() >= DOMAINS_MAX:
        raise DomainRefused(_("An organization can have %(most)d domains."), code="full", params={"most": DOMAINS_MAX})
    domain, made = SendingDomain.objects.get_or_create(organization=organization, name=name)
    if not made:
        raise DomainRefused(_("%(name)s is in the list already."), code="duplicate", params={"name": name})
    _changed(domain, "domain.added", actor)
    return domain


@transaction.atomic
def remove_domain(domain: SendingDomain, *, actor: Actor) -> None:
    """Senders of the domain stay in their lists; they are refused until it is added and verified again."""
    _changed(domain, "domain.removed", actor)
    domain.delete()


def is_held_elsewhere(domain: SendingDomain) -> bool:
    """Another organization has it verified."""
    return SendingDomain.objects.filter(name=domain.name, verified_at__isnull=False).exclude(pk=domain.pk).exists()


@transaction.atomic
def mark_verified(domain: SendingDomain, *, actor: Actor, verified_by: User | None) -> None:
    """An operator's word that the domain is the organization's. Raises DomainRefused if another one holds it."""
    row = SendingDomain.objects.select_for_update(no_key=True).get(pk=domain.pk)
    if row.verified_at:
        return
    row.verified_at, row.verified_by, row.proof = timezone.now(), verified_by, Proof.OPERATOR
    try:
        with transaction.atomic():
            row.save(update_fields=["verified_at", "verified_by", "proof"])
    except IntegrityError:
        raise DomainRefused(
            _("Another organization holds %(name)s as verified."), code="held", params={"name": row.name}
        ) from None
    _changed(row, "domain.verified", actor)


@transaction.atomic
def withdraw_verification(domain: SendingDomain, *, actor: Actor) -> None:
    row = SendingDomain.objects.select_for_update(no_key=True).get(pk=domain.pk)
    if row.verified_at:
        row.verified_at = row.verified_by = row.proof_lost_at = None
        row.proof = ""
        row.save(update_fields=["verified_at", "verified_by", "proof", "proof_lost_at"])
        _changed(row, "domain.verification_withdrawn", actor)


@transaction.atomic
def add_sender(smtp_user: SmtpUser, *, pattern: str, actor: Actor) -> SenderAddress:
    """Lets an SMTP user send as an address or domain that its organization has added."""
    pattern = canonical_sender(pattern)
    domain = pattern.rpartition("@")[2]
    if not SendingDomain.objects.filter(organization=smtp_user.organization_id, name=domain).exists():
        raise DomainRefused(
            _("Add the domain %(domain)s to the organization first."), code="unknown_domain", params={"domain": domain}
        )
    sender, made = SenderAddress.objects.get_or_create(smtp_user=smtp_user, pattern=pattern)
    if not made:
        raise DomainRefused(_("%(pattern)s is in the list already."), code="duplicate", params={"pattern": pattern})
    _sender_changed(sender, "sender.added", actor)
    return sender


@transaction.atomic
def remove_sender(sender: SenderAddress, *, actor: Actor) -> None:
    _sender_changed(sender, "sender.removed", actor)
    sender.delete()


def domains_of(organization_id: int) -> int:
    """How many count against the plan."""
    return SendingDomain.objects.filter(organization=organization_id).count()


def _refuse_beyond_plan(organization: Organization) -> None:
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)  # one at a time against the number
    try:
        refuse_if_full(organization, "domains")
    except PlanFull as full:
        raise DomainRefused(full) from None


def _changed(domain: SendingDomain, action: str, actor: Actor) -> None:
    announce(domain.organization_id)
    record_change(
        action,
        organization_id=domain.organization_id,
        actor=actor,
        subject=domain.name,
        subject_id=str(domain.pk),
    )


def _sender_changed(sender: SenderAddress, action: str, actor: Actor) -> None:
    owner = sender.smtp_user
    announce(owner.organization_id, smtp_user_id=owner.pk)
    record_change(
        action,
        organization_id=owner.organization_id,
        actor=actor,
        subject=f"{owner.username}: {sender.pattern}",
        subject_id=str(sender.pk),
    )
