"""The certificate of the SMTP door."""

import socket
import ssl
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from django.utils import timezone

from relay.certificate import (
    SERVER_DAYS,
    CertificateError,
    CertificateFiles,
    ensure_certificate,
    names_of,
    read_certificate,
    tls_context,
)


def handshake(files: CertificateFiles, *, name: str, newest: ssl.TLSVersion | None = None) -> str | None:
    """One real TLS connection that trusts the authority alone; the version that was agreed on."""
    server_end, client_end = socket.socketpair()
    serving = threading.Thread(target=serve, args=(files, server_end))
    serving.start()
    context = ssl.create_default_context(cafile=files.ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if newest is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest
        context.set_ciphers("DEFAULT@SECLEVEL=0")
    try:
        with context.wrap_socket(client_end, server_hostname=name) as connection:
            return connection.version()
    finally:
        client_end.close()
        serving.join()


def serve(files: CertificateFiles, end: socket.socket) -> None:
    try:
        with tls_context(files.certificate, files.key).wrap_socket(end, server_side=True) as connection:
            connection.recv(1)
    except (ssl.SSLError, OSError):
        pass
    finally:
        end.close()


@pytest.mark.parametrize("name", ["mail.demo.example", "localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_authority_verifies_every_name(tmp_path: Path, name: str) -> None:
    """Hostname, localhost and both loopback addresses pass strict verification."""
    files = ensure_certificate(tmp_path, "mail.demo.example")
    assert handshake(files, name=name) == "TLSv1.3"


def test_another_name_is_refused(tmp_path: Path) -> None:
    """A client that wants another host does not connect."""
    files = ensure_certificate(tmp_path, "mail.demo.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, name="other.example")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_1_is_refused_and_1_2_taken(tmp_path: Path) -> None:
    """TLS 1.2 is the oldest version spoken."""
    files = ensure_certificate(tmp_path, "mail.demo.example")
    assert handshake(files, name="localhost", newest=ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    with pytest.raises((ssl.SSLError, OSError)):
        handshake(files, name="localhost", newest=ssl.TLSVersion.TLSv1_1)


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Every file is 0600."""
    ensure_certificate(tmp_path, "mail.demo.example")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tls").iterdir()}
    assert modes == {"ca.key": 0o600, "ca.pem": 0o600, "server.pem": 0o600, "lock": 0o600}


def test_a_good_certificate_is_kept(tmp_path: Path) -> None:
    """A second start serves the same certificate."""
    first = ensure_certificate(tmp_path, "mail.demo.example").certificate.read_bytes()
    assert ensure_certificate(tmp_path, "mail.demo.example").certificate.read_bytes() == first


def test_it_is_renewed_under_the_same_authority_before_it_ends(tmp_path: Path) -> None:
    """29 days before the end there is a new certificate; clients need to trust nothing new."""
    files = ensure_certificate(tmp_path, "mail.demo.example")
    assert files.ca is not None
    old, authority = read_certificate(files.certificate), files.ca.read_bytes()
    later = timezone.now() + timedelta(days=SERVER_DAYS - 29)
    new = read_certificate(ensure_certificate(tmp_path, "mail.demo.example", now=later).certificate)
    assert new.not_valid_after_utc > old.not_valid_after_utc
    assert files.ca.read_bytes() == authority


def test_another_hostname_makes_another_certificate(tmp_path: Path) -> None:
    """The names follow the setting; an address as hostname is an address in the certificate."""
    ensure_certificate(tmp_path, "mail.demo.example")
    certificate = read_certificate(ensure_certificate(tmp_path, "192.0.2.7").certificate)
    assert names_of(certificate) == {"192.0.2.7", "localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize("lost", ["ca.key", "ca.pem", "server.pem"])
def test_a_lost_or_torn_file_is_made_again(tmp_path: Path, lost: str) -> None:
    """What a crash left behind, the next start mends."""
    files = ensure_certificate(tmp_path, "mail.demo.example")
    (tmp_path / "tls" / lost).write_bytes(b"-----BEGIN torn")
    if lost == "ca.key":
        files.certificate.unlink()
    files = ensure_certificate(tmp_path, "mail.demo.example")
    assert handshake(files, name="localhost") == "TLSv1.3"


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    """Eight first starts at once end with one authority and one certificate."""
    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda _: ensure_certificate(tmp_path, "a.example").certificate.read_bytes(), range(8)))
    assert len(seen) == 1


def test_configured_files_are_served_as_they_are(tmp_path: Path, settings) -> None:
    """GATEPOST_TLS_CERTIFICATE wins; nothing is made beside it."""
    made = ensure_certificate(tmp_path / "made", "mail.demo.example")
    settings.GATEPOST_TLS_CERTIFICATE, settings.GATEPOST_TLS_KEY = str(made.certificate), ""
    assert ensure_certificate(tmp_path / "state", "x") == CertificateFiles(made.certificate, made.certificate, None)
    assert not (tmp_path / "state").exists()


def test_a_configured_file_that_is_missing_is_named(tmp_path: Path, settings) -> None:
    """The error says which variable and which path."""
    settings.GATEPOST_TLS_CERTIFICATE = str(tmp_path / "none.pem")
    with pytest.raises(CertificateError, match=r"GATEPOST_TLS_CERTIFICATE: .*none\.pem"):
        ensure_certificate(tmp_path, "x")


def test_the_key_is_elliptic_p256(tmp_path: Path) -> None:
    """ECDSA P-256, signed with SHA-256."""
    certificate = read_certificate(ensure_certificate(tmp_path, "a.example").certificate)
    assert certificate.signature_hash_algorithm is not None
    assert certificate.signature_hash_algorithm.name == "sha256"
    assert certificate.public_key().curve.name == "secp256r1"  # type: ignore[union-attr]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
