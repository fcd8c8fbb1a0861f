"""What failed at the door before a name was known, found again by its address; for customers only where it is theirs.

Shapes  failures_at(ip) -> Failure: a row of DoorFailure, or an attempt to sign in that named nobody, newest first.
        theirs(organization_id, ip, own): whether a customer may see what failed at an address: somebody of theirs
        signed in from it within DAYS, or they look from it now.
        EXPLANATIONS: cause and fix in words, for each cause.
Errors  None: an address at which nothing failed has no rows.
Source  relay/smtp/door_failures.py writes; docs/security.md, Who sees what failed at the door.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audit import pages
from audit.models import AuthDay, AuthEvent, AuthPending, Reason, Result
from audit.reasons import explain
from audit.record import network_around, read_ip
from relay.models import DoorFailure
from relay.retention import DOOR_FAILURE_DAYS

DAYS: Final = 30  # a sign-in this long ago still makes an address theirs
ROWS: Final = 50
ADDRESSES: Final = 10
Cause = DoorFailure.Cause
# Attempts without a name belong to nobody, so that only an address finds them.
NAMELESS: Final = (Reason.CLEAR_TEXT, Reason.MALFORMED, Reason.ABORTED, Reason.BANNED, Reason.THROTTLED)


@dataclass(frozen=True, slots=True)
class Explained:
    cause: Any
    fix: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """cause: a DoorFailure.Cause, or of an attempt that named nobody its audit.models.Reason."""

    cause: str
    reference: str
    title: Any
    explained: Explained
    place: str
    port: int
    count: int
    first_at: datetime
    last_at: datetime
    detail: str


_CLOSE = _("Let the client use fewer connections at once, and close those that it no longer needs.")
EXPLANATIONS: Final[dict[str, Explained]] = {
    Cause.TLS_VERSION: Explained(
        _("The client offered only TLS versions that are too old: 1.0 or 1.1, or SSL. TLS 1.2 is the least."),
        _("Update the client or its TLS library. On a printer or camera look for a newer firmware, or set TLS 1.2."),
    ),
    Cause.TLS_CIPHER: Explained(
        _("Client and server had no cipher in common: mostly the client's TLS library is very old."),
        _("Update the client or its TLS library; if its ciphers were restricted by hand, allow the usual ones."),
    ),
    Cause.CERTIFICATE: Explained(
        _("The client did not trust the certificate, and broke the connection off itself."),
        _(
            "Connect by the host name in the certificate, not by its address. If the installation has a certificate"
            " authority of its own, give its file to the client. Never switch the check off."
        ),
    ),
    Cause.PLAIN_ON_TLS: Explained(
        _("The client spoke without TLS on the port on which TLS begins at once."),
        _("Set the client to SSL/TLS (implicit TLS) for this port, or to the port for STARTTLS with STARTTLS."),
    ),
    Cause.TLS_ON_PLAIN: Explained(
        _("The client began TLS at once on the port on which a connection begins in clear and STARTTLS follows."),
        _("Set the client to STARTTLS for this port, or to the port for SSL/TLS (implicit TLS)."),
    ),
    Cause.TLS_SILENT: Explained(
        _("The client connected and began no TLS, or did not finish it in time: mostly it waits for a greeting."),
        _(
            "Set the client to SSL/TLS (implicit TLS) for this port, or to the port for STARTTLS. If it is so already,"
            " a firewall or virus scanner on the way may hold the connection up."
        ),
    ),
    Cause.TLS_BROKEN: Explained(
        _("The connection ended within the TLS handshake, before it said why."),
        _(
            "Look into the client's own log: mostly it did not trust the certificate. Port scanners and health checks"
            " do this too, and mean nothing."
        ),
    ),
    Cause.NO_PROXY_HEADER: Explained(
        _("A balancer from which a PROXY header must come sent none, so that the client's address is not known."),
        _("Switch the PROXY protocol on for this port at the balancer, or take it out of GATEPOST_PROXY_PEERS."),
    ),
    Cause.CONNECTIONS: Explained(_("There were too many connections at once from this address, or in all."), _CLOSE),
    Cause.HANDSHAKES: Explained(_("There were too many TLS handshakes at once from this address."), _CLOSE),
}


def theirs(organization_id: int, ip: str, *, own: str | None) -> bool:
    return bool(ip == own or _accepted(organization_id).filter(ip=ip).exists() or _pending(organization_id, ip))


def addresses_of(organization_id: int) -> list[str]:
    """From which they signed in lately, the latest first: what they may ask about."""
    found = _accepted(organization_id).order_by("-day", "-last_at").values_list("ip", flat=True)[: 50 * ADDRESSES]
    return list(dict.fromkeys(found))[:ADDRESSES]


def _accepted(organization_id: int) -> Any:
    since = (timezone.now() - timedelta(days=DAYS)).astimezone(UTC).date()
    return AuthDay.objects.filter(organization_id=organization_id, result=Result.ACCEPTED, day__gte=since)


def _pending(organization_id: int, ip: str) -> bool:
    """A sign-in of the last half minute is not in the sums yet."""
    mine = AuthPending.objects.filter(organization_id=organization_id, result=Result.ACCEPTED, count__gt=0)
    return mine.filter(ip=ip).exists()


def failures_at(ip: str, *, now: datetime | None = None) -> list[Failure]:
    """Of the address, and of its neighbourhood where a flood was folded. Raises ValueError for what is no address."""
    address, now = str(read_ip(ip)), now or timezone.now()
    rows = DoorFailure.objects.filter(place__in=(address, network_around(address))).order_by("-last_at")[:ROWS]
    found = [*map(_of_row, rows), *map(_of_attempt, _nameless(address, since=now - timedelta(days=DOOR_FAILURE_DAYS)))]
    return sorted(found, key=lambda each: each.last_at, reverse=True)[:ROWS]


def failure_of(reference: str) -> Failure | None:
    """Of whomever: is_theirs_at() says whether a customer may see it."""
    if row := DoorFailure.objects.filter(pk=reference).first():
        return _of_row(row)
    event = AuthEvent.objects.filter(reference=reference, organization_id=None, username_given="").first()
    return _of_attempt(event) if event else None


def _nameless(ip: str, *, since: datetime) -> Iterable[AuthEvent]:
    around = ip_network(network_around(ip))
    kinds = [kind for reason in NAMELESS for kind in pages.kinds_of(0, reason=reason)]
    wanted = pages.Wanted(
        kinds=kinds,
        # A folded run stands for its whole neighbourhood, at the address of its first attempt.
        conditions=[
            ("ip >= %s::inet", str(around[0])),
            ("ip <= %s::inet", str(around[-1])),
            ("username_given = %s", ""),
            ("(ip = %s::inet OR first_at IS NOT NULL)", ip),
        ],
        nobodys=True,
        since=since,
    )
    try:
        return pages.read(wanted, limit=ROWS)
    except pages.SearchTooLong:
        return []  # what failed at the door is told all the same


def _of_row(row: DoorFailure) -> Failure:
    return Failure(
        cause=row.cause,
        reference=row.reference,
        title=row.get_cause_display(),
        explained=EXPLANATIONS[row.cause],
        place=row.place,
        port=row.port,
        count=row.count,
        first_at=row.first_at,
        last_at=row.last_at,
        detail=row.detail,
    )


def _of_attempt(event: AuthEvent) -> Failure:
    words = explain(event.reason)
    return Failure(
        cause=event.reason,
        reference=event.reference,
        title=event.get_reason_display(),
        explained=Explained(words.cause, words.fix),
        place=event.ip if event.first_at is None else event.network,
        port=event.port,
        count=event.count,
        first_at=event.first_at or event.at,
        last_at=event.last_at,
        detail=event.client_name if event.first_at is None else "",  # of a run, it may be a neighbour's
    )


def is_theirs_at(organization_id: int, place: str, *, own: str | None) -> bool:
    """As theirs(), of a row's place: a neighbourhood is theirs where they are within it."""
    if "/" not in place:
        return bool(place) and theirs(organization_id, place, own=own)
    network = ip_network(place)
    if own and read_ip(own) in network:
        return True
    return bool(_accepted(organization_id).filter(Q(ip__gte=str(network[0])) & Q(ip__lte=str(network[-1]))).exists())
