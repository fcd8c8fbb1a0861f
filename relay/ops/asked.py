"""What a page was asked for: the periods on offer, and values out of a query string that are safe to hand on.

Shapes  Period: a span that ends now.
Errors  None: what cannot be read counts as not asked for. address_of() and network_of() are None for it, so that a page
        can name it as bad.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

PAGE = 50  # rows


@dataclass(frozen=True, slots=True)
class Period:
    key: str
    label: str | Promise
    length: timedelta

    def since(self, now: datetime) -> datetime:
        return now - self.length


PERIODS = {
    period.key: period
    for period in (
        Period("5m", _("5 minutes"), timedelta(minutes=5)),
        Period("1h", _("1 hour"), timedelta(hours=1)),
        Period("24h", _("24 hours"), timedelta(days=1)),
        Period("7d", _("7 days"), timedelta(days=7)),
        Period("30d", _("30 days"), timedelta(days=30)),
    )
}
FLOOR_PERIODS = (PERIODS["5m"], PERIODS["1h"], PERIODS["24h"])


def text_asked(query: Mapping[str, str], name: str, limit: int = 320) -> str:
    """A value of the query string without what PostgreSQL cannot store: it could match nothing."""
    raw = query.get(name, "").replace("\x00", "")
    return raw.encode("utf-8", "ignore").decode()[:limit].strip()


def number_asked(query: Mapping[str, str], name: str) -> int | None:
    """A row's number, within what a bigint holds."""
    text = text_asked(query, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def choice_asked(query: Mapping[str, str], name: str, choices: list[str]) -> str:
    text = text_asked(query, name)
    return text if text in choices else ""


def period_asked(query: Mapping[str, str], default: str = "24h") -> Period:
    return PERIODS.get(query.get("period", ""), PERIODS[default])


def address_of(text: str) -> str | None:
    """An IP address in its one written form; an IPv4 address mapped into IPv6 is that IPv4 address."""
    try:
        address = ip_address(text.strip().removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def network_of(text: str) -> str | None:
    """A range in CIDR notation; host bits are dropped, since this only searches."""
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        return None
