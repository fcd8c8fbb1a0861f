"""DANE: whether the certificates that a server shows are those that its zone names.

Shapes  check(records, names, leaf, chain) returns, or raises. usable(records) are those that say something to us.
        leaf, chain: certificates in DER, the server's own first; chain is None where Python cannot tell it.
Errors  NotNamedError, with words for people.
Source  RFC 6698, 7671 (5: usages; 9: digests), 7672 3.1.

Usage 3 (DANE-EE) names the server's own certificate or key: neither its name nor its end counts. Usage 2 (DANE-TA)
names an authority in the chain that the server sends: the certificate must bear the name, and be valid. Usages 0 and 1
rest on authorities that mail servers do not agree upon, and say nothing here (RFC 7672 3.1.3).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification

from relay.smtp.next_hop import Tlsa

DANE_TA, DANE_EE = 2, 3
CERTIFICATE, KEY = 0, 1
DIGESTS: dict[int, tuple[Callable[[bytes], bytes], int]] = {
    1: (lambda data: hashlib.sha256(data).digest(), 32),
    2: (lambda data: hashlib.sha512(data).digest(), 64),
}
NEEDS_CHAIN = "name an authority (DANE-TA), which Gatepost can verify from Python 3.13 on"
CHAIN = 10  # certificates of a chain that are looked at


class NotNamedError(OSError):
    """The server shows other certificates than those that its TLSA records name."""


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """RFC 7671 9: of each usage and selector the strongest digest alone, beside what is named in full."""
    known = [record for record in records if _is_usable(record)]
    strongest: dict[tuple[int, int], int] = {}
    for record in known:
        kind = (record.usage, record.selector)
        strongest[kind] = max(strongest.get(kind, 0), record.matching)
    return tuple(
        dict.fromkeys(record for record in known if record.matching in {0, strongest[(record.usage, record.selector)]})
    )


def _is_usable(record: Tlsa) -> bool:
    if record.usage not in {DANE_TA, DANE_EE} or record.selector not in {CERTIFICATE, KEY}:
        return False
    if record.matching == 0:
        return bool(record.data)
    return record.matching in DIGESTS and len(record.data) == DIGESTS[record.matching][1]


def check(records: Sequence[Tlsa], names: Sequence[str], leaf: bytes, chain: Sequence[bytes] | None) -> None:
    """Returns if one of the records is fulfilled; raises NotNamedError otherwise."""
    if any(_names(record, leaf) for record in records if record.usage == DANE_EE):
        return
    anchors = [record for record in records if record.usage == DANE_TA]
    if not anchors:
        raise NotNamedError("its certificate is not the one that its TLSA records name (DANE)")
    if chain is None:
        raise NotNamedError(f"its TLSA records {NEEDS_CHAIN}")
    issuers = [der for der in chain[1:CHAIN] if any(_names(record, der) for record in anchors)]
    if not issuers:
        raise NotNamedError("no certificate that it shows is one that its TLSA records name (DANE)")
    if not any(_is_issued(leaf, issuer, chain, name) for issuer in issuers for name in names):
        raise NotNamedError("its certificate does not hold under the authority that its TLSA records name (DANE)")


def _names(record: Tlsa, der: bytes) -> bool:
    data = der
    if record.selector == KEY:
        try:
            key = x509.load_der_x509_certificate(der).public_key()
        except ValueError:
            return False
        data = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = DIGESTS.get(record.matching)
    return (digest[0](data) if digest else data) == record.data


def _is_issued(leaf: bytes, issuer: bytes, chain: Sequence[bytes], name: str) -> bool:
    """Whether the path from the leaf to this authority holds today, for this name."""
    try:
        load = x509.load_der_x509_certificate
        policy = verification.PolicyBuilder().store(verification.Store([load(issuer)])).time(datetime.now(UTC))
        # A zone's own authority need not follow the rules of the browsers' ones; signatures, dates, the name and the
        # right to sign are looked at all the same.
        policy = policy.extension_policies(
            ca_policy=verification.ExtensionPolicy.permit_all().require_present(
                x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
            ),
            ee_policy=verification.ExtensionPolicy.permit_all().require_present(
                x509.SubjectAlternativeName, verification.Criticality.AGNOSTIC, None
            ),
        )
        verifier = policy.build_server_verifier(x509.DNSName(name))
        verifier.verify(load(leaf), [load(der) for der in chain[1:CHAIN]])
    except (verification.VerificationError, ValueError, x509.UnsupportedGeneralNameType):
        return False
    return True
