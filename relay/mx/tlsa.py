"""Which certificates a mail server must show by DANE.

Shapes  requirement_of(hosts, name, addresses) -> Requirement: nothing is demanded, or TLS with these records, or the
        server cannot be used now.
Errors  None: what the DNS does not say becomes an obstacle.
Source  RFC 7672 2.1 (MX, address and TLSA must all be validated), 2.2 (names and CNAMEs), 3.1.3 (unusable records).

Only a resolver that validates DNSSEC can say so (the AD bit), and only one that is believed: relay.resolver. Without
one nothing here demands anything, and a zone that is not signed is none of DANE's business.
"""

import sys
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from relay import resolver
from relay.mx.hosts import Addresses, Hosts
from relay.resolver import Outcome
from relay.smtp import dane
from relay.smtp.next_hop import DANE, ENCRYPTED, OPPORTUNISTIC, Tlsa

KNOWS_CHAINS = sys.version_info >= (3, 13)  # before, Python does not tell which certificates the server sent
RECORDS = 32  # of one server that are looked at


@dataclass(frozen=True, slots=True)
class Requirement:
    """tls: as in relay.smtp.next_hop. base: the name that stands in SNI and in the certificate. obstacle: in words."""

    tls: str = OPPORTUNISTIC
    tlsa: tuple[Tlsa, ...] = ()
    base: str = ""
    obstacle: str = ""


NOTHING = Requirement()


async def requirement_of(hosts: Hosts, name: str, addresses: Addresses) -> Requirement:
    if not settings.GATEPOST_MX_DANE or hosts.is_literal or not (hosts.authenticated and addresses.authenticated):
        return NOTHING
    # RFC 7672 2.2.2: where CNAMEs lead first, then the name of the MX record itself.
    for base in dict.fromkeys((addresses.canonical or name, name)):
        answer = await resolver.query(f"_{settings.GATEPOST_MX_PORT}._tcp.{base}", "TLSA")
        if not answer.is_known:
            return Requirement(obstacle=f"The DNS does not say now which certificate {name} must show (DANE).")
        if answer.outcome is Outcome.RECORDS and answer.authenticated:
            return _demanded(name, base, answer.records[:RECORDS])
    return NOTHING


def _demanded(name: str, base: str, found: tuple[Any, ...]) -> Requirement:
    records = dane.usable(Tlsa(each.usage, each.selector, each.mtype, bytes(each.cert)) for each in found)
    if not records:
        return Requirement(ENCRYPTED, base=base)  # RFC 7672 2.2: TLS all the same
    if not KNOWS_CHAINS and not any(record.usage == dane.DANE_EE for record in records):
        return Requirement(obstacle=f"The TLSA records of {name} {dane.NEEDS_CHAIN}.")
    return Requirement(DANE, records, base)
