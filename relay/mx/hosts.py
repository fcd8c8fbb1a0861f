"""Which hosts take a domain's mail, and at which addresses.

Shapes  hosts_of(destination) -> Hosts, the best first. addresses_of(host) -> Addresses, judged.
Errors  NoNextHopError, permanent where the DNS says that there is nobody, temporary where it says nothing.
Source  RFC 5321 5.1 (order, no MX, ourselves), 4.1.3 (address literals); RFC 7505 (null MX); RFC 2181 10.3 (CNAME).
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from itertools import chain, groupby, zip_longest
from operator import itemgetter

import dns.exception
import dns.name
from django.conf import settings

from relay import outside, resolver
from relay.mx.errors import NoNextHopError
from relay.networks import Address
from relay.resolver import Answer, Outcome

HOSTS = 8  # of one destination that are looked at
ADDRESSES = 4  # of one host that are tried
FAMILIES = {"ipv4": ("A", 4), "ipv6": ("AAAA", 6)}


@dataclass(frozen=True, slots=True)
class Hosts:
    """domain: in A-labels. groups: names of servers, those of one preference together, the best ones first.

    authenticated: the resolver has validated that it is these.
    """

    domain: str
    groups: tuple[tuple[str, ...], ...]
    authenticated: bool = False
    is_implicit: bool = False  # there is no MX record: it is the domain's own address
    is_literal: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(self.groups))


@dataclass(frozen=True, slots=True)
class Addresses:
    """usable: those to which we go. is_known: the DNS has answered. canonical: where the host's CNAMEs lead."""

    usable: tuple[str, ...]
    is_known: bool = True
    is_inside: bool = False  # it has some, and none where we go
    authenticated: bool = False
    canonical: str = ""


async def hosts_of(destination: str) -> Hosts:
    """Raises NoNextHopError."""
    if destination.startswith("["):
        return Hosts(destination, ((_literal(destination),),), is_literal=True)
    domain = a_labels(destination)
    answer = await resolver.query(domain, "MX")
    if answer.outcome is Outcome.NXDOMAIN:
        raise NoNextHopError(550, "5.1.2", f"There is no domain {domain}.")
    if not answer.is_known:
        raise NoNextHopError(451, "4.4.3", f"The DNS does not say now who takes the mail of {domain}.")
    if answer.outcome is Outcome.NO_DATA:
        return Hosts(domain, ((domain,),), answer.authenticated, is_implicit=True)
    return Hosts(domain, _grouped(domain, answer), answer.authenticated)


def a_labels(domain: str) -> str:
    """As the DNS and certificates have it. Raises NoNextHopError for what can be no domain."""
    try:
        name = dns.name.from_text(domain.rstrip("."))
        if name == dns.name.root:
            raise ValueError("the root takes no mail")
    except (dns.exception.DNSException, UnicodeError, ValueError):
        raise NoNextHopError(550, "5.1.2", "The recipient's domain cannot stand in the DNS.") from None
    return resolver.plain(name)


def _literal(destination: str) -> str:
    """The address in [192.0.2.1] or [IPv6:2001:db8::1]."""
    text = destination[1:].removesuffix("]")
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    try:
        return str(ip_address(text))
    except ValueError:
        raise NoNextHopError(550, "5.1.2", "The recipient's address literal is no address.") from None


def _grouped(domain: str, answer: Answer) -> tuple[tuple[str, ...], ...]:
    """By preference; from ourselves on, nobody: RFC 5321 5.1, or the mail would go in circles."""
    found = [(int(record.preference), resolver.plain(record.exchange)) for record in answer.records]  # type: ignore[attr-defined]
    if all(not name for _preference, name in found):
        raise NoNextHopError(556, "5.1.10", f"{domain} takes no mail (null MX).")
    found = [each for each in found if each[1]]
    ours = min((preference for preference, name in found if is_ourselves(name)), default=None)
    if ours is not None:
        found = [each for each in found if each[0] < ours]
    if not found:
        raise NoNextHopError(554, "5.4.6", f"The mail of {domain} would come back to Gatepost: its MX is this server.")
    random.shuffle(found)
    best: dict[str, int] = {}
    for preference, name in sorted(found, key=itemgetter(0)):
        best.setdefault(name, preference)
    taken = list(best.items())[:HOSTS]
    return tuple(tuple(name for name, _preference in group) for _key, group in groupby(taken, key=itemgetter(1)))


def is_ourselves(name: str) -> bool:
    return name == str(settings.GATEPOST_HOSTNAME).rstrip(".").lower()


async def addresses_of(hosts: Hosts, name: str) -> Addresses:
    """Those of the families that the operator wants, taken in turn."""
    if hosts.is_literal:
        return _judged([[name]])
    wanted = [FAMILIES[family] for family in settings.GATEPOST_MX_FAMILIES]
    answers = await asyncio.gather(*(resolver.query(name, record_type) for record_type, _version in wanted))
    by_family = [random.sample(answer.addresses, len(answer.addresses)) for answer in answers]
    return _judged(by_family, answers)


def _judged(by_family: Sequence[Sequence[str]], answers: Sequence[Answer] = ()) -> Addresses:
    turns = chain.from_iterable(zip_longest(*by_family))
    found = [address for address in turns if address]
    usable = tuple(address for address in found if may_go_to(ip_address(address)))
    with_records = [answer for answer in answers if answer.outcome is Outcome.RECORDS]
    return Addresses(
        usable=usable[:ADDRESSES],
        is_known=all(answer.is_known for answer in answers),
        is_inside=bool(found) and not usable,
        authenticated=bool(with_records) and all(answer.authenticated for answer in with_records),
        canonical=next((answer.canonical for answer in with_records), ""),
    )


def may_go_to(address: Address) -> bool:
    """A public address, or one that the operator allows: who writes an MX record must not reach into our network."""
    return outside.is_open(_unmapped(address), settings.GATEPOST_MX_ALLOWED)


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def nobody(hosts: Hosts, found: Iterable[Addresses]) -> NoNextHopError:
    """None of the hosts has an address to go to: why."""
    every = list(found)
    if not all(each.is_known for each in every):
        return NoNextHopError(451, "4.4.3", f"The DNS does not say now where the mail servers of {hosts.domain} are.")
    if any(each.is_inside for each in every):
        return NoNextHopError(550, "5.4.4", f"The mail servers of {hosts.domain} have no public address.")
    if hosts.is_implicit:
        return NoNextHopError(550, "5.1.2", f"{hosts.domain} has neither a mail server (MX) nor an address.")
    return NoNextHopError(550, "5.4.4", f"The mail servers of {hosts.domain} have no address: {', '.join(hosts.names)}")
