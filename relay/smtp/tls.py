"""TLS towards next hops: a context for each kind, and what a certificate must show.

Shapes  context_of(next_hop) -> SSLContext, made once for each kind. check_peer() after the handshake.
Errors  OSError (of which ssl.SSLError is one), with words for people.
Source  RFC 7435 (opportunistic: unverified is better than clear), 7672 (DANE), 6698 (TLSA).
"""

import ssl
from functools import lru_cache
from ipaddress import ip_address

from relay.smtp import dane
from relay.smtp.next_hop import DANE, ENCRYPTED, OPPORTUNISTIC, NextHop

_UNVERIFIED = frozenset({OPPORTUNISTIC, ENCRYPTED, DANE})
_VERIFIED_HOW = {
    DANE: "the certificate is verified by DANE",
    OPPORTUNISTIC: "the certificate is not verified",
    ENCRYPTED: "the certificate is not verified",
}


def context_of(next_hop: NextHop) -> ssl.SSLContext:
    """Reading the authorities takes milliseconds: contexts are kept."""
    return unverified_context() if next_hop.tls in _UNVERIFIED else tls_context(next_hop.ca_file)


@lru_cache(maxsize=64)
def tls_context(ca_file: str) -> ssl.SSLContext:
    """A verifying context, TLS 1.2 at least."""
    is_pem = ca_file.startswith("-----BEGIN")
    context = ssl.create_default_context(cafile=None if is_pem else ca_file or None, cadata=ca_file if is_pem else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@lru_cache(maxsize=1)
def unverified_context() -> ssl.SSLContext:
    """Whatever the server has: the other choice is to send in clear."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def check_peer(next_hop: NextHop, tls: ssl.SSLObject | None) -> None:
    """What the handshake could not judge by itself. Raises OSError."""
    if next_hop.tls != DANE:
        return
    leaf = tls.getpeercert(binary_form=True) if tls else None
    if not leaf:
        raise dane.NotNamedError("it showed no certificate")
    tell_chain = getattr(tls, "get_unverified_chain", None)  # from Python 3.13 on
    chain = [bytes(each) for each in tell_chain()] if tell_chain else None
    dane.check(next_hop.tlsa, (next_hop.host, *next_hop.names), leaf, chain)


def how_verified(next_hop: NextHop) -> str:
    return _VERIFIED_HOW.get(next_hop.tls, "the certificate is verified by the system's authorities or the operator's")


def is_loopback(address: str) -> bool:
    return ip_address(address).is_loopback
