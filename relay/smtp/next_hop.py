"""A next hop: one server, and how it is to be reached.

Shapes  NextHop: made by relay.routes and relay.mx, used by the client, and the key under which sessions are kept: two
        next hops that are equal share them. Tlsa: one record of DANE.
Source  RFC 3207; RFC 6698 (TLSA), 7672 (DANE for SMTP), 8461 (MTA-STS), 8689 (REQUIRETLS).
"""

from dataclasses import dataclass, field
from ipaddress import ip_address

# What TLS a next hop must have. The certificate is verified by authorities, by DANE, or not at all.
NONE = "none"
OPPORTUNISTIC = "opportunistic"  # as good as it can be had: unverified, or in clear
ENCRYPTED = "encrypted"  # never in clear; whose certificate it is nobody can tell
STARTTLS = "starttls"  # verified by authorities
IMPLICIT = "implicit"  # the same, from the first octet on
DANE = "dane"  # verified by the TLSA records
VERIFIED = frozenset({STARTTLS, IMPLICIT, DANE})


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record as the zone has it."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class NextHop:
    """A server that takes our mail. ca_file: its path, or the certificates in PEM; empty: the system's authorities."""

    host: str  # the name that the certificate must bear
    port: int
    tls: str = STARTTLS
    ca_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    address: str = ""  # the one to connect to; empty: whichever of the host's answers
    sources: tuple[str, ...] = ()  # our own addresses to connect from, at most one of each family; none: the kernel's
    tlsa: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()  # other names that a certificate may bear under DANE-TA
    is_mx: bool = False  # found by the DNS: it could be ourselves

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
