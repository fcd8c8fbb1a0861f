"""relay.routes: which server a message goes to."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from relay.routes import NextHop, RouteNotConfiguredError, smarthost
from relay.smtp.tls import tls_context


@pytest.fixture
def configured(settings: Any) -> Any:
    settings.GATEPOST_SMARTHOST = "smtp.example.net"
    settings.GATEPOST_SMARTHOST_PORT = 465
    settings.GATEPOST_SMARTHOST_TLS = "implicit"
    settings.GATEPOST_SMARTHOST_CA_FILE = "/ca.pem"
    settings.GATEPOST_SMARTHOST_USERNAME = "relay"
    settings.GATEPOST_SMARTHOST_PASSWORD = "hidden"
    return settings


def test_the_installations_smarthost(configured: Any) -> None:
    """Every setting of it is in the next hop."""
    assert smarthost() == NextHop("smtp.example.net", 465, "implicit", "/ca.pem", "relay", "hidden")


def test_an_organizations_own_has_no_login(configured: Any) -> None:
    """Kind of TLS and authorities are the installation's; its login stays with its own server."""
    assert smarthost(host="own.example", port=26) == NextHop("own.example", 26, "implicit", "/ca.pem")
    assert smarthost(host="own.example").port == 465


def test_no_smarthost_is_named(settings: Any) -> None:
    """The error names the variable."""
    settings.GATEPOST_SMARTHOST = ""
    with pytest.raises(RouteNotConfiguredError, match="GATEPOST_SMARTHOST is not set"):
        smarthost()


def test_the_password_is_not_shown(configured: Any) -> None:
    """Neither repr nor str of a next hop tells it."""
    assert "hidden" not in repr(smarthost()) + str(smarthost())


@pytest.mark.parametrize(("host", "shown"), [("mx.example", "mx.example:25"), ("::1", "[::1]:25")])
def test_its_words(host: str, shown: str) -> None:
    """An IPv6 address stands in brackets."""
    assert str(NextHop(host, 25)) == shown


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("localhost.example", False)],
)
def test_what_counts_as_this_machine(host: str, loopback: bool) -> None:
    """Only there may a password go in clear."""
    assert NextHop(host, 25).is_loopback is loopback


def test_tls_verifies(certificate: Path) -> None:
    """Certificate and name are demanded, TLS 1.2 at least, with a file of one's own as without."""
    for context in (tls_context(""), tls_context(str(certificate))):
        assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
