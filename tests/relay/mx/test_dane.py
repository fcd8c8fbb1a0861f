"""relay.smtp.dane: which records are fulfilled by which certificates, usage 2 with whole chains."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from relay.smtp.dane import NotNamedError, check, usable
from relay.smtp.next_hop import Tlsa

NAMES = ("mx.example.net", "example.net")


class Authority:
    """Signs certificates; made by itself, or by another one."""

    def __init__(self, name: str, by: "Authority | None" = None, *, may_sign: bool = True, days: int = 30) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=may_sign, path_length=None)
        self.certificate = (by or self).sign(self.name, self.key.public_key(), basic, days=days)

    def sign(self, subject: x509.Name, key: Any, *extensions: x509.ExtensionType, days: int = 30) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
        )  # fmt: skip
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())

    def leaf(self, name: str = "mx.example.net", *, days: int = 30) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        return self.sign(x509.Name([]), key, names, days=days)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def named(certificate: x509.Certificate, *, usage: int = 2, selector: int = 0) -> Tlsa:
    """In full, so that nothing but the certificate or its key counts."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Tlsa(usage, selector, 0, spki if selector else der(certificate))


def refused(records: list[Tlsa], leaf: x509.Certificate, *issuers: Authority) -> str:
    with pytest.raises(NotNamedError) as caught:
        check(records, NAMES, der(leaf), [der(leaf), *(der(issuer.certificate) for issuer in issuers)])
    return str(caught.value)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("name", ["mx.example.net", "example.net", "*.example.net"])
def test_an_authority_in_the_chain(selector: int, name: str) -> None:
    """The root or one between, by certificate or key, for the server's name or the domain's."""
    root = Authority("root")
    between = Authority("between", root)
    leaf = between.leaf(name)
    chain = [der(leaf), der(between.certificate), der(root.certificate)]
    check([named(root.certificate, selector=selector)], NAMES, der(leaf), chain)
    check([named(between.certificate, selector=selector)], NAMES, der(leaf), chain[:2])


def test_what_an_authority_does_not_cover() -> None:
    """Another name, an ended certificate, one signed by somebody else, one that may not sign, none in the chain."""
    root, stranger = Authority("root"), Authority("root")
    powerless, ended = Authority("between", root, may_sign=False), Authority("between", root, days=-1)
    record, does_not_hold = [named(root.certificate)], "does not hold under the authority"
    assert does_not_hold in refused(record, root.leaf("mx.example.com"), root)
    assert does_not_hold in refused(record, root.leaf(days=-1), root)
    assert does_not_hold in refused(record, stranger.leaf(), root)
    assert does_not_hold in refused(record, powerless.leaf(), powerless, root)
    assert does_not_hold in refused(record, ended.leaf(), ended, root)
    assert "no certificate that it shows" in refused(record, stranger.leaf(), stranger)
    leaf = root.leaf()
    assert "no certificate that it shows" in refused([named(leaf)], leaf, root)  # it is no authority of its own


def test_usage_3_asks_for_nothing_else() -> None:
    """Another name and an ended certificate are no matter; another key is."""
    root = Authority("root")
    leaf = root.leaf("other.example", days=-1)
    for selector in (0, 1):
        check([named(leaf, usage=3, selector=selector)], NAMES, der(leaf), None)
        assert "is not the one" in refused([named(root.leaf(), usage=3, selector=selector)], leaf, root)


def test_without_a_chain_usage_2_cannot_be_judged() -> None:
    """It is no verification, and the reason is told; a record of usage 3 beside it may still be fulfilled."""
    root = Authority("root")
    leaf = root.leaf()
    with pytest.raises(NotNamedError, match=r"from Python 3\.13 on"):
        check([named(root.certificate)], NAMES, der(leaf), None)
    check([named(root.certificate), named(leaf, usage=3)], NAMES, der(leaf), None)


def test_garbage_is_no_certificate() -> None:
    """Neither as what a server shows nor as what a zone names."""
    root = Authority("root")
    for record in (Tlsa(2, 1, 0, b"\x30\x00"), Tlsa(3, 1, 0, b"\x00"), Tlsa(3, 0, 1, b"\0" * 32)):
        with pytest.raises(NotNamedError):
            check([record], NAMES, b"\x30\x03abc", [b"\x30\x03abc", b"", der(root.certificate)])


def test_the_strongest_digest_counts() -> None:
    """RFC 7671 9: who can forge the weaker one gains nothing; what is named in full stays."""
    weak, strong, full = Tlsa(3, 1, 1, b"\1" * 32), Tlsa(3, 1, 2, b"\2" * 64), Tlsa(3, 1, 0, b"\3")
    other = Tlsa(3, 0, 1, b"\4" * 32)
    assert usable([weak, strong, full, other, other]) == (strong, full, other)
    assert usable([weak, other]) == (weak, other)
    assert usable([Tlsa(0, 1, 1, b"\1" * 32), Tlsa(3, 2, 1, b"\1" * 32), Tlsa(3, 1, 1, b"\1" * 31),
                   Tlsa(3, 1, 3, b"\1" * 32), Tlsa(3, 1, 0, b"")]) == ()  # fmt: skip
