"""Allowlists: from which addresses an SMTP user may sign in.

Shapes  A list is all live rows of one owner: the organization, one of its SMTP users, or one app password: Allowlist.
        No rows allow any address; an address must pass every list that has rows. A list whose rows have all ended
        allows nobody: an end date never opens the door.
Errors  NetworkRefused (a ValidationError) with words for a form.
Source  RFC 4632 (CIDR), RFC 4291 2.5.5.2 (IPv4-mapped addresses are their IPv4).
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from audit.changes import Actor, record_change
from audit.logins import LoginUse, logins
from relay.changes import announce
from relay.models import AppPassword, Network, SmtpUser

Address = IPv4Address | IPv6Address
Range = IPv4Network | IPv6Network

NETWORKS_MAX = 200  # of one list; the whole of it is read at each sign-in
LABEL_MAX = 64
WIDEST_V4, WIDEST_V6 = 16, 32  # what is wider asks in the panel for recent identification
ALL_MAPPED = IPv6Network("::ffff:0:0/96")  # every IPv4 address there is


class NetworkRefused(ValidationError):
    """A range that cannot be taken, and why."""


@dataclass(frozen=True, slots=True)
class RefusedLogin:
    """Sign-ins of the last days that a list would have refused. client_name: of the last one."""

    username: str
    ip: str
    count: int
    last_at: datetime
    app_password: str = ""  # its name; empty for an access token
    client_name: str = ""
    smtp_user_id: int | None = field(default=None, compare=False)
    app_password_id: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Preview:
    """What ranges would have done to the accepted sign-ins of the last days."""

    days: int
    logins: int
    refused: list[RefusedLogin]  # most first

    @property
    def refused_logins(self) -> int:
        return sum(each.count for each in self.refused)


@dataclass(frozen=True, slots=True)
class Allowlist:
    """Whose list: the organization's, one SMTP user's, or one app password's (of that SMTP user)."""

    organization: Organization
    smtp_user: SmtpUser | None = None
    app_password: AppPassword | None = None

    def __str__(self) -> str:
        if self.smtp_user is None:
            return self.organization.name
        return f"{self.smtp_user}: {self.app_password}" if self.app_password else str(self.smtp_user)

    @property
    def level(self) -> str:
        return "app_password" if self.app_password else "smtp_user" if self.smtp_user else "organization"

    @property
    def key(self) -> tuple[int | None, int | None]:
        """Tells it from the organization's other lists, as its rows do."""
        return self.smtp_user.pk if self.smtp_user else None, self.app_password.pk if self.app_password else None

    @property
    def rows(self) -> QuerySet[Network]:
        return list_of(self.organization, smtp_user=self.smtp_user, app_password=self.app_password)

    def logins(self, *, since: datetime, now: datetime) -> list[LoginUse]:
        """Accepted sign-ins that the list speaks of."""
        smtp_user_id, app_password_id = self.key
        return logins(
            self.organization.pk, since=since, smtp_user_id=smtp_user_id, app_password_id=app_password_id, now=now
        )


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


def is_wide(text: str) -> bool:
    """Whether it holds so many addresses that whoever adds it should show who he is."""
    network = parse_network(text)
    return network.prefixlen < (WIDEST_V4 if network.version == 4 else WIDEST_V6)


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
    app_password: AppPassword | None = None,
    days: int = 7,
    now: datetime | None = None,
) -> list[RefusedLogin]:
    """Accepted sign-ins of the last days from outside these ranges, most first. No ranges refuse nobody."""
    owner = Allowlist(organization, smtp_user, app_password)
    return preview(owner, [parse_network(text) for text in networks], days=days, now=now).refused


def preview(owner: Allowlist, ranges: Iterable[Range], *, days: int, now: datetime | None = None) -> Preview:
    """What the list would have refused, if it had been these ranges; from daily sums, so it may be asked often."""
    now = now or timezone.now()
    inside, refused, total = _Ranges(ranges), [], 0
    names = dict(SmtpUser.objects.filter(organization=owner.organization).values_list("pk", "username"))
    uses = owner.logins(since=now - timedelta(days=days), now=now)
    for use in uses:
        total += use.count
        if use.smtp_user_id is not None and not inside.hold(parse_address(use.ip)):
            refused.append(use)
    return Preview(days, total, _told(refused, names))


def _told(refused: Iterable[LoginUse], names: dict[int, str]) -> list[RefusedLogin]:
    """One line for each credential and address, whatever mechanism and TLS version it used."""
    lines: dict[tuple[int | None, int | None, str], list[LoginUse]] = {}
    for use in refused:
        lines.setdefault((use.smtp_user_id, use.app_password_id, use.ip), []).append(use)
    wanted = {password_id for _user, password_id, _ip in lines if password_id is not None}
    passwords = dict(AppPassword.objects.filter(pk__in=wanted).values_list("pk", "name"))
    found = []
    for (user_id, password_id, ip), uses in lines.items():
        last = max(uses, key=lambda use: use.last_at)
        count = sum(use.count for use in uses)
        name = passwords.get(password_id, "") if password_id is not None else ""
        ids = {"smtp_user_id": user_id, "app_password_id": password_id}
        found.append(RefusedLogin(names.get(user_id or 0, ""), ip, count, last.last_at, name, last.client_name, **ids))
    return sorted(found, key=lambda login: (-login.count, login.username, login.ip))


class _Ranges:
    """Many addresses against many ranges. None given allow everybody, as an empty list does."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        given = list(ranges)
        self._all = not given
        self._spans: dict[int, tuple[list[int], list[int]]] = {}
        for version in (4, 6):
            own = collapse_addresses(each for each in given if each.version == version)  # type: ignore[type-var]
            pairs = [(int(each.network_address), int(each.broadcast_address)) for each in own]
            self._spans[version] = ([first for first, _last in pairs], [last for _first, last in pairs])

    def hold(self, ip: Address) -> bool:
        firsts, lasts = self._spans[ip.version]
        place = bisect_right(firsts, int(ip)) - 1
        return self._all or (place >= 0 and int(ip) <= lasts[place])


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
