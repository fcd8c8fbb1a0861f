"""The certificate of the SMTP door: the installation's own, or one made at the first start.

Shapes  <state>/tls/ca.key, ca.pem: a small authority of this installation alone. <state>/tls/server.pem: key and chain
        of the door in one file, replaced in one rename, so that no process ever loads a key of another certificate.
Units   Lifetimes in days. A made certificate is renewed RENEW_DAYS before it ends, or when the names changed.
Errors  CertificateError where the configured files cannot be read; relay.doctor tells what is wrong with them.
Source  RFC 5280 (extensions), RFC 8314 4.1 (TLS 1.2 at least).
"""

import fcntl
import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.conf import settings
from django.utils import timezone

CA_DAYS = 3650
SERVER_DAYS = 365
RENEW_DAYS = 30
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class CertificateError(Exception):
    """A configured certificate or key cannot be read."""


class CertificateFiles(NamedTuple):
    certificate: Path
    key: Path
    ca: Path | None  # what a client must trust; None: a public authority signed it


def ensure_certificate(state_dir: Path, hostname: str, *, now: datetime | None = None) -> CertificateFiles:
    """The configured files, or our own, made or renewed as needed. Safe to call from many processes at once."""
    if settings.GATEPOST_TLS_CERTIFICATE:
        return _configured()
    now = now or timezone.now()
    home = state_dir / "tls"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    server, ca = home / "server.pem", home / "ca.pem"
    with _lock(home / "lock"):
        if not _still_good(server, ca, hostname=hostname, now=now):
            ca_key, ca_certificate = _authority(home, now=now)
            _write(server, _server_pem(hostname, ca_key=ca_key, ca_certificate=ca_certificate, now=now))
    return CertificateFiles(certificate=server, key=server, ca=ca)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 at least, no compression, no renegotiation."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.load_cert_chain(certificate, key)
    return context


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file: the door's own."""
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


def names_of(certificate: x509.Certificate) -> set[str]:
    """DNS names and addresses that a client may check the certificate against."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def _configured() -> CertificateFiles:
    certificate = Path(settings.GATEPOST_TLS_CERTIFICATE)
    key = Path(settings.GATEPOST_TLS_KEY or certificate)  # one PEM file may hold both
    for name, path in (("GATEPOST_TLS_CERTIFICATE", certificate), ("GATEPOST_TLS_KEY", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateError(f"{name}: {path}: {error.strerror}") from error
    return CertificateFiles(certificate=certificate, key=key, ca=None)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        path.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file closes, by a crash too
        yield


def _still_good(server: Path, ca: Path, *, hostname: str, now: datetime) -> bool:
    try:
        certificate, authority = read_certificate(server), read_certificate(ca)
        certificate.verify_directly_issued_by(authority)
    except (OSError, ValueError, TypeError, IndexError, InvalidSignature):
        return False
    return _lasts(certificate, now=now) and names_of(certificate) == {hostname, *LOCAL_NAMES}


def _lasts(certificate: x509.Certificate, *, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - timedelta(days=RENEW_DAYS)


def _authority(home: Path, *, now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """The authority on disk, or a new one if it is missing, ends soon, or its two files do not belong together."""
    try:
        key = serialization.load_pem_private_key((home / "ca.key").read_bytes(), password=None)
        certificate = read_certificate(home / "ca.pem")
        lasts = _lasts(certificate, now=now + timedelta(days=SERVER_DAYS))
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == certificate.public_key() and lasts:
            return key, certificate
    except (OSError, ValueError, IndexError):
        pass
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _authority_certificate(key, now=now)
    _write(home / "ca.key", _private_pem(key))
    _write(home / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return key, certificate


def _authority_certificate(key: ec.EllipticCurvePrivateKey, *, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gatepost authority of this installation")])
    builder = _builder(name, issuer=name, public_key=key.public_key(), days=CA_DAYS, now=now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def _server_pem(
    hostname: str, *, ca_key: ec.EllipticCurvePrivateKey, ca_certificate: x509.Certificate, now: datetime
) -> bytes:
    """Key, certificate and authority, in the order in which TLS libraries read them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    builder = _builder(name, issuer=ca_certificate.subject, public_key=key.public_key(), days=SERVER_DAYS, now=now)
    alternatives = x509.SubjectAlternativeName(_general_names([hostname, *LOCAL_NAMES]))
    builder = builder.add_extension(alternatives, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = builder.add_extension(issuer, critical=False).sign(ca_key, hashes.SHA256())
    chain = [certificate, ca_certificate]
    return _private_pem(key) + b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)


def _builder(
    subject: x509.Name, *, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # a client's clock may be a little behind
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    return [
        x509.IPAddress(address) if (address := _address(name)) else x509.DNSName(name) for name in dict.fromkeys(names)
    ]


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, readable by its owner alone from the first moment."""
    draft = path.with_suffix(path.suffix + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
