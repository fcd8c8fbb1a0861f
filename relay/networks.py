"""Allowlists: from which addresses an SMTP user may sign in.

Shapes  A list is all live rows of one owner: the organization, one of its SMTP users, or one app password.
        No rows allow any address; an address must pass every list that has rows. A list whose rows have all ended
        allows nobody: an end date never opens the door.
Errors  NetworkRefused (a ValidationError) with words for a form.
Source  RFC 4632 (CIDR), RFC 4291 2.5.5.2 (IPv4-mapped addresses are their IPv4).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from audit.changes import Actor, record_change
from audit.models import AuthEvent, Result
from audit.queries import AddressUse, accepted_addresses
from relay.changes import announce
from relay.models import AppPassword, Network, SmtpUser

Address = IPv4Address | IPv6Address
Range = IPv4Network | IPv6Network

NETWORKS_MAX = 200  # of one list; the whole of it is read at each sign-in
LABEL_MAX = 64
ALL_MAPPED = IPv6Network("::ffff:0:0/96")  # every IPv4 address there is
TAIL = timedelta(minutes=10)  # sign-ins that the hourly sums may not have yet


class NetworkRefused(ValidationError):
    """A range that cannot be taken, and why."""


@dataclass(frozen=True, slots=True)
class RefusedLogin:
    """Sign-ins of the last days that a list would have refused."""

    username: str
    ip: str
    count: int
    last_at: datetime


def parse_address(text: str) -> Address:
    """An address, IPv4-mapped IPv6 as its IPv4, without zone. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def parse_network(text: str) -> Range:
    """A range from a form: "192.0.2.0/24", "2001:db8::/48", or one address."""
    text = text.strip()
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        raise NetworkRefused(
            _("“%(text)s” is not an address or range. Write it like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48."),
            code="malformed",
            params={"text": text[:64]},
        ) from None
    if isinstance(loose, IPv6Network) and "%" in text:
        raise NetworkRefused(_("Leave out the interface, the part behind the percent sign."), code="zone")
    if loose.prefixlen == 0 or loose == ALL_MAPPED:
        raise NetworkRefused(
            _("/0 allows every address. Remove the list instead, if that is what you want."), code="all"
        )
    try:
        network = ip_network(text)
    except ValueError:
        raise NetworkRefused(
            _("“%(text)s” names an address inside a range. Did you mean %(network)s?"),
            code="host_bits",
            params={"text": text[:64], "network": str(loose)},
        ) from None
    return _unmapped(network)


def _unmapped(network: Range) -> Range:
    """An IPv4-mapped range as its IPv4. Its prefix is 96 at least: with less, the ones before it were host bits."""
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


def allowed(ip: Address, *lists: Sequence[Range] | None) -> bool:
    """True if every list holds the address. None is no list; a list whose ranges have all ended holds nobody."""
    return all(ranges is None or any(ip in each for each in ranges) for ranges in lists)


def live(now: datetime | None = None) -> Q:
    return Q(ends_at__isnull=True) | Q(ends_at__gt=now or timezone.now())


@transaction.atomic
def add_network(
    organization: Organization,
    *,
    cidr: str,
    actor: Actor,
    smtp_user: SmtpUser | None = None,
    app_password: AppPassword | None = None,
    label: str = "",
    ends_at: datetime | None = None,
) -> Network:
    """Adds one range to one list. Raises NetworkRefused: malformed, there already, covered, full, end in the past."""
    network = parse_network(cidr)
    if ends_at and ends_at <= timezone.now():
        raise NetworkRefused(_("The end lies in the past."), code="ended")
    if len(label.strip()) > LABEL_MAX:
        raise NetworkRefused(
            _("The label may have %(most)d characters at most."), code="label", params={"most": LABEL_MAX}
        )
    # The organization's row serializes changes to its lists, so that two forms cannot add the same range.
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    rows = list_of(organization, smtp_user=smtp_user, app_password=app_password)
    _refuse_overlap(network, rows)
    row = Network.objects.create(
        organization=organization,
        smtp_user=smtp_user,
        app_password=app_password,
        cidr=str(network),
        label=label.strip(),
        ends_at=ends_at,
    )
    _changed(row, "network.added", actor)
    return row


@transaction.atomic
def remove_network(network: Network, *, actor: Actor) -> None:
    """Removes one range. If it was the last of its list, any address is allowed again."""
    _changed(network, "network.removed", actor)
    network.delete()


def list_of(
    organization: Organization, *, smtp_user: SmtpUser | None = None, app_password: AppPassword | None = None
) -> QuerySet[Network]:
    """The rows of one list, ended ones too."""
    return Network.objects.filter(organization=organization, smtp_user=smtp_user, app_password=app_password).order_by(
        "cidr"
    )


def would_refuse(
    organization: Organization,
    *,
    networks: Iterable[str],
    smtp_user: SmtpUser | None = None,
    days: int = 7,
    now: datetime | None = None,
) -> list[RefusedLogin]:
    """Accepted sign-ins of the last days from outside these ranges, by SMTP user and address, most first.

    Counted from the hourly sums: an organization may sign in millions of times a week. since is its full hour there.
    """
    ranges = [parse_network(text) for text in networks] or None
    now = now or timezone.now()
    smtp_user_id = smtp_user.pk if smtp_user else None
    uses = accepted_addresses(organization.pk, since=now - timedelta(days=days), smtp_user_id=smtp_user_id)
    known = {(use.smtp_user_id, use.ip) for use in uses}
    recent = _recent_addresses(organization.pk, since=now - TAIL, smtp_user_id=smtp_user_id)
    uses += [use for use in recent if (use.smtp_user_id, use.ip) not in known]
    refused = [use for use in uses if not allowed(parse_address(use.ip), ranges)]
    names = dict(SmtpUser.objects.filter(organization=organization).values_list("pk", "username"))
    return sorted(
        (RefusedLogin(names.get(use.smtp_user_id, ""), use.ip, use.count, use.last_at) for use in refused),
        key=lambda login: -login.count,
    )


def _recent_addresses(organization_id: int, *, since: datetime, smtp_user_id: int | None) -> list[AddressUse]:
    """As accepted_addresses(), from the events themselves."""
    events = AuthEvent.objects.filter(
        organization_id=organization_id, result=Result.ACCEPTED, at__gte=since, smtp_user_id__isnull=False
    )
    if smtp_user_id is not None:
        events = events.filter(smtp_user_id=smtp_user_id)
    sums = events.values("smtp_user_id", "ip").annotate(attempts=Sum("count"), latest=Max("last_at"))
    return [AddressUse(row["smtp_user_id"] or 0, row["ip"], row["attempts"], row["latest"]) for row in sums]


def _refuse_overlap(network: Range, rows: QuerySet[Network]) -> None:
    if len(rows) >= NETWORKS_MAX:
        raise NetworkRefused(_("A list holds %(max)d ranges at most."), code="full", params={"max": NETWORKS_MAX})
    for row in rows:
        other = ip_network(row.cidr)
        if row.ends_at and row.ends_at <= timezone.now():
            if other == network:
                row.delete()  # its time is over; the same range may be allowed anew
            continue
        if other.version != network.version or not other.overlaps(network):
            continue
        if other == network:
            raise NetworkRefused(_("%(other)s is in this list already."), code="duplicate", params={"other": row.cidr})
        if other.prefixlen < network.prefixlen:
            raise NetworkRefused(
                _("%(network)s lies inside %(other)s, which this list already allows."),
                code="covered",
                params={"network": str(network), "other": row.cidr},
            )
        raise NetworkRefused(
            _("%(network)s takes in %(other)s of this list. Remove that one first."),
            code="covers",
            params={"network": str(network), "other": row.cidr},
        )


def _changed(row: Network, action: str, actor: Actor) -> None:
    whom = row.app_password or row.smtp_user or row.organization
    announce(row.organization_id, smtp_user_id=row.smtp_user_id, app_password_id=row.app_password_id)
    record_change(
        action,
        organization_id=row.organization_id,
        actor=actor,
        subject=str(whom),
        subject_id=str(row.pk),
        values={"cidr": row.cidr, "label": row.label, "ends_at": row.ends_at.isoformat() if row.ends_at else None},
    )
