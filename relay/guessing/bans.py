"""Bans as rows: who is banned, why and until when; lifted by operators, and by customers on addresses of their own.

Shapes  Ban and ProtectedRange (relay.models). own_bans() are those that hit addresses from which an organization's SMTP
        users signed in lately, as the auth log proves.
Units   aware UTC.
Errors  NotYours, LiftedLately, RangeRefused: ValidationErrors with words for a form or an API answer.
Source  docs/security.md, Guessing.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from audit.changes import Actor, record_change
from audit.models import ChangeEvent
from relay.guessing.shared import tell_bans_changed
from relay.models import Ban, ProtectedRange
from relay.networks import parse_network

OWN_DAYS = 30
KEPT = timedelta(days=90)
LIFTED_AGAIN = timedelta(days=1)  # by the same customer; else guess, ban, lift could go on for ever
LABEL_MAX = 64
RANGES_MAX = 1_000
INSTALLATION = 0

# Who signed in from a range: from the sums of days, and for what they do not have yet from the events. The bounds of a
# range are an index condition; `<<=` is none.
_OWN = """
    SELECT DISTINCT ban.id, used.organization_id, host(used.ip) FROM relay_ban ban
    CROSS JOIN LATERAL (
        SELECT organization_id, ip FROM audit_authday WHERE result = 'accepted' AND day >= %(since)s::date
               AND ip BETWEEN host(network(ban.cidr))::inet AND host(broadcast(ban.cidr))::inet
        UNION
        SELECT organization_id, ip FROM audit_authevent WHERE result = 'accepted' AND at >= %(recent)s
               AND ip BETWEEN host(network(ban.cidr))::inet AND host(broadcast(ban.cidr))::inet
    ) AS used
    WHERE ban.id = ANY(%(bans)s) AND (%(organization_id)s::bigint IS NULL OR organization_id = %(organization_id)s)
          AND organization_id IS NOT NULL
    ORDER BY 1, 2, 3
"""


class NotYours(ValidationError):
    """The ban hits no address from which this organization's SMTP users signed in lately."""


class LiftedLately(ValidationError):
    """The organization lifted a ban of this range within a day; `again_at` is when it may again."""

    def __init__(self, again_at: datetime) -> None:
        words = _(
            "Within a day you lifted a ban of this range already. Correct first what"
            " fails there; you may lift it again from %(when)s UTC, and the operator may at any time."
        )
        super().__init__(words, code="lifted_lately", params={"when": f"{again_at:%Y-%m-%d %H:%M}"})
        self.again_at = again_at


class RangeRefused(ValidationError):
    """A range that cannot be protected, and why."""


@dataclass(frozen=True, slots=True)
class OwnBan:
    """A ban, and which of an organization's own addresses it hits."""

    ban: Ban
    addresses: tuple[str, ...]


def active_bans(now: datetime | None = None) -> QuerySet[Ban]:
    return Ban.objects.filter(ends_at__gt=now or timezone.now(), lifted_at__isnull=True)


def past_bans(now: datetime | None = None) -> QuerySet[Ban]:
    return Ban.objects.filter(Q(ends_at__lte=now or timezone.now()) | Q(lifted_at__isnull=False))


def own_bans(organization: Organization, *, now: datetime | None = None) -> list[OwnBan]:
    """Active bans that hit this organization, newest first; addresses that are exempt already are left out."""
    bans = list(active_bans(now).order_by("-began_at", "-pk"))
    used = _used(bans, organization_id=organization.pk, now=now)
    own = (OwnBan(ban, _still_hit(ban, [ip for _whose, ip in used.get(ban.pk, ())])) for ban in bans)
    return [each for each in own if each.addresses]


def customers_hit(bans: Sequence[Ban], *, now: datetime | None = None) -> dict[int, list[Organization]]:
    """By ban: whose SMTP users signed in lately from an address inside it."""
    used = _used(bans, organization_id=None, now=now)
    found = Organization.objects.in_bulk({whose for each in used.values() for whose, _ip in each})
    return {
        ban_id: [found[whose] for whose in dict.fromkeys(whose for whose, _ip in each) if whose in found]
        for ban_id, each in used.items()
    }


def own_addresses(bans: Sequence[Ban], *, now: datetime | None = None) -> Iterator[tuple[Ban, int, tuple[str, ...]]]:
    """Each of these bans with each organization that it hits, and that one's own addresses inside it."""
    used = _used(bans, organization_id=None, now=now)
    for ban in bans:
        by_owner = defaultdict(list)
        for whose, ip in used.get(ban.pk, ()):
            by_owner[whose].append(ip)
        for whose, ips in by_owner.items():
            if hit := _still_hit(ban, ips):
                yield ban, whose, hit


def _used(
    bans: Sequence[Ban], *, organization_id: int | None, now: datetime | None
) -> dict[int, list[tuple[int, str]]]:
    """By ban: organizations and their addresses inside it."""
    if not bans:
        return {}
    now, found = now or timezone.now(), defaultdict(list)
    values = {
        "bans": [ban.pk for ban in bans],
        "organization_id": organization_id,
        "since": now - timedelta(days=OWN_DAYS),
        "recent": now - timedelta(hours=1),
    }
    with connection.cursor() as cursor:
        cursor.execute(_OWN, values)
        for ban_id, whose, ip in cursor.fetchall():
            found[ban_id].append((whose, ip))
    return found


def _still_hit(ban: Ban, addresses: Sequence[str]) -> tuple[str, ...]:
    exempt = {str(ip_address(text)) for text in ban.exempt}
    return tuple(sorted(ip for ip in addresses if str(ip_address(ip)) not in exempt))


@transaction.atomic
def lift_ban(ban: Ban, *, actor: Actor) -> Ban:
    """By an operator: the whole ban ends now. One that has ended already stays as it is."""
    ban = Ban.objects.select_for_update(no_key=True).get(pk=ban.pk)
    if ban.lifted_at is None and ban.ends_at > timezone.now():
        _lift(ban, actor)
        _record("ban.lifted", INSTALLATION, actor, ban)
    return ban


@transaction.atomic
def lift_own_ban(ban: Ban, *, organization: Organization, actor: Actor) -> Ban:
    """By a customer: the ban of its address ends; from a neighbourhood its own addresses are taken.

    Raises NotYours, LiftedLately.
    """
    ban = Ban.objects.select_for_update(no_key=True).get(pk=ban.pk)
    own = next((each for each in own_bans(organization) if each.ban.pk == ban.pk), None)
    if own is None:
        raise NotYours(
            _("None of your SMTP users signed in lately from an address that this ban hits."), code="foreign"
        )
    if again_at := may_lift_again_at(ban, organization=organization):
        raise LiftedLately(again_at)
    if ip_network(ban.cidr).num_addresses == 1:
        _lift(ban, actor)
    else:
        ban.exempt = [*ban.exempt, *own.addresses]
        ban.save(update_fields=["exempt"])
        transaction.on_commit(tell_bans_changed)
    _record("ban.lifted", organization.pk, actor, ban, addresses=list(own.addresses))
    return ban


def may_lift_again_at(ban: Ban, *, organization: Organization, now: datetime | None = None) -> datetime | None:
    """When this customer may lift a ban of this range again; None: now. Its change log knows when it did."""
    now = now or timezone.now()
    lifted = ChangeEvent.objects.filter(
        organization_id=organization.pk, action="ban.lifted", subject=ban.cidr, at__gt=now - LIFTED_AGAIN, at__lte=now
    ).aggregate(last=Max("at"))["last"]
    return lifted + LIFTED_AGAIN if lifted else None


def _lift(ban: Ban, actor: Actor) -> None:
    ban.lifted_at, ban.lifted_by = timezone.now(), actor.name
    ban.save(update_fields=["lifted_at", "lifted_by"])
    transaction.on_commit(tell_bans_changed)


@transaction.atomic
def protect_range(*, cidr: str, actor: Actor, label: str = "") -> ProtectedRange:
    """Nothing inside it is banned from now on; bans inside end. Raises NetworkRefused, RangeRefused."""
    network = parse_network(cidr)
    if len(label.strip()) > LABEL_MAX:
        raise RangeRefused(
            _("The label may have %(most)d characters at most."), code="label", params={"most": LABEL_MAX}
        )
    if ProtectedRange.objects.count() >= RANGES_MAX:
        raise RangeRefused(_("%(most)d ranges are protected already."), code="full", params={"most": RANGES_MAX})
    try:
        with transaction.atomic():
            row = ProtectedRange.objects.create(cidr=str(network), label=label.strip(), created_by=actor.name)
    except IntegrityError:
        raise RangeRefused(
            _("%(network)s is protected already."), code="duplicate", params={"network": str(network)}
        ) from None
    for ban in active_bans().extra(where=["cidr <<= %s::cidr"], params=[str(network)]).select_for_update(no_key=True):
        _lift(ban, actor)
        _record("ban.lifted", INSTALLATION, actor, ban)
    _record("range.protected", INSTALLATION, actor, row)
    transaction.on_commit(tell_bans_changed)
    return row


@transaction.atomic
def unprotect_range(row: ProtectedRange, *, actor: Actor) -> None:
    _record("range.unprotected", INSTALLATION, actor, row)
    row.delete()
    transaction.on_commit(tell_bans_changed)


def delete_old_bans(now: datetime | None = None) -> int:
    """Those that ended long ago. The number of rows deleted."""
    deleted, _by_model = Ban.objects.filter(ends_at__lt=(now or timezone.now()) - KEPT).delete()
    return deleted


def _record(
    action: str, organization_id: int, actor: Actor, row: Ban | ProtectedRange, *, addresses: Sequence[str] = ()
) -> None:
    values: dict[str, object] = {"cidr": row.cidr}
    if isinstance(row, Ban):
        values |= {"ends_at": row.ends_at.isoformat(), "addresses": list(addresses)}
    else:
        values |= {"label": row.label}
    record_change(
        action,
        organization_id=organization_id,
        actor=actor,
        subject=row.cidr,
        subject_id=str(row.pk),
        values=values,
    )
