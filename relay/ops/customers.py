"""Finding customers, and everything an operator asks about one of them.

Shapes  search(text) -> Organizations in the order of their names; page_of() cuts pages by the last row's number.
        facts_of(organization) -> CustomerFacts for its page.
Errors  None. Gatepost's own organization is no customer: it is never found.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import Combinable

from accounts.models import Membership, Organization
from audit.changes import ChainReport, verify_chain
from audit.models import AuthEvent, ChangeEvent
from relay.limits import Usage, usage_of
from relay.models import Message, Network, SendingDomain, SmtpUser
from relay.ops.asked import PAGE
from relay.pasted import reference_in

LATEST = 10  # messages, logins and changes on a customer's page


def customers() -> QuerySet[Organization]:
    return Organization.objects.filter(is_system=False)


def search(text: str, *, state: str = "", plan: str = "") -> QuerySet[Organization]:
    """By name, slug, a member's address, a domain, an SMTP username or a reference; all of them for an empty text."""
    rows = customers().select_related("subscription__plan")
    if state:
        rows = rows.filter(state=state)
    if plan:
        rows = rows.filter(subscription__plan__code=plan)
    return rows.filter(_matches(text)) if text else rows


def _matches(text: str) -> Combinable | Q:
    matches: Combinable | Q = (
        Q(name__icontains=text)
        | Q(slug__icontains=text)
        | Exists(Membership.objects.filter(organization=OuterRef("pk"), user__email__icontains=text))
        | Exists(SendingDomain.objects.filter(organization=OuterRef("pk"), name__icontains=text.rpartition("@")[2]))
        | Exists(SmtpUser.objects.filter(organization=OuterRef("pk"), username__istartswith=text))
    )
    if reference := reference_in(text):
        matches |= Exists(Message.objects.filter(organization=OuterRef("pk"), reference=reference))
        owners = AuthEvent.objects.filter(reference=reference, organization_id__isnull=False)
        matches |= Q(pk__in=owners.values("organization_id"))
    return matches


def page_of(rows: QuerySet[Organization], *, after: int | None = None) -> tuple[list[Organization], bool]:
    """The rows that follow the customer `after`, and whether more follow them."""
    last = Organization.objects.filter(pk=after).first() if after is not None else None
    if last is not None:
        rows = rows.filter(Q(name__gt=last.name) | Q(name=last.name, pk__gt=last.pk))
    found = list(rows.order_by("name", "pk")[: PAGE + 1])
    return found[:PAGE], len(found) > PAGE


@dataclass(frozen=True, slots=True)
class CustomerFacts:
    organization: Organization
    usage: Usage
    members: list[Membership]
    domains: list[SendingDomain]
    smtp_users: list[SmtpUser]
    networks: list[Network]
    messages: list[Message]
    attempts: list[AuthEvent]
    changes: list[ChangeEvent]
    chain: ChainReport


def facts_of(organization: Organization, *, now: datetime) -> CustomerFacts:
    return CustomerFacts(
        organization=organization,
        usage=usage_of(organization.pk),
        members=list(organization.memberships.select_related("user").order_by("user__email")),
        domains=list(organization.domains.select_related("verified_by").order_by("name")),
        smtp_users=_smtp_users(organization, now=now),
        networks=list(organization.networks.filter(smtp_user=None, app_password=None).order_by("pk")),
        messages=list(organization.messages.select_related("smtp_user").order_by("-received_at")[:LATEST]),
        attempts=list(AuthEvent.objects.filter(organization_id=organization.pk).order_by("-at", "-id")[:LATEST]),
        changes=list(ChangeEvent.objects.filter(organization_id=organization.pk).order_by("-sequence")[:LATEST]),
        chain=verify_chain(organization.pk),
    )


def _smtp_users(organization: Organization, *, now: datetime) -> list[SmtpUser]:
    """With `live_passwords` (not revoked, not expired, no canary) beside each."""
    live = (
        Q(app_passwords__revoked_at=None)
        & (Q(app_passwords__expires_at=None) | Q(app_passwords__expires_at__gt=now))
        & ~Q(app_passwords__kind="canary")
    )
    rows = organization.smtp_users.annotate(live_passwords=Count("app_passwords", filter=live, distinct=True))
    return list(rows.order_by("username"))
