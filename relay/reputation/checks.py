"""The relay's own addresses, looked at every half hour, with history and alerts.

Shapes  look_now() -> Look: the addresses, and what was seen; writes nothing. check_reputation() keeps it as spans and
        opens or closes the operators' alerts. now() and history() are for the page.
Units   KEPT: of spans that are over.
Errors  Those of the database. What could not be looked up is kept as such, and neither opens an alert nor closes one.
Source  docs/operations.md, Reputation.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from audit.anomalies.cases import close, raise_alert
from audit.anomalies.models import Anomaly, Kind, Severity
from audit.anomalies.models import State as CaseState
from relay.logs import get_logger
from relay.models import NamedRoute, ReputationSpan
from relay.reputation.lookups import Seen, look
from relay.resolver import query

log = get_logger(__name__)
KEPT: Final = timedelta(days=400)
HISTORY_ROWS: Final = 50
Check, State = ReputationSpan.Check, ReputationSpan.State


@dataclass(frozen=True, slots=True)
class Look:
    addresses: tuple[str, ...]
    seen: tuple[Seen, ...]


def is_on() -> bool:
    """Off in the demo, whose mail never leaves the machine, and where the host has no name in the DNS."""
    named = bool(settings.GATEPOST_SENDING_ADDRESSES) or "." in settings.GATEPOST_HOSTNAME.strip(".")
    return named and not settings.GATEPOST_DEMO


def look_now() -> Look:
    configured = configured_addresses()
    return asyncio.run(_look(configured)) if is_on() else Look((), ())


def configured_addresses() -> tuple[str, ...]:
    """From which mail leaves, by the settings and the routes; public ones alone, unless the operator named them."""
    if settings.GATEPOST_SENDING_ADDRESSES:
        return tuple(settings.GATEPOST_SENDING_ADDRESSES)
    of_routes = NamedRoute.objects.values_list("source_ipv4", "source_ipv6")
    found = [*settings.GATEPOST_MX_SOURCES, *(address for pair in of_routes for address in pair if address)]
    return _public(found)


async def _look(configured: Sequence[str]) -> Look:
    hostname = settings.GATEPOST_HOSTNAME
    addresses = tuple(configured) or await _of_name(hostname)
    seen = await look(addresses, zones=settings.GATEPOST_BLOCKLISTS, hostname=hostname)
    return Look(addresses, tuple(seen))


async def _of_name(hostname: str) -> tuple[str, ...]:
    answers = await asyncio.gather(query(hostname, "A"), query(hostname, "AAAA"))
    return _public(each for answer in answers for each in answer.addresses)


def _public(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(ip_address(each)) for each in addresses if ip_address(each).is_global))


# --- Kept -------------------------------------------------------------------------------------------------------------


def check_reputation(*, at: datetime | None = None) -> Look:
    """Looks, without a transaction open, and keeps what it saw."""
    looked = look_now()
    at = at or timezone.now()
    if looked.addresses or not is_on():  # a host name that cannot be looked up just now ends nothing
        keep(looked.seen, at=at)
    return looked


@transaction.atomic
def keep(seen: Sequence[Seen], *, at: datetime) -> None:
    """What is as before goes on, what is otherwise begins, what is not looked at any more ends."""
    current = {_key(span): span for span in now().select_for_update(no_key=True)}
    for each in seen:
        span = current.pop((each.check, each.address, each.zone), None)
        if span and span.state == each.state:
            span.last_at, span.detail = at, each.detail
            span.save(update_fields=["last_at", "detail"])
        else:
            _end([span] if span else [], at)
            ReputationSpan.objects.create(
                check_kind=each.check, address=each.address, zone=each.zone, state=each.state, detail=each.detail,
                began_at=at, last_at=at,
            )  # fmt: skip
        _alert(each, at)
    _end(list(current.values()), at)
    for span in current.values():
        _close(span.address, span.zone)


def _key(span: ReputationSpan) -> tuple[str, str, str]:
    return span.check_kind, span.address, span.zone


def _end(spans: Sequence[ReputationSpan], at: datetime) -> None:
    ReputationSpan.objects.filter(pk__in=[span.pk for span in spans]).update(ended_at=at)


def _alert(seen: Seen, at: datetime) -> None:
    if seen.check != Check.BLOCKLIST:
        return
    if seen.state == State.LISTED:
        evidence = {"ip": seen.address, "list": seen.zone, "said": seen.detail}
        raise_alert(
            Kind.LISTED, organization_id=None, key=_case(seen.address, seen.zone), severity=Severity.CRITICAL,
            evidence=evidence, last_at=at,
        )  # fmt: skip
    elif seen.state == State.GOOD and _close(seen.address, seen.zone):
        raise_alert(
            Kind.UNLISTED, organization_id=None, key=f"un{_case(seen.address, seen.zone)}", severity=Severity.NOTICE,
            evidence={"ip": seen.address, "list": seen.zone}, last_at=at,
        )  # fmt: skip


def _case(address: str, zone: str) -> str:
    return f"{Kind.LISTED}:{address}:{zone}"


def _close(address: str, zone: str) -> bool:
    """Whether a case was open, which it is not any more."""
    open_case = Anomaly.objects.filter(organization_id=None, key=_case(address, zone), state=CaseState.OPEN).first()
    return open_case is not None and close(open_case, state=CaseState.ENDED, by="")


# --- Read -------------------------------------------------------------------------------------------------------------


def now() -> QuerySet[ReputationSpan]:
    """How it is: one row for each check of each address."""
    return ReputationSpan.objects.filter(ended_at=None).order_by("address", "check_kind", "zone")


def history(*, limit: int = HISTORY_ROWS) -> list[ReputationSpan]:
    """What changed, the newest first: each span that was not good, and each return to good."""
    changed = ReputationSpan.objects.exclude(Q(state=State.GOOD) & Q(began_at__lte=_first()))
    return list(changed.order_by("-began_at", "-pk")[:limit])


def _first() -> datetime:
    """When anything was seen for the first time: to be good from the start is no change."""
    oldest = ReputationSpan.objects.order_by("began_at").values_list("began_at", flat=True).first()
    return oldest or timezone.now()


def forget_old_spans(*, at: datetime | None = None) -> int:
    deleted, _tables = ReputationSpan.objects.filter(ended_at__lt=(at or timezone.now()) - KEPT).delete()
    return deleted
